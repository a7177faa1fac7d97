//! Engines under load in one process, for `cargo xtask bench isolation`, which starts each part as a program of its
//! own and shows what it prints. The programs differ in their allocator only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_engine::{Agents, Config, EmbeddedAgent, ExecutionEngineFactory, Infra};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_model::Models;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::account::{Plan, Role};
use netra_protocol::limits::Limits;
use netra_protocol::run::{OnBusy, OnLimit, RunStatus, StartRun};
use netra_store::{AuditKey, NewUser, Store};
use netra_tools::{Policy, Registry, ToolExecutorFactory};
use netra_worker::{AnalysisPool, ScriptPool};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Engines that are made and dropped.
const CREATIONS: usize = 20_000;
/// Engines that do nothing but wait for their models.
const IDLE: usize = 10_000;
/// Runs of one user at once.
const OF_ONE_USER: usize = 5;
/// Users at work at once.
const USERS: usize = 50;
/// Readings of two numbers that took longer are not of one moment.
const AT_ONCE: Duration = Duration::from_micros(20);
/// Characters of what is echoed: enough for some memory to be in use.
const TEXT: usize = 20_000;

const AGENTS: [EmbeddedAgent; 2] = [
    EmbeddedAgent {
        name: "echo",
        files: &[(
            "agent.toml",
            "description = \"Says it again\"\nkind = \"native\"\n",
        )],
    },
    EmbeddedAgent {
        name: "assistant",
        files: &[
            (
                "agent.toml",
                "description = \"Answers\"\nkind = \"model\"\ninstructions = \"i.md\"\n",
            ),
            ("i.md", "Be brief."),
        ],
    },
];

struct House {
    runtime: Runtime,
    store: Store,
    bridge: WebSocketBridgeFactory,
    engine: ExecutionEngineFactory,
    model: Arc<ScriptedModel>,
    limits: Arc<Limits>,
    _dir: tempfile::TempDir,
}

/// Does what the program's first argument says. `measured` is what the allocator says of itself, where it does.
#[expect(clippy::print_stdout, reason = "the result is what it prints")]
pub(crate) fn run(measured: Option<fn() -> u64>) -> Result<(), Failure> {
    netra_memory::use_small_pages();
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next().unwrap_or_default();
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let time = Duration::from_secs(seconds);
    let tokio = tokio::runtime::Runtime::new()?;
    let found = tokio.block_on(async {
        let house = House::new()?;
        match (part.as_str(), measured) {
            ("creation", _) => house.creation().await,
            ("idle", _) => house.idle().await,
            ("runs", _) => house.runs(time).await,
            ("error", Some(measured)) => house.error(time, measured).await,
            _ => Err(format!("there is no part {part:?} in this program").into()),
        }
    })?;
    println!("{found}");
    Ok(())
}

impl House {
    fn new() -> Result<Self, Failure> {
        // In memory where there is such a folder: what is measured is not the disk.
        let shared = std::path::Path::new("/dev/shm");
        let dir = if shared.is_dir() {
            tempfile::tempdir_in(shared)?
        } else {
            tempfile::tempdir()?
        };
        let (runtime, hub) = (Runtime::new(), Hub::new());
        let config = netra_store::Config {
            dir: dir.path().to_owned(),
            audit_key: AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let store = Store::open(&runtime, config, hub.clone())?;
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let policy = Policy::shipped("production")?;
        let registry = Arc::new(Registry::new(netra_tools::builtin::tools(), policy)?);
        let model = ScriptedModel::from_fn("test", |_| Answer::new().hang());
        let model = Arc::new(model);
        let models = Models::new(netra_model::Config::default())?
            .with(model.clone())
            .with_default("test/model".parse()?);
        let agents = Agents::load(&AGENTS, None, &registry, &models);
        let nowhere = || netra_worker::Config {
            program: "/nonexistent".into(),
            workers: 1,
            warm: 0,
        };
        let scripts = ScriptPool::new(nowhere());
        let engine = ExecutionEngineFactory::new(Infra {
            runtime: runtime.clone(),
            store: store.clone(),
            bridge: bridge.clone(),
            tools: ToolExecutorFactory::new(netra_tools::Infra {
                registry,
                store: store.clone(),
                secrets: netra_store::Secrets::ephemeral(&store),
                analyses: AnalysisPool::new(nowhere()),
                scripts: scripts.clone(),
            }),
            models: Arc::new(models),
            agents: Arc::new(agents),
            scripts,
            endpoints: netra_endpoint::Endpoints::new()?,
            config: Config {
                engines: IDLE,
                ..Config::default()
            },
        });
        Ok(Self {
            runtime,
            store,
            bridge,
            engine,
            model,
            limits: Arc::new(Limits::default()),
            _dir: dir,
        })
    }

    async fn user(&self, number: usize) -> Result<UserExecutionContext, Failure> {
        let console = UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console);
        let new = NewUser {
            name: format!("user-{number}"),
            role: Role::User,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = self.store.user_create(&console, new).await?;
        let principal = Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            groups: Arc::default(),
            rights: Rights::of_role(user.role),
            limits: Arc::clone(&self.limits),
            session: None,
        };
        Ok(UserExecutionContext::for_test(&self.runtime, principal))
    }

