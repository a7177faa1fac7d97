//! One user does everything that costs the server something; how long others then wait for the first
//! event of a run is compared with how long that takes when it is quiet, in turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use netra_client::{Client, Error as ClientError, Method, Socket, Upload};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::frame::RunStart;
use netra_protocol::limits::{LimitOverrides, Limits};
use netra_protocol::run::{Run, RunStatus, StartRun};

use crate::agents::script;
use crate::process::TestProcess;
use crate::server::Options;
use crate::{FakeModel, ProcessOptions, Reply, TestUser, soon, start};

/// Sockets of users who want one run after the other.
const SOCKETS: usize = 16;
/// What a user can be noisy with.
pub const WAYS: [&str; 6] = ["scripts", "memory", "events", "queue", "sockets", "uploads"];
/// Runs that a user may have at once.
const SLOTS: usize = 5;
/// A rate that nobody reaches.
const UNLIMITED: u32 = 1_000_000_000;

/// How often the noisy user may ask. It asks on where it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As often as it likes, which no user may.
    Unlimited,
    /// As a server lets users ask unless it is told otherwise.
    AsShipped,
}

impl Rate {
    /// How long a round lasts: long enough that the beginning of the noise is a small part of it. What happens once in a
    /// round of a tenth of a second is one in a hundred, so the 99th percentile told of nothing but that. A rate counts
    /// by the minute, so with six rounds the noise lasts as long.
    const fn round(self) -> Duration {
        match self {
            Self::Unlimited => Duration::from_millis(1_500),
            Self::AsShipped => Duration::from_secs(10),
        }
    }
}
/// How often it is looked whether it is quiet again.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the noise may take to end.
const PATIENCE: Duration = Duration::from_secs(120);

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

async fn round(sockets: &mut [Socket], lasts: Duration, into: &mut Vec<Duration>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < lasts {
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
    thread: std::thread::JoinHandle<Result<Vec<u64>>>,
}

impl Noise {
    /// Comes back when the noise begins.
    fn start(user: &TestUser, ways: Vec<&'static str>, lasts: Duration) -> Self {
        let (user, over) = (user.clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&over);
        let (begins, begun) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            rustix::process::nice(19)?;
            netra_memory::take_turns_of(None)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A client's connections belong to the runtime that made them.
            let client = Client::new(user.client.base(), user.client.token())?;
            let noisy = Noisy {
                user: TestUser { client, ..user },
                // So that several ways do not keep each other from the slots.
                at_once: if ways.len() == 1 { SLOTS } else { 2 },
                holds: (ways.len() == 1).then_some(lasts),
                over: until,
            };
            begins.send(()).ok();
            let noisy = &noisy;
            let noises = ways.iter().map(|way| async move {
                let noise = tokio::time::timeout(PATIENCE, noisy.noise(way)).await;
                noise
                    .context("it does not end")
                    .flatten()
                    .with_context(|| format!("the noise by {way}"))
            });
            runtime.block_on(futures::future::try_join_all(noises))
        });
        // Nothing comes from a thread that could not begin; why, it says at its end.
        begun.recv().ok();
        Self { over, thread }
    }

    /// How often each way did what it is there for.
    fn stop(self) -> Result<Vec<u64>> {
        self.over.store(true, Ordering::SeqCst);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the noise panicked"))?
    }
}

/// What was done; nothing, where it was refused as a server refuses who wants too much at once or too often. Another
/// refusal would be the end of the noise.
fn granted<T>(tried: Result<T, ClientError>) -> Result<Option<T>> {
    match tried {
        Ok(done) => Ok(Some(done)),
        Err(ClientError::Closed { code: 4009, .. }) => Ok(None),
        Err(error) => match error.code() {
            Some(ErrorCode::QueueFull | ErrorCode::Overloaded | ErrorCode::RateLimited) => Ok(None),
            _ => Err(error.into()),
        },
    }
}

/// Who makes the noise.
struct Noisy {
    user: TestUser,
    at_once: usize,
    /// How long whoever fills a queue holds slots for it.
    holds: Option<Duration>,
    over: Arc<AtomicBool>,
}

