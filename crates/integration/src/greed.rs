//! A user who takes memory by every means there is, beside many who do not: what the server lets happen.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::{join_all, try_join_all};
use netra_client::{Client, Error as ClientError, Method, Socket, Upload};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::id::{FileId, UserId};
use netra_protocol::isolation::MemoryHoldings;
use netra_protocol::run::{RunStatus, StartRun};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::agents::script;
use crate::database::config_beside;
use crate::fake_model::{FakeModel, Reply};
use crate::process::{Options, TestProcess};
use crate::resident::Resident;
use crate::user::start;

/// The token that may read the metrics.
const METRICS_TOKEN: &str = "token-of-the-one-who-watches";
/// Requests, uploads and runs at once.
const AT_ONCE: usize = 5;
/// What an attack may take in all before it is given up; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(120);

/// How hard is tried.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which of [`MEANS`].
    pub means: Vec<&'static str>,
    /// How often each means is tried, in a row.
    pub rounds: usize,
    /// The user's limit; means that come nowhere near it have a part of it ([`SMALLER`]).
    pub limit_mib: u64,
    /// Users who want nothing but their runs of `echo`.
    pub others: usize,
}

/// What became of one means.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// By what.
    pub means: &'static str,
    /// The user's limit meanwhile.
    pub limit_mib: u64,
    /// The most that the user held at once, as a part of the limit.
    pub peak: f64,
    /// By how much the server's own memory grew at the most, as the system says.
    pub grown_mib: u64,
    /// How often it was stopped: runs ended, requests refused.
    pub stopped: u64,
    /// How long all rounds took.
    pub seconds: f64,
}

/// What became of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// In the order of the plan.
    pub tried: Vec<Tried>,
    /// Runs of the others meanwhile, all of which succeeded.
    pub others_runs: u64,
}

impl Tried {
    /// # Errors
    /// When more was held than may be, or the means has tried nothing, or was not stopped.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.peak < MOST, "more than {MOST} of the limit: {self:?}");
        ensure!(self.peak > LEAST, "it tried nothing: {self:?}");
        let most = self.limit_mib as f64 * MOST + BESIDE_MIB;
        ensure!(
            (self.grown_mib as f64) < most,
            "the system says more: {self:?}"
        );
        let stops = !STOPPED.contains(&self.means) || self.stopped > 0;
        ensure!(stops, "it was never stopped: {self:?}");
        Ok(())
    }
}

/// Every means.
pub const MEANS: [&str; 8] = [
    "script",
    "query",
    "upload",
    "body",
    "tool result",
    "model output",
    "event flood",
    "sockets",
];

/// Means by which a user comes nowhere near a large limit, because of what else bounds them; with the part of the limit
/// that the user has meanwhile.
const SMALLER: [(&str, u64); 4] = [
    ("query", 4),
    ("upload", 16),
    ("event flood", 8),
    ("sockets", 32),
];

/// Means that nothing but memory stops; the others are held by bounds of their own before, and a query by its time where
/// the server was built without optimisation.
const STOPPED: [&str; 4] = ["script", "upload", "tool result", "model output"];
/// What a means has to hold at the least, as a part of the limit: else it tried nothing.
const LEAST: f64 = 0.25;
/// What nobody may hold, as a part of the limit.
const MOST: f64 = 1.1;
/// By how much the server may grow besides, as the system says: its own caches, the others, and pages that the
/// allocator has not given back.
const BESIDE_MIB: f64 = 128.0;

/// The agents of the greedy user, as name, manifest and code.
const AGENTS: [(&str, &str, &str); 4] = [
    (
        "hoarder",
        "",
        "all = []\nwhile True:\n    all.append('x' * 1000000)\n",
    ),
    (
        "querier",
        "tools = [\"log_profile\", \"log_inspect\"]",
        "try:\n    log_inspect(file=files[0]['name'])\nexcept RuntimeError:\n    pass\n\
         log_profile(file=files[0]['name'])\n",
    ),
    // What a tool gives and what a script gives come the same way.
    ("giver", "", "[0] * 2000000\n"),
    (
        "shouter",
        "",
        "for n in range(400):\n    think('shout ' * 2500)\n{}\n",
    ),
];

