//! A program in its sandbox as the server sees it: three pipes, what it uses, and how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use netra_context::runtime::{Runtime, TaskKind};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};

use super::policy::{Layers, Policy, Tier};
use super::report::{Ended, Reason};
use crate::meter::Meter;

/// How much is kept of what a program writes to its standard error: the last of it.
const SAID_BYTES: usize = 16 * 1024;

/// How this server holds programs that nobody here wrote. Clones are the same.
#[derive(Clone)]
pub struct Sandbox {
    settings: Arc<Settings>,
    runtime: Runtime,
}

/// What is the same for all programs of one server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's own program, which holds the others.
    pub program: PathBuf,
    /// Where programs get folders of their own.
    pub temp: PathBuf,
    /// A folder of cgroup v2 that was delegated to the server.
    pub cgroup: Option<PathBuf>,
    /// Less than this starts nothing.
    pub require: Tier,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine does not hold it as well as is required.
    #[error(
        "this machine gives a sandbox of tier \"{}\", and \"{}\" is required: `netra doctor` says what is missing",
        .found.as_str(), .required.as_str()
    )]
    TooWeak {
        /// What it gives.
        found: Tier,
        /// What is required.
        required: Tier,
    },
    /// The program itself cannot be run.
    #[error("{0}")]
    Program(String),
    /// The process that was to hold it could not be started.
    #[error("a sandbox could not be made: {0}")]
    Start(#[from] io::Error),
}

/// A program that runs. Dropping this ends it, with all that it has started.
#[derive(Debug)]
pub struct Running {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    layers: Layers,
    said: Said,
    meter: Meter,
    end: watch::Receiver<Option<Ended>>,
    /// The program lives as long as this.
    alive: Option<oneshot::Sender<()>>,
}

/// The last of what a program has written to its standard error. Clones are the same.
#[derive(Clone, Debug, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Sandbox {
    /// Starts nothing yet.
    pub fn new(settings: Settings, runtime: Runtime) -> Sandbox {
        Sandbox {
            settings: Arc::new(settings),
            runtime,
        }
    }

    /// Starts a program. What it uses counts on the account that this is called on, if its meter is added there.
    ///
    /// So far it has a process group of its own, the environment of its policy and nothing but its pipes; no other
    /// part of the policy is held yet, which is why [`Running::layers`] are none.
    #[expect(
        clippy::unused_async,
        reason = "what holds a program will be waited for"
    )]
    pub async fn start(&self, policy: Policy) -> Result<Running, Error> {
        let mut child = Command::new(&policy.program)
            .args(&policy.arguments)
            .env_clear()
            .envs(&policy.environment)
            .current_dir(&self.settings.temp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Error::Program(format!("{}: {error}", policy.program.display())))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let stderr = child.stderr.take();
        let meter = Meter::default();
        meter.set(child.id());
        let said = Said::default();
        let (alive, dropped) = oneshot::channel();
        let (ending, end) = watch::channel(None);
        let running = Running {
            stdin,
            stdout,
            layers: Layers::default(),
            said: said.clone(),
            meter: meter.clone(),
            end,
            alive: Some(alive),
        };
        self.runtime.spawn(TaskKind::Part, async move {
            let reason = accompany(child, stderr, said, dropped).await;
            meter.set(None);
            let peak_bytes = 0;
            ending.send_replace(Some(Ended { reason, peak_bytes }));
        });
        Ok(running)
    }
}

impl Running {
    /// Its standard input, once.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its standard output, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// What holds it.
    pub fn layers(&self) -> Layers {
        self.layers
    }

    /// Reads the memory of it and of all that it has started, to be counted on its user's account.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// The last of what it has written to its standard error, at most 16 KiB.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.0.lock()).into_owned()
    }

    /// Waits until it has ended and nothing of it is left. May be called again, and dropped without loss.
    pub async fn ended(&mut self) -> Ended {
        let gone = Ended {
            reason: Reason::Stopped,
            peak_bytes: 0,
        };
        match self.end.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or(gone),
            Err(_) => gone,
        }
    }

    /// Ends it now, and waits until nothing of it is left.
    pub async fn stop(mut self) -> Ended {
        self.alive = None;
        self.ended().await
    }
}

impl Said {
    fn hear(&self, text: &[u8]) {
        let mut kept = self.0.lock();
        kept.extend_from_slice(text);
        let over = kept.len().saturating_sub(SAID_BYTES);
        kept.drain(..over);
    }
}

/// Stays with a program to its end, which is also when nobody wants it any more.
async fn accompany(
    mut child: Child,
    stderr: Option<ChildStderr>,
    said: Said,
    mut dropped: oneshot::Receiver<()>,
) -> Reason {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let listen = async {
        let mut chunk = [0; 4096];
        let Some(mut stderr) = stderr else { return };
        while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
            said.hear(&chunk[..count]);
        }
    };
    tokio::pin!(listen);
    let mut listening = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status),
            () = &mut listen, if listening => listening = false,
            _ = &mut dropped => break None,
        }
    };
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).ok();
    }
    match status {
        Some(Ok(status)) => Reason::Exited(code(status)),
        _ => {
            child.wait().await.ok();
            Reason::Stopped
        }
    }
}

/// As a shell tells it: 128 and the signal, where one has ended it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}