impl Noisy {
    /// One way to be noisy, again and again until it is quiet again: how often it succeeded.
    async fn noise(&self, way: &str) -> Result<u64> {
        let large = "x".repeat(90_000);
        let mut times = 0;
        if way == "queue" {
            self.hold().await?;
        }
        while !self.over.load(Ordering::SeqCst) {
            times += match way {
                "scripts" => {
                    let computed = |run: &Run| {
                        run.started_at.is_some() && failed(run, ErrorCode::DeadlineExceeded)
                    };
                    self.runs("forever", "noise", 1_000, computed).await?
                }
                "memory" => {
                    let filled = |run: &Run| failed(run, ErrorCode::MemoryLimitExceeded);
                    self.runs("hungry", "noise", 5_000, filled).await?
                }
                "events" => {
                    let told = |run: &Run| run.status == RunStatus::Completed;
                    self.runs("echo", &large, 60_000, told).await?
                }
                "queue" => self.queue().await?,
                "sockets" => self.sockets().await?,
                _ => self.upload().await?,
            };
        }
        Ok(times)
    }

    /// Runs at once, to their ends: how many of them ended as they should.
    async fn runs(
        &self,
        agent: &str,
        input: &str,
        timeout_ms: u64,
        as_wanted: impl Fn(&Run) -> bool,
    ) -> Result<u64> {
        let client = &self.user.client;
        let one = async || {
            let wish = StartRun {
                timeout_ms: Some(timeout_ms),
                ..start(agent, input)
            };
            let Some(run) = granted(client.run_start(None, &wish, None).await)? else {
                return Ok(0);
            };
            let ended = granted(client.run_end(run.id).await)?;
            Ok::<_, anyhow::Error>(u64::from(ended.is_some_and(|run| as_wanted(&run))))
        };
        let all = join_all((0..self.at_once).map(|_| one())).await;
        all.into_iter().sum()
    }

    /// Takes all slots but one with runs that wait for a model, until it is quiet again: runs come faster than they can
    /// be carried out, one after the other.
    async fn hold(&self) -> Result<()> {
        let Some(lasts) = self.holds else {
            return Ok(());
        };
        let wish = StartRun {
            timeout_ms: Some(u64::try_from(lasts.as_millis())?),
            ..start("assistant", "hang on")
        };
        for _ in 1..SLOTS {
            granted(self.user.client.run_start(None, &wish, None).await)?;
        }
        Ok(())
    }

    /// More runs than may wait.
    async fn queue(&self) -> Result<u64> {
        let many = join_all((0..110).map(|_| self.user.start("echo", "queued"))).await;
        let mut accepted = 0;
        for tried in many {
            accepted += u64::from(granted(tried)?.is_some());
        }
        Ok(accepted)
    }

    async fn sockets(&self) -> Result<u64> {
        let mut sockets = Vec::new();
        for _ in 0..20 {
            sockets.extend(granted(self.user.socket().await)?);
        }
        Ok(sockets.len() as u64)
    }

    async fn upload(&self) -> Result<u64> {
        let content = Upload::Bytes(vec![b'x'; 32 << 20].into());
        let Some(file) = granted(self.user.client.file_upload("large", content).await)? else {
            return Ok(0);
        };
        granted(self.user.client.file_delete(file.id).await)?;
        Ok(1)
    }
}