struct Scene<'a> {
    admin: &'a Client,
    greedy: Client,
    id: UserId,
    /// As long as it is open, so is the account, and what was held at most is remembered.
    _anchor: Socket,
    /// Runs that ended for want of memory: by the watch, or at the limit of their own worker.
    ended: AtomicU64,
    file: Option<FileId>,
}

/// Tries every means `rounds` times, while the others' runs go on.
///
/// # Errors
/// When one of the others' runs does not succeed, or the server is not to be reached.
pub async fn try_all(data: &Path, agents: &Path, plan: Plan) -> Result<Outcome> {
    for (name, manifest, code) in AGENTS {
        script(agents, name, manifest, code)?;
    }
    let model = FakeModel::start(talk).await?;
    let server = TestProcess::start_with(data, options(agents, model.url(), &plan)).await?;
    let admin = server.user_as("watcher", Role::Admin).await?.client;
    let others = Others::start(&server, data, plan.others).await?;
    let resident = Resident::watch(server.pid().context("it runs")?)?;
    let mut tried = Vec::new();
    for means in &plan.means {
        let scene = Scene::open(&server, &admin, means, &plan).await?;
        let one = scene.try_out(means, &plan, &resident).await;
        tried.push(one.with_context(|| (*means).to_owned())?);
    }
    let others_runs = others.end().await?;
    drop((resident, server));
    Ok(Outcome { tried, others_runs })
}

fn options(agents: &Path, model: &str, plan: &Plan) -> Options {
    let settings = [
        ("LIMITS__MEMORY_MIB", plan.limit_mib.to_string()),
        ("LIMITS__REQUESTS_PER_MINUTE", "1000000".into()),
        ("METRICS__TOKEN", METRICS_TOKEN.into()),
        ("MODELS__DEFAULT", "fake/large".into()),
        ("MODELS__PROVIDERS__FAKE__BASE_URL", model.into()),
        ("LOG__LEVEL", "warn".into()),
    ];
    let environment = settings.map(|(name, value)| (format!("NETRA__{name}"), value));
    Options {
        environment: environment.into(),
        arguments: vec!["--agents".into(), agents.display().to_string()],
        ..Options::default()
    }
}

/// A call of a tool that becomes much when it is read, and then as much as a model may say in one answer.
fn talk(request: &Value) -> Reply {
    let messages = request["messages"].as_array();
    let told = |message: &Value| message["role"] == "tool";
    if messages.into_iter().flatten().any(told) {
        return Reply::Text(vec!["blah ".repeat(200_000); 15]);
    }
    let numbers: Vec<u8> = vec![0; 1_000_000];
    Reply::ToolCall("time_now".into(), json!({ "numbers": numbers }))
}

impl<'a> Scene<'a> {
    /// A user of its own for each means, who holds nothing yet.
    async fn open(
        server: &TestProcess,
        admin: &'a Client,
        means: &str,
        plan: &Plan,
    ) -> Result<Self> {
        let user = server
            .user(&format!("greedy-{}", means.replace(' ', "-")))
            .await?;
        let part = SMALLER.iter().find(|(name, _)| *name == means);
        let limit_mib = plan.limit_mib / part.map_or(1, |(_, part)| *part);
        let request = admin.request(Method::PATCH, &format!("/api/admin/users/{}", user.id));
        let limits = json!({ "limits": { "memory_mib": limit_mib } });
        admin.send(request.json(&limits)).await?;
        Ok(Self {
            admin,
            _anchor: Socket::connect(&user.client).await?,
            greedy: user.client,
            id: user.id,
            ended: AtomicU64::new(0),
            file: None,
        })
    }

