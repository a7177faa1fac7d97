//! A trial run: whether what is said to hold a program does hold on this machine.

use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::order::Order;
use super::policy::{Layers, Limits, Network, Policy};
use super::running::{Error, Sandbox};

/// Readable by everybody, and nothing that a program is given.
const FILE: &str = "/etc/passwd";

/// What holds programs on this machine, and what came of attempts to get out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// What holds them.
    pub layers: Layers,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

/// Something that no program can do to which it was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// In words that follow "a program cannot".
    pub what: String,
    /// Whether it failed, as it must.
    pub held: bool,
}

impl Sandbox {
    /// Puts a process of this program into a sandbox, lets it try to get out, and tells what came of it. Fails only
    /// where not even that can be started; a machine that holds nothing is no error.
    pub async fn try_out(&self) -> Result<Trial, Error> {
        let mut order = self.order(Policy {
            program: "/proc/self/exe".into(),
            arguments: Vec::new(),
            environment: Default::default(),
            read: Vec::new(),
            write: Vec::new(),
            network: Network::None,
            unix_sockets: false,
            limits: Limits::default(),
        });
        order.trial = true;
        let mut running = self.run(order).await?;
        let mut told = Vec::new();
        if let Some(mut stdout) = running.take_stdout() {
            stdout.read_to_end(&mut told).await?;
        }
        running.ended().await;
        Ok(Trial {
            layers: running.layers(),
            attempts: serde_json::from_slice(&told).map_err(io::Error::from)?,
        })
    }
}

/// In place of a program: tries, and tells.
pub(crate) fn tell(order: &Order) -> io::Result<()> {
    let own = order.temp.join(format!("{}-escaped", order.name));
    let server = Pid::from_raw(order.server.cast_signed());
    let attempts: Vec<Attempt> = [
        (
            "read a file that it was not given",
            std::fs::read(FILE).is_err(),
        ),
        ("see which files there are", std::fs::read_dir("/").is_err()),
        (
            "write outside its folder",
            std::fs::write(&own, "").is_err(),
        ),
        (
            "open an internet socket",
            UdpSocket::bind("127.0.0.1:0").is_err(),
        ),
        ("open a UNIX socket", UnixDatagram::unbound().is_err()),
        (
            "signal the server",
            server.is_none_or(|server| test_kill_process(server).is_err()),
        ),
        (
            "make namespaces",
            unshare(CloneFlags::CLONE_NEWUSER).is_err(),
        ),
    ]
    .into_iter()
    .map(|(what, held)| Attempt {
        what: what.to_owned(),
        held,
    })
    .collect();
    // Where that was not denied after all.
    std::fs::remove_file(own).ok();
    io::stdout().write_all(&serde_json::to_vec(&attempts)?)
}