    async fn creation(&self) -> Result<Value, Failure> {
        let ctx = self.user(0).await?;
        let mut times = self
            .engine
            .try_creation(&ctx, &wish("assistant", 10), CREATIONS)
            .await?;
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_nanos() as f64 / 1000.0;
        Ok(json!({ "p50_us": at(50), "p90_us": at(90), "p99_us": at(99) }))
    }

    async fn idle(&self) -> Result<Value, Failure> {
        let users = try_join_all((0..IDLE / OF_ONE_USER).map(|number| self.user(number))).await?;
        let before = resident_mib()?;
        let starts = users.iter().map(|ctx| async move {
            for _ in 0..OF_ONE_USER {
                let wish = wish("assistant", 10);
                self.engine.start(ctx, None, wish, None).await?;
            }
            Ok::<_, netra_engine::Error>(())
        });
        try_join_all(starts).await?;
        let mut open = self.model.open_streams();
        open.wait_for(|open| *open == IDLE).await?;
        // What starting took for a moment is the allocator's to give back.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = resident_mib()?;
        Ok(json!({
            "engines": self.engine.load().0,
            "resident_mib": after,
            "accounted_mib": netra_memory::node_bytes() as f64 / 1048576.0,
            "of_the_system_mib": netra_memory::system_bytes() as f64 / 1048576.0,
            "resident_mib_before": before,
            "kib_each": (after - before) * 1024.0 / IDLE as f64,
        }))
    }

    /// Runs of `echo` until the time is up, and the processor's time for each.
    async fn runs(&self, time: Duration) -> Result<Value, Failure> {
        let users = try_join_all((0..USERS).map(|number| self.user(number))).await?;
        // Statements and caches are not what is measured.
        self.load(&users, Duration::from_millis(300)).await?;
        let (began, used) = (Instant::now(), processor_seconds()?);
        let runs = self.load(&users, time).await? as f64;
        let (took, used) = (began.elapsed().as_secs_f64(), processor_seconds()? - used);
        Ok(json!({ "runs_per_second": runs / took, "processor_us_per_run": used * 1e6 / runs }))
    }

    async fn load(&self, users: &[UserExecutionContext], time: Duration) -> Result<u64, Failure> {
        let began = Instant::now();
        let each = users.iter().map(|ctx| async move {
            let mut runs = 0;
            while began.elapsed() < time {
                let started = self
                    .engine
                    .start(ctx, None, wish("echo", TEXT), None)
                    .await?;
                let run = self
                    .bridge
                    .wait_run(ctx, started.run.id, Duration::from_secs(30))
                    .await?;
                if run.status != RunStatus::Completed {
                    return Err(format!("a run ended as {:?}", run.status).into());
                }
                runs += 1;
            }
            Ok::<_, Failure>(runs)
        });
        Ok(try_join_all(each).await?.into_iter().sum())
    }

    /// Accounts against the allocator, again and again under load.
    async fn error(&self, time: Duration, measured: fn() -> u64) -> Result<Value, Failure> {
        let users = try_join_all((0..USERS).map(|number| self.user(number))).await?;
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let watching = std::thread::spawn(move || {
            let mut errors = Vec::new();
            let (mut most, mut torn) = (0, 0_u64);
            while !told.load(Ordering::Relaxed) {
                // Under load both numbers move; they are compared where they were read at one moment.
                let (began, before) = (Instant::now(), measured());
                // What is set aside is counted on purpose, before it is allocated and while it is.
                let accounted = netra_memory::node_bytes() as i64;
                let accounted = accounted - netra_memory::reserved_bytes() as i64;
                let (live, took) = (measured(), began.elapsed());
                if took < AT_ONCE && before == live {
                    errors.push((accounted as f64 - live as f64).abs() / live as f64);
                    most = live.max(most);
                    std::thread::sleep(Duration::from_millis(1));
                } else {
                    torn += 1;
                }
            }
            (errors, most, torn)
        });
        let runs = self.load(&users, time).await?;
        done.store(true, Ordering::Relaxed);
        let (mut errors, most, torn) = watching.join().map_err(|_| "the watch panicked")?;
        errors.sort_by(f64::total_cmp);
        let last = errors.len() - 1;
        Ok(json!({
            "runs": runs,
            "samples": errors.len(),
            "not_at_one_moment": torn,
            "most_mib_in_use": most as f64 / 1048576.0,
            "median_percent": errors[last / 2] * 100.0,
            "p99_percent": errors[last * 99 / 100] * 100.0,
            "largest_percent": errors[last] * 100.0,
        }))
    }
}

fn wish(agent: &str, characters: usize) -> StartRun {
    StartRun {
        agent: agent.to_owned(),
        input: json!("x".repeat(characters)),
        files: Vec::new(),
        metadata: None,
        timeout_ms: None,
        on_limit: OnLimit::Queue,
        on_busy: OnBusy::Queue,
    }
}

fn resident_mib() -> Result<f64, Failure> {
    let bytes = netra_memory::resident_bytes().ok_or("the system does not tell")?;
    Ok(bytes as f64 / 1048576.0)
}

/// What all threads of this process have used of the processors.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name, which may hold spaces, user and system time are the 12th and 13th, in hundredths.
    let (_, behind) = stat.rsplit_once(')').ok_or("/proc/self/stat")?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let hundredths: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(hundredths as f64 / 100.0)
}