    async fn try_out(
        mut self,
        means: &'static str,
        plan: &Plan,
        resident: &Resident,
    ) -> Result<Tried> {
        let (before, began) = (self.stopped().await?, Instant::now());
        let at_first = resident.begin()?;
        for round in 0..plan.rounds {
            let attack = tokio::time::timeout(PATIENCE, self.attack(means));
            let attacked = attack.await.with_context(|| format!("round {round}"))?;
            attacked.with_context(|| format!("round {round}"))?;
        }
        let grown = resident.most().saturating_sub(at_first);
        let memory = self.held().await?;
        let peak = memory.peak_bytes.context("the server counts")?;
        let watched = self.metric("netra_memory_user_peak_ratio").await?;
        ensure!(watched > 0.0, "nobody watches over memory");
        Ok(Tried {
            means,
            limit_mib: memory.limit_bytes >> 20,
            peak: peak as f64 / memory.limit_bytes as f64,
            grown_mib: grown >> 20,
            stopped: self.stopped().await? - before,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// What the user holds, and has held at the most.
    async fn held(&self) -> Result<MemoryHoldings> {
        let seen = self.admin.isolation().await?;
        let own = seen.users.iter().find(|holds| holds.user_id == self.id);
        own.and_then(|own| own.memory)
            .context("the account is open")
    }

    async fn attack(&mut self, means: &str) -> Result<()> {
        match means {
            "script" => self.runs("hoarder", Vec::new()).await,
            "query" => {
                let file = self.log_file().await?;
                self.runs("querier", vec![file]).await
            }
            "upload" => self.upload().await,
            "body" => self.bodies().await,
            "tool result" => self.runs("giver", Vec::new()).await,
            "model output" => self.runs("assistant", Vec::new()).await,
            "event flood" => self.flood().await,
            "sockets" => self.sockets().await,
            other => bail!("there is no means {other}"),
        }
    }

    /// Runs at once, to their ends, whatever these are.
    async fn runs(&self, agent: &str, files: Vec<FileId>) -> Result<()> {
        let one = async || {
            let wish = StartRun {
                files: files.clone(),
                timeout_ms: Some(20_000),
                ..start(agent, "x")
            };
            match self.greedy.run_start(None, &wish, None).await {
                Ok(run) => match self.greedy.run_end(run.id).await {
                    Ok(run) => {
                        let code = run.error.map(|failure| failure.code);
                        if code == Some(ErrorCode::MemoryLimitExceeded) {
                            self.ended.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    }
                    Err(error) => bail!("the run's end cannot be read: {error:?}"),
                },
                // Refused for want of memory, which is an end too.
                Err(error) if error.status() == Some(429) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        try_join_all((0..AT_ONCE).map(|_| one())).await?;
        Ok(())
    }

    /// A log in which no two lines are alike.
    async fn log_file(&mut self) -> Result<FileId> {
        if let Some(file) = self.file {
            return Ok(file);
        }
        let mut text =
            String::from("timestamp,model,prompt_tokens,completion_tokens,user,feature\n");
        for n in 0..100_000_u32 {
            let line = format!(
                "2026-11-01T{:02}:{:02}:{:02}Z,model-{n},{n},{n},user-{n},feature-{n}\n",
                n / 3600 % 24,
                n / 60 % 60,
                n % 60
            );
            text.push_str(&line);
        }
        let file = self
            .greedy
            .file_upload("log.csv", Upload::Bytes(text.into()))
            .await?;
        self.file = Some(file.id);
        Ok(file.id)
    }

    async fn upload(&self) -> Result<()> {
        let content = bytes::Bytes::from(vec![b'x'; 24 << 20]);
        let uploads = (0..4 * AT_ONCE).map(|_| {
            self.greedy
                .file_upload("large.bin", Upload::Bytes(content.clone()))
        });
        for uploaded in join_all(uploads).await {
            match uploaded {
                Ok(file) => self.greedy.file_delete(file.id).await?,
                Err(error) if error.status() == Some(429) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn bodies(&self) -> Result<()> {
        let body = format!(
            "{{\"agent\":\"echo\",\"input\":{{\"n\":[{}0]}}}}",
            "0,".repeat(500_000)
        );
        let posts = (0..4 * AT_ONCE).map(|_| {
            let request = self.greedy.request(Method::POST, "/api/runs");
            let request = request.header("content-type", "application/json");
            self.greedy.send(request.body(body.clone()))
        });
        for answered in join_all(posts).await {
            match answered {
                Ok(answer) => bail!("a body of zeros was taken: {}", answer.status()),
                // Refused for what it is, or for want of memory.
                Err(error) if matches!(error.status(), Some(400 | 429)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sockets that read nothing, while runs shout.
    async fn flood(&self) -> Result<()> {
        let sockets = try_join_all((0..15).map(|_| self.deaf(After::Now))).await?;
        self.runs("shouter", Vec::new()).await?;
        drop(sockets);
        Ok(())
    }

    /// As many sockets as there may be, each of which wants everything from the beginning and reads nothing.
    async fn sockets(&self) -> Result<()> {
        for _ in 0..3 {
            let sockets = try_join_all((0..15).map(|_| self.deaf(After::Seq(0)))).await?;
            self.runs("echo", Vec::new()).await?;
            drop(sockets);
        }
        Ok(())
    }

    async fn deaf(&self, after: After) -> Result<Socket> {
        let wish = Subscribe {
            after,
            epoch: None,
            threads: None,
            deltas: true,
        };
        let mut socket = loop {
            match Box::pin(Socket::connect(&self.greedy)).await {
                // The server has not noticed yet that the ones before are gone; the round's time bounds this.
                Err(ClientError::Closed { code: 4009, .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                connected => break connected?,
            }
        };
        match socket.subscribe(wish).await {
            Ok(_) => Ok(socket),
            Err(error) if error.status().is_none() => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs that were ended for memory, and requests that were refused for it.
    async fn stopped(&self) -> Result<u64> {
        let refused = self.metric("netra_memory_refused_total").await?;
        Ok(self.ended.load(Ordering::Relaxed) + refused as u64)
    }

    /// The sum of a metric's samples; 0 where there are none yet.
    async fn metric(&self, name: &str) -> Result<f64> {
        let watcher = self.greedy.with_token(METRICS_TOKEN);
        let request = watcher.request(Method::GET, "/api/metrics");
        let answer = watcher
            .send(request.header("accept", "application/json"))
            .await?;
        let metrics: Value = answer.json().await?;
        let samples = metrics[name]["samples"].as_array();
        let values = samples.into_iter().flatten();
        Ok(values.filter_map(|sample| sample["value"].as_f64()).sum())
    }
}

/// Users who run `echo` until they are told to stop.
struct Others {
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<Option<Result<u64>>>,
}

impl Others {
    async fn start(server: &TestProcess, data: &Path, count: usize) -> Result<Self> {
        let config = config_beside(data)?;
        let accounts = netra::accounts::Accounts::open(&config).map_err(|problem| problem.error)?;
        let mut clients = Vec::new();
        for number in 0..count {
            let user = accounts.find_or_create(&format!("modest-{number}")).await;
            let user = user.map_err(|problem| problem.error)?;
            let token = accounts.token(&user, Duration::from_secs(3600));
            let token = token.map_err(|problem| problem.error)?;
            clients.push(Client::new(server.url(), Some(token))?);
        }
        let (stop, stopped) = watch::channel(false);
        let runtime = netra_context::Runtime::new();
        let work = async move {
            let each = clients.iter().map(|client| modest(client, stopped.clone()));
            Ok(try_join_all(each).await?.into_iter().sum())
        };
        let done = runtime.spawn(netra_context::runtime::TaskKind::Part, work);
        Ok(Self { stop, done })
    }

    async fn end(self) -> Result<u64> {
        self.stop.send_replace(true);
        self.done.await?.context("the others' runs panicked")?
    }
}

/// One run after the other, with a pause between, so that they are there and do not fill the machine.
async fn modest(client: &Client, mut stopped: watch::Receiver<bool>) -> Result<u64> {
    let mut runs = 0;
    while !*stopped.borrow() {
        let began = Instant::now();
        let run = client.run_start(None, &start("echo", "modest"), None).await;
        let run = run.context("another user's run was refused")?;
        let run = client.run_end(run.id).await?;
        ensure!(
            run.status == RunStatus::Completed,
            "another user's run failed: {:?}",
            run.error
        );
        runs += 1;
        let pause = Duration::from_millis(500).saturating_sub(began.elapsed());
        tokio::time::timeout(pause, stopped.changed()).await.ok();
    }
    Ok(runs)
}
