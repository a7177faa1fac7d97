//! A Redis of a test's own: on a port of its own, with a password, and with nothing on the disk.

use std::os::unix::fs::chown;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::soon;

/// Debian's package has it.
const PROGRAM: &str = "redis-server";
/// Whoever runs the tests as root does not run it so.
const NOBODY: u32 = 65_534;
/// Below those that the system gives to outgoing connections, so that it finds its port again.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Ports that are tried.
const TRIES: usize = 20;

/// The password, to be looked for where it must not be.
pub const REDIS_PASSWORD: &str = "not-to-be-shown-anywhere";

/// A Redis, ended when it is dropped.
pub struct TestRedis {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl TestRedis {
    /// On a free port.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        if rustix::process::getuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
        }
        let mut tries = 1..=TRIES;
        loop {
            let port = rand::rng().random_range(PORTS);
            match started(&folder, port).await {
                Ok(child) => {
                    return Ok(Self {
                        child,
                        folder,
                        port,
                    });
                }
                Err(error) if tries.next().is_none() => return Err(error),
                // Somebody else has the port.
                Err(_) => {}
            }
        }
    }

    /// With its password.
    pub fn url(&self) -> String {
        format!("redis://:{REDIS_PASSWORD}@{}", self.place())
    }

    /// Its address.
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it, with all that it knows.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("Redis is killed")
    }

    /// Starts it again where it was, knowing nothing.
    pub async fn start_again(&mut self) -> Result<()> {
        self.child = started(&self.folder, self.port).await?;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).context("Redis has ended")?;
        Ok(kill_process(pid, signal)?)
    }
}

async fn started(folder: &tempfile::TempDir, port: u16) -> Result<Child> {
    let mut redis = Command::new(PROGRAM);
    redis.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    redis.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
    redis.args(["--requirepass", REDIS_PASSWORD, "--dir"]);
    redis.arg(folder.path()).stdin(Stdio::null());
    redis.stdout(Stdio::piped()).stderr(Stdio::null());
    if rustix::process::getuid().is_root() {
        redis.uid(NOBODY).gid(NOBODY);
    }
    let child = redis.kill_on_drop(true).spawn();
    let mut child = child.with_context(|| {
        format!("{PROGRAM} is missing: `apt-get install redis-server`, or let `cargo xtask test postgres` do it")
    })?;
    let out = child
        .stdout
        .take()
        .context("standard output was asked for")?;
    let mut lines = BufReader::new(out).lines();
    let ready = async {
        let mut said = String::new();
        while let Some(line) = lines.next_line().await? {
            if line.contains("Ready to accept connections") {
                return Ok(());
            }
            said.push_str(&line);
            said.push('\n');
        }
        bail!("Redis has not started:\n{said}")
    };
    soon("Redis to start", ready).await?;
    // What it says later fits into the pipe, or is lost with it.
    child.stdout = Some(lines.into_inner().into_inner());
    Ok(child)
}
