//! One user does everything that costs the server something; how long others then wait for the first
//! event of a run is compared with how long that takes when it is quiet, in turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use netra_client::{Client, Socket, Upload};
use netra_protocol::frame::RunStart;
use netra_protocol::run::StartRun;

use crate::agents::script;
use crate::process::TestProcess;
use crate::server::Options;
use crate::{ProcessOptions, TestUser, soon, start};

/// Sockets of users who want one run after the other, and the runs of each in a round: together as
/// many as each may ask for in ten seconds.
const SOCKETS: usize = 16;
const RUNS: usize = 6;
/// What a user can be noisy with.
pub const WAYS: [&str; 6] = ["scripts", "memory", "events", "queue", "sockets", "uploads"];

/// From asking for a run to its first event, over one socket.
async fn first_event(socket: &mut Socket) -> Result<Duration> {
    let began = Instant::now();
    let frame = RunStart {
        thread_id: None,
        idempotency_key: None,
        start: start("echo", "hello"),
    };
    let run = socket.run_start(frame).await?.run_id;
    let mut first = None;
    loop {
        let received = soon("an event", socket.next_event()).await?;
        if received.event.event.run_id == run {
            first.get_or_insert_with(|| began.elapsed());
            if received.event.event.kind.is_terminal() {
                return Ok(first.unwrap_or_default());
            }
        }
    }
}

async fn round(sockets: &mut [Socket], into: &mut Vec<Duration>) -> Result<()> {
    for _ in 0..RUNS {
        for socket in sockets.iter_mut() {
            into.push(first_event(socket).await?);
        }
    }
    Ok(())
}

/// Noise from a thread of its own, which stands back behind the server and whoever measures: the
/// noisy user's own processor is not the server's.
struct Noise {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Noise {
    fn start(user: &TestUser, ways: Vec<&'static str>) -> Self {
        let (user, over) = (user.clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            rustix::process::nice(19)?;
            netra_memory::take_turns_of(None)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A client's connections belong to the runtime that made them.
            let client = Client::new(user.client.base(), user.client.token())?;
            let user = TestUser { client, ..user };
            let noises = ways.iter().map(|way| noise(&user, way, &until));
            runtime.block_on(futures::future::try_join_all(noises))?;
            Ok(())
        });
        Self { over, thread }
    }

    fn stop(self) -> Result<()> {
        self.over.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the noise panicked"))?
    }
}

/// One way to be noisy, again and again until it is quiet again.
async fn noise(user: &TestUser, way: &str, over: &AtomicBool) -> Result<()> {
    let on = || !over.load(Ordering::SeqCst);
    let brief = |agent: &str, ms| StartRun {
        timeout_ms: Some(ms),
        ..start(agent, "noise")
    };
    let large = "x".repeat(90_000);
    while on() {
        match way {
            "scripts" | "memory" => {
                let agent = if way == "scripts" {
                    "forever"
                } else {
                    "hungry"
                };
                let five = (0..5).map(|_| async {
                    let run = user
                        .client
                        .run_start(None, &brief(agent, 1_000), None)
                        .await?;
                    user.client.run_end(run.id).await
                });
                futures::future::join_all(five).await;
            }
            "events" => {
                let five = (0..5).map(|_| user.run("echo", large.as_str()));
                futures::future::join_all(five).await;
            }
            "queue" => {
                let many = (0..110).map(|_| user.start("echo", "queued"));
                futures::future::join_all(many).await;
            }
            "sockets" => {
                let mut sockets = Vec::new();
                for _ in 0..20 {
                    sockets.push(user.socket().await);
                }
            }
            _ => {
                let content = Upload::Bytes(vec![b'x'; 32 << 20].into());
                if let Ok(file) = user.client.file_upload("large", content).await {
                    user.client.file_delete(file.id).await.ok();
                }
            }
        }
    }
    Ok(())
}

fn percentile(sorted: &[Duration], part: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = ((sorted.len() - 1) as f64 * part).round() as usize;
    sorted[place].as_secs_f64() * 1e3
}

/// What was waited for the first event.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// In milliseconds.
    pub median: f64,
    /// In milliseconds.
    pub p99: f64,
}

impl Waits {
    fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort();
        Self {
            median: percentile(&waits, 0.5),
            p99: percentile(&waits, 0.99),
        }
    }
}

/// A server, and the agents of whoever is noisy.
pub struct Scene {
    /// The server beside whoever measures.
    pub server: TestProcess,
    _agents: tempfile::TempDir,
}

impl Scene {
    /// Starts the server over this folder.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(data: &Path, options: Options) -> Result<Self> {
        let agents = tempfile::tempdir()?;
        let agent = |name, code| script(agents.path(), name, "", code);
        agent("forever", "while True:\n    pass\n")?;
        agent(
            "hungry",
            "all = []\nwhile True:\n    all.append('x' * 1000000)\n",
        )?;
        let options = options.set("agents.dir", agents.path().display());
        let options = ProcessOptions {
            environment: options.environment(),
            ..ProcessOptions::default()
        };
        Ok(Self {
            server: TestProcess::start_with(data, options).await?,
            _agents: agents,
        })
    }

    /// The waits when it is quiet and beside this noise, in turns, so that what else the machine does falls on both.
    ///
    /// # Errors
    /// When a run does not come to its end, or the noise fails.
    pub async fn compare(&self, ways: &[&'static str], rounds: usize) -> Result<(Waits, Waits)> {
        let name = ways.join("-");
        let noisy = self.server.user(&format!("noisy-{name}")).await?;
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let user = self.server.user(&format!("{name}-{number}")).await?;
            sockets.push(user.socket().await?);
        }
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            round(&mut sockets, &mut quiet).await?;
            let noise = Noise::start(&noisy, ways.to_vec());
            round(&mut sockets, &mut beside).await?;
            noise.stop()?;
        }
        Ok((Waits::of(quiet), Waits::of(beside)))
    }
}
