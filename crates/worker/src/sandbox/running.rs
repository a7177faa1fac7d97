//! A program in its sandbox as the server sees it: three pipes, what it uses, and how it ended.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netra_context::runtime::{Runtime, TaskKind};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::order::{Order, Without};
use super::policy::{Layers, Policy, Tier};
use super::report::{Ended, Report};
use super::{SANDBOX_ARGUMENT, spare_user};
use crate::meter::Meter;

/// How long it may take until a program runs.
const START_TIME: Duration = Duration::from_secs(20);
/// How long it may take until nothing is left of a program that is to end.
const END_TIME: Duration = Duration::from_secs(20);
/// How much is kept of what a program writes to its standard error: the last of it.
const SAID_BYTES: usize = 16 * 1024;

/// How this server holds programs that nobody here wrote. Clones are the same.
#[derive(Clone)]
pub struct Sandbox {
    settings: Arc<Settings>,
    runtime: Runtime,
    started: Arc<AtomicU64>,
    /// Which of the spare users are its own.
    users: u64,
}

/// A supervisor and what it says.
#[derive(Debug)]
struct Held {
    supervisor: Child,
    reports: Reports,
    /// The program's own.
    folder: PathBuf,
}

type Reports = Lines<BufReader<ChildStderr>>;

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
    /// Layers that are left out: for tests of what the others hold.
    pub without: Without,
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
    alive: Mutex<Option<oneshot::Sender<()>>>,
}

/// The last of what a program has written to its standard error. Clones are the same.
#[derive(Clone, Debug, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Sandbox {
    /// Starts nothing yet.
    pub fn new(settings: Settings, runtime: Runtime) -> Sandbox {
        Sandbox {
            users: u64::from_le_bytes(runtime.secret_bytes()),
            settings: Arc::new(settings),
            runtime,
            started: Arc::default(),
        }
    }

    /// Starts a program, and waits until it is held and runs. What it uses counts on a user's account where its
    /// meter is added to it.
    pub async fn start(&self, policy: Policy) -> Result<Running, Error> {
        self.run(self.order(policy)).await
    }

    /// Whether this machine gives what is required: for a server that has programs to start later, to refuse at once.
    pub async fn check(&self) -> Result<Layers, Error> {
        let layers = self.try_out().await?.layers;
        let found = layers.tier();
        match found.lacks(self.settings.require) {
            Some(required) => Err(Error::TooWeak { found, required }),
            None => Ok(layers),
        }
    }

    pub(crate) async fn run(&self, order: Order) -> Result<Running, Error> {
        let mut held = self.hold(order.folder())?;
        let (Some(mut stdin), Some(stdout)) =
            (held.supervisor.stdin.take(), held.supervisor.stdout.take())
        else {
            return Err(io::Error::other("the process has no pipes").into());
        };
        // One for the supervisor, one for what becomes the program.
        let order = order.encode()?;
        let orders = [&order[..], &order[..]].concat();
        let started = async {
            // Where they are not wanted, it is said why.
            stdin.write_all(&orders).await.ok();
            layers(&mut held.reports).await
        };
        let started = timeout(START_TIME, started).await;
        let late = |_| Err(io::Error::other("nothing was started in time").into());
        let layers = match started.unwrap_or_else(late) {
            Ok(layers) => layers,
            Err(error) => {
                held.until_gone().await;
                return Err(error);
            }
        };
        let meter = Meter::of_descendants();
        meter.set(held.supervisor.id());
        let said = Said::default();
        let (alive, dropped) = oneshot::channel();
        let (ending, end) = watch::channel(None);
        let running = Running {
            stdin: Some(stdin),
            stdout: Some(stdout),
            layers,
            said: said.clone(),
            meter: meter.clone(),
            end,
            alive: Mutex::new(Some(alive)),
        };
        self.runtime.spawn(TaskKind::Part, async move {
            let ended = held.accompany(said, dropped).await;
            meter.set(None);
            ending.send_replace(Some(ended));
        });
        Ok(running)
    }

    /// Starts a supervisor, which waits for its order.
    fn hold(&self, folder: PathBuf) -> io::Result<Held> {
        let mut supervisor = Command::new(&self.settings.program)
            .arg(SANDBOX_ARGUMENT)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = supervisor.stderr.take();
        let stderr = stderr.ok_or_else(|| io::Error::other("the process has no pipes"))?;
        Ok(Held {
            supervisor,
            reports: BufReader::new(stderr).lines(),
            folder,
        })
    }

    pub(crate) fn order(&self, policy: Policy) -> Order {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let settings = &self.settings;
        let server = std::process::id();
        let uid = match settings.without.uid {
            true => None,
            false => spare_user::of(self.users, number),
        };
        Order {
            policy,
            server,
            temp: settings.temp.clone(),
            name: format!("netra-{server}-{number}"),
            uid,
            cgroup: settings.cgroup.clone(),
            require: settings.require,
            trial: false,
            without: settings.without,
        }
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

    /// Waits until it has ended and nothing of it is left. May be called again, also at the same time, and dropped
    /// without loss.
    pub async fn ended(&self) -> Ended {
        match self.end.clone().wait_for(Option::is_some).await {
            Ok(ended) => ended.unwrap_or(Ended::STOPPED),
            Err(_) => Ended::STOPPED,
        }
    }

    /// Ends it now, without waiting for that.
    pub fn end(&self) {
        self.alive.lock().take();
    }

    /// Ends it now, and waits until nothing of it is left.
    pub async fn stop(self) -> Ended {
        self.end();
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

/// Reads whether the program was started.
async fn layers(reports: &mut Reports) -> Result<Layers, Error> {
    while let Some(line) = reports.next_line().await? {
        match serde_json::from_str(&line) {
            Ok(Report::Started(layers)) => return Ok(layers),
            Ok(Report::TooWeak { found, required }) => {
                return Err(Error::TooWeak { found, required });
            }
            Ok(Report::Failed(why)) => return Err(Error::Program(why)),
            Ok(Report::Said(_) | Report::Ended(_)) => {}
            Err(_) => return Err(Error::Program(line)),
        }
    }
    Err(io::Error::other("its process ended without a word").into())
}

impl Held {
    /// Stays with a program to its end, which is also when nobody wants it any more.
    async fn accompany(mut self, said: Said, mut dropped: oneshot::Receiver<()>) -> Ended {
        let mut ended = None;
        loop {
            let line = tokio::select! {
                line = self.reports.next_line() => line,
                _ = &mut dropped => break,
            };
            let Ok(Some(line)) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Report::Said(text)) => said.hear(text.as_bytes()),
                Ok(Report::Ended(how)) => ended = Some(how),
                // Why the program could not take its place after all.
                Ok(Report::Failed(why)) => said.hear(why.as_bytes()),
                Ok(Report::Started(_) | Report::TooWeak { .. }) | Err(_) => {}
            }
        }
        self.until_gone().await;
        ended.unwrap_or(Ended::STOPPED)
    }

    /// Listens no longer, which the supervisor notices: it ends what is left, and itself.
    async fn until_gone(self) {
        let Held {
            mut supervisor,
            reports,
            folder,
        } = self;
        drop(reports);
        if timeout(END_TIME, supervisor.wait()).await.is_err() {
            tracing::error!("a sandbox did not end in time: its supervisor is killed");
            supervisor.kill().await.ok();
        }
        // It is there only where somebody has killed the supervisor.
        if folder.exists() {
            tokio::fs::remove_dir_all(folder).await.ok();
        }
    }
}