fn failed(run: &Run, with: ErrorCode) -> bool {
    run.error.as_ref().is_some_and(|error| error.code == with)
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

/// Others' waits without and with noise.
#[derive(Debug, Clone)]
pub struct Compared {
    /// When it is quiet.
    pub quiet: Waits,
    /// Beside the noise.
    pub beside: Waits,
    /// How often each way did what it is there for, in all rounds together.
    pub done: Vec<u64>,
}

/// A server, and the agents of whoever is noisy.
pub struct Scene {
    /// The server beside whoever measures.
    pub server: TestProcess,
    rate: Rate,
    admin: Client,
    _model: FakeModel,
    _agents: tempfile::TempDir,
}

impl Scene {
    /// Starts the server over this folder. Nobody but the noisy user has a limit of the rate.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(data: &Path, rate: Rate) -> Result<Self> {
        let agents = tempfile::tempdir()?;
        let agent = |name, code| script(agents.path(), name, "", code);
        agent("forever", "while True:\n    pass\n")?;
        agent(
            "hungry",
            "all = []\nwhile True:\n    all.append('x' * 1000000)\n",
        )?;
        let model = FakeModel::start(|_| Reply::Hang("well".into())).await?;
        let options = Options::new()
            .set("limits.requests_per_minute", UNLIMITED)
            .set("limits.requests_per_minute_and_address", UNLIMITED)
            .set("limits.messages_per_10s", UNLIMITED)
            .set("models.providers.fake.base_url", model.url())
            .set("models.default", "fake/small")
            .set("agents.dir", agents.path().display());
        let options = ProcessOptions {
            environment: options.environment(),
            ..ProcessOptions::default()
        };
        let server = TestProcess::start_with(data, options).await?;
        let admin = server.user_as("watcher", Role::Admin).await?.client;
        Ok(Self {
            server,
            rate,
            admin,
            _model: model,
            _agents: agents,
        })
    }

    /// Whoever makes the noise, with the rate of the scene.
    async fn noisy(&self, name: &str) -> Result<TestUser> {
        let user = self.server.user(&format!("noisy-{name}")).await?;
        if self.rate == Rate::AsShipped {
            let shipped = Limits::default();
            let limits = LimitOverrides {
                requests_per_minute: Some(shipped.requests_per_minute),
                messages_per_10s: Some(shipped.messages_per_10s),
                ..LimitOverrides::default()
            };
            let path = format!("/api/admin/users/{}", user.id);
            let request = self.admin.request(Method::PATCH, &path);
            let change = serde_json::json!({ "limits": limits });
            self.admin.send(request.json(&change)).await?;
        }
        Ok(user)
    }

    /// Waits until nothing is left of the noise: what still ran or waited would be noise in the quiet.
    async fn until_quiet(&self, noisy: &TestUser) -> Result<()> {
        let is_quiet = async || {
            let seen = self.admin.isolation().await?;
            let own = seen.users.iter().find(|holds| holds.user_id == noisy.id);
            Ok::<_, anyhow::Error>(own.is_none_or(|own| own.slots.running + own.slots.queued == 0))
        };
        while !is_quiet().await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The waits when it is quiet and beside this noise, in turns, so that what else the machine does falls on both.
    ///
    /// # Errors
    /// When a run does not come to its end, or the noise fails, or one of its ways did nothing in one of the rounds.
    pub async fn compare(&self, ways: &[&'static str], rounds: usize) -> Result<Compared> {
        let name = ways.join("-");
        let noisy = self.noisy(&name).await?;
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let user = self.server.user(&format!("{name}-{number}")).await?;
            sockets.push(user.socket().await?);
        }
        let (mut quiet, mut beside) = (Vec::new(), Vec::new());
        let mut done = vec![0; ways.len()];
        let lasts = self.rate.round();
        for number in 0..rounds {
            round(&mut sockets, lasts, &mut quiet).await?;
            let noise = Noise::start(&noisy, ways.to_vec(), lasts);
            let measured = round(&mut sockets, lasts, &mut beside).await;
            // Also where the round failed: the noise may have ended for the same reason, and no thread is left behind.
            let times = noise.stop()?;
            measured?;
            soon("quiet", self.until_quiet(&noisy)).await?;
            for ((way, times), all) in ways.iter().zip(times).zip(&mut done) {
                let is_refused = self.rate == Rate::AsShipped && number > 0;
                ensure!(times > 0 || is_refused, "round {number}: no noise by {way}");
                *all += times;
            }
        }
        Ok(Compared {
            quiet: Waits::of(quiet),
            beside: Waits::of(beside),
            done,
        })
    }
}
