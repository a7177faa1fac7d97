//! A server without edges, for tests: store, events, tools, a scripted model, engines.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use netra_context::runtime::{Clock, SystemClock};
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_events::{Filter, Hub, Start, WebSocketBridgeFactory};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{Config as ModelConfig, ModelRef, Models};
use netra_protocol::Event;
use netra_protocol::account::{Plan, Role, User};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::limits::Limits;
use netra_protocol::run::{OnBusy, OnLimit, Run, StartRun};
use netra_protocol::tool::Risk;
use netra_store::{Config as StoreConfig, Fanout, NewUser, Secrets, Store};
use netra_tools::{Call, Policy, Registry, Tool, ToolExecutorFactory, ToolSpec};
use netra_worker::{AnalysisPool, Config as WorkerConfig, ScriptPool};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::agents::{Agents, EmbeddedAgent};
use crate::order::check_order;
use crate::{Agent, Config, Error, ExecutionEngineFactory, Infra, NodeMemory, Started};

/// How long anything may take before a test gives up; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(30);

const ECHO: EmbeddedAgent = EmbeddedAgent {
    name: "echo",
    files: &[(
        "agent.toml",
        "description = \"Says it again\"\nkind = \"native\"\n",
    )],
};
const ASSISTANT: EmbeddedAgent = EmbeddedAgent {
    name: "assistant",
    files: &[
        (
            "agent.toml",
            "description = \"Answers\"\nkind = \"model\"\ninstructions = \"instructions.md\"\n\
             tools = [\"time_now\", \"hold\", \"boom\", \"fail\", \"large\", \"unruled\", \
             \"save_file\", \"count\", \"once\", \"consent\", \"scarce\", \"rare\", \
             \"rare_consent\", \"sends\", \"blabs\"]\n",
        ),
        ("instructions.md", "Be brief."),
    ],
};
const THRIFTY: EmbeddedAgent = EmbeddedAgent {
    name: "thrifty",
    files: &[
        (
            "agent.toml",
            "description = \"Answers\"\nkind = \"model\"\ninstructions = \"instructions.md\"\n\
             tools = [\"time_now\"]\ncache = \"1h\"\n",
        ),
        ("instructions.md", "Be brief."),
    ],
};
const BROKEN: EmbeddedAgent = EmbeddedAgent {
    name: "broken",
    files: &[(
        "agent.toml",
        "description = \"x\"\nkind = \"model\"\nspeed = 3\n",
    )],
};
const HIDDEN: EmbeddedAgent = EmbeddedAgent {
    name: "hidden",
    files: &[
        (
            "agent.toml",
            "description = \"x\"\nkind = \"script\"\nscript = \"a.py\"\nlisted = false\n",
        ),
        ("a.py", "{}"),
    ],
};

/// A tool that tells when it is reached and goes on when it is let.
pub(super) struct Hold {
    spec: ToolSpec,
    reached: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

#[async_trait]
impl Tool for Hold {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        call.progress(Some(0.5), Some("half".into())).await?;
        self.reached.send_modify(|count| *count += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        Ok(json!("let go"))
    }
}

/// A tool that counts its calls.
struct Counting {
    spec: ToolSpec,
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl Tool for Counting {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Ok(call.arguments)
    }
}

struct Fixed {
    spec: ToolSpec,
    act: fn() -> Result<Value, Failure>,
}

#[async_trait]
impl Tool for Fixed {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, _call: Call<'_>) -> Result<Value, Failure> {
        (self.act)()
    }
}

/// The secret of the tests, with all that somebody or other escapes.
pub(super) const CANARY: &str = "pa\"ss\\wo/rd & é+77";

/// A tool that sends the secret `wiki` somewhere.
struct Sends(ToolSpec);

#[async_trait]
impl Tool for Sends {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let secret = call.secret("wiki", "api.example.com").await?;
        Ok(json!({ "sent": secret.expose() }))
    }
}

pub(super) fn spec(name: &str, permission: &str) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: String::new(),
        input_schema: json!({
            "type": "object",
            "properties": { "n": { "type": "integer" } },
            "additionalProperties": false
        }),
        permission: permission.into(),
        risk: Risk::Low,
        idempotent: true,
        needs_approval: false,
    }
}

fn fixed(name: &str, permission: &str, act: fn() -> Result<Value, Failure>) -> Arc<dyn Tool> {
    Arc::new(Fixed {
        spec: spec(name, permission),
        act,
    })
}

/// The shipped policies, one that looks at an argument, and two that bound how often.
fn policy() -> Policy {
    let unlucky = r#"@reason("13 brings bad luck")
        forbid (principal, action == Netra::Action::"call", resource == Netra::Tool::"consent")
        when { context.number.hasTag("n") && context.number.getTag("n") == 13 };"#;
    let bounded = r#"
        @id("scarce") @rate("5/hour")
        permit (principal, action == Netra::Action::"call", resource) when { resource.permission == "scarce" };
        @id("rare") @rate("1/hour")
        permit (principal, action == Netra::Action::"call", resource) when { resource.permission == "rare" };"#;
    let files = [
        ("shipped", Policy::shipped_text()),
        ("unlucky", unlucky),
        ("bounded", bounded),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    Policy::of(&files, "production").unwrap()
}

/// How often each counting tool was called: an idempotent one, one that is not, and one that asks.
#[derive(Clone, Default)]
pub(super) struct Counts {
    pub(super) count: Arc<AtomicUsize>,
    pub(super) once: Arc<AtomicUsize>,
    pub(super) consent: Arc<AtomicUsize>,
}

impl Counts {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let counting = |spec: ToolSpec, calls: &Arc<AtomicUsize>| {
            let calls = Arc::clone(calls);
            Arc::new(Counting { spec, calls }) as Arc<dyn Tool>
        };
        let once = ToolSpec {
            idempotent: false,
            ..spec("once", "basic")
        };
        let consent = ToolSpec {
            needs_approval: true,
            ..spec("consent", "basic")
        };
        let rare_consent = ToolSpec {
            needs_approval: true,
            ..spec("rare_consent", "rare")
        };
        vec![
            counting(spec("count", "basic"), &self.count),
            counting(once, &self.once),
            counting(consent, &self.consent),
            counting(spec("scarce", "scarce"), &self.count),
            counting(rare_consent, &self.consent),
        ]
    }
}

pub(super) struct House {
    pub(super) runtime: Runtime,
    pub(super) store: Store,
    pub(super) bridge: WebSocketBridgeFactory,
    pub(super) engine: ExecutionEngineFactory,
    pub(super) model: Arc<ScriptedModel>,
    pub(super) secrets: Secrets,
    pub(super) counts: Counts,
    hold: Arc<Hold>,
    pub(super) dir: Arc<tempfile::TempDir>,
}

/// The file in a house's folder that would be its workers' program.
pub(super) const WORKER: &str = "worker";

/// What a house is made of.
pub(super) struct Build {
    pub(super) model: ScriptedModel,
    pub(super) engines: usize,
    pub(super) limits: Limits,
    pub(super) node_memory: NodeMemory,
    pub(super) dir: Arc<tempfile::TempDir>,
    /// Told after each commit, before the hub.
    pub(super) witness: Option<Arc<dyn Fanout>>,
    pub(super) clock: Box<dyn Clock>,
    /// The models that answer where the first does not.
    pub(super) fallback: Vec<ModelRef>,
    /// A folder of agents beside those of all houses.
    pub(super) agents: Option<tempfile::TempDir>,
    /// Agents in Rust.
    pub(super) native: Vec<Arc<dyn Agent>>,
}

impl Build {
    pub(super) fn new(model: ScriptedModel) -> Self {
        Self {
            model,
            engines: 1_000,
            limits: Limits::default(),
            node_memory: NodeMemory::default(),
            dir: Arc::new(tempfile::tempdir().unwrap()),
            witness: None,
            clock: Box::new(SystemClock),
            fallback: Vec::new(),
            agents: None,
            native: Vec::new(),
        }
    }
}

/// Tells a witness of each commit, and then the hub.
struct Witnessed {
    witness: Option<Arc<dyn Fanout>>,
    hub: Arc<Hub>,
}

impl Fanout for Witnessed {
    fn committed(&self, entries: &[Arc<netra_store::Entry>]) {
        if let Some(witness) = &self.witness {
            witness.committed(entries);
        }
        self.hub.committed(entries);
    }
}

/// Workers whose program is not there, unless a test puts it there.
fn workers(dir: &tempfile::TempDir) -> WorkerConfig {
    WorkerConfig {
        program: dir.path().join(WORKER),
        workers: 1,
        warm: 0,
    }
}

fn open_store(
    runtime: &Runtime,
    dir: &tempfile::TempDir,
    witness: Option<Arc<dyn Fanout>>,
    hub: &Arc<Hub>,
) -> Store {
    let config = StoreConfig {
        dir: dir.path().to_owned(),
        audit_key: netra_store::AuditKey::new([7; 32]),
        turn_wait: netra_store::TURN_WAIT,
    };
    let hub = Arc::clone(hub);
    Store::open(runtime, config, Arc::new(Witnessed { witness, hub })).unwrap()
}

impl House {
    /// With a model that makes each answer from the request.
    pub(super) fn with_model(model: ScriptedModel) -> Self {
        Self::open(model, 1_000)
    }

    /// With a model that gives these answers in order.
    pub(super) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::with_model(ScriptedModel::new("test", answers))
    }

    /// For runs that ask no model.
    pub(super) fn plain() -> Self {
        Self::answering([])
    }

    pub(super) fn open(model: ScriptedModel, engines: usize) -> Self {
        Self::build(Build {
            engines,
            ..Build::new(model)
        })
    }

    pub(super) fn build(plan: Build) -> Self {
        let Build {
            model,
            engines,
            limits,
            node_memory,
            dir,
            witness,
            clock,
            fallback,
            agents: folder,
            native,
        } = plan;
        let runtime = Runtime::with_clock(clock);
        let hub = Hub::new();
        let store = open_store(&runtime, &dir, witness, &hub);
        store.set_limits(limits);
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let hold = Arc::new(Hold {
            spec: spec("hold", "basic"),
            reached: watch::channel(0).0,
            open: watch::channel(false).0,
        });
        let mut tools = netra_tools::builtin::tools();
        tools.push(hold.clone());
        tools.push(fixed("boom", "basic", || panic!("on purpose")));
        tools.push(fixed("fail", "basic", || {
            Err(Failure::new(ErrorCode::ToolFailed, "no luck"))
        }));
        tools.push(fixed("large", "basic", || Ok(json!("x".repeat(400_000)))));
        tools.push(Arc::new(Sends(spec("sends", "basic"))));
        tools.push(fixed("blabs", "basic", || {
            Ok(json!({ "of": CANARY, "within": json!({ "a": CANARY }).to_string() }))
        }));
        tools.push(fixed("unruled", "teleport", || Ok(json!("never"))));
        tools.push(Arc::new(super::agents::Rights::new()));
        let counts = Counts::default();
        tools.extend(counts.tools());
        tools.push(Arc::new(Hold {
            spec: spec("rare", "rare"),
            reached: hold.reached.clone(),
            open: hold.open.clone(),
        }));
        let registry = Arc::new(Registry::new(tools, policy()).unwrap());
        let model = Arc::new(model);
        let models = Models::new(ModelConfig::default())
            .unwrap()
            .with(model.clone())
            .with_default("test/model".parse().unwrap())
            .with_fallback(fallback);
        let agents = Agents::load_with(
            native,
            &[
                &[ECHO, ASSISTANT, THRIFTY, BROKEN, HIDDEN],
                super::agents::ALL,
            ]
            .concat(),
            folder.as_ref().map(tempfile::TempDir::path),
            &registry,
            &models,
        );
        let secrets = Secrets::ephemeral(&store);
        let engine = ExecutionEngineFactory::new(Infra {
            runtime: runtime.clone(),
            store: store.clone(),
            bridge: bridge.clone(),
            tools: ToolExecutorFactory::new(netra_tools::Infra {
                registry,
                store: store.clone(),
                secrets: secrets.clone(),
                analyses: AnalysisPool::new(workers(&dir)),
                scripts: ScriptPool::new(workers(&dir)),
            }),
            models: Arc::new(models),
            agents: Arc::new(agents),
            scripts: ScriptPool::new(workers(&dir)),
            endpoints: netra_endpoint::Endpoints::new().unwrap(),
            config: Config {
                engines,
                node_memory,
            },
        });
        Self {
            runtime,
            store,
            bridge,
            engine,
            model,
            secrets,
            counts,
            hold,
            dir,
        }
    }

    /// Another server on the same folder, as after a restart. This one is cut off first: nothing
    /// of it writes any more.
    pub(super) fn restarted(self, model: ScriptedModel) -> Self {
        self.restarted_within(model, Limits::default())
    }

    /// The same with these limits for those who have no others.
    pub(super) fn restarted_within(self, model: ScriptedModel, limits: Limits) -> Self {
        let dir = Arc::clone(&self.dir);
        drop(self);
        Self::build(Build {
            dir,
            limits,
            ..Build::new(model)
        })
    }

    /// A copy of the data folder as it is now, to be taken while nothing is written.
    pub(super) fn copied(&self) -> Arc<tempfile::TempDir> {
        let dir = tempfile::tempdir().unwrap();
        super::camera::copy(self.dir.path(), dir.path());
        Arc::new(dir)
    }

    /// Takes up what an earlier server left, and says how many runs that were.
    pub(super) async fn recover(&self) -> usize {
        let ctx = UserExecutionContext::for_background(&self.runtime, BackgroundKind::Recovery);
        self.engine.recover(&ctx).await.unwrap()
    }

    /// The user of this name, who was made by an earlier server.
    pub(super) async fn user_again(&self, earlier: &UserExecutionContext) -> UserExecutionContext {
        self.user_again_with(earlier, Limits::default()).await
    }

    /// The same with other limits.
    pub(super) async fn user_again_with(
        &self,
        earlier: &UserExecutionContext,
        limits: Limits,
    ) -> UserExecutionContext {
        let console = UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console);
        let id = earlier.user_id().unwrap();
        let user = self.store.user_by_id(&console, id).await.unwrap();
        self.context_of(&user, limits)
    }

    /// A new user with these limits.
    pub(super) async fn user_with(&self, limits: Limits) -> UserExecutionContext {
        let console = UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console);
        let name = format!("u{}", self.runtime.new_id(RunId::from_parts));
        let new = NewUser {
            name,
            role: Role::User,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = self.store.user_create(&console, new).await.unwrap();
        self.context_of(&user, limits)
    }

    pub(super) async fn user(&self) -> UserExecutionContext {
        self.user_with(Limits::default()).await
    }

    fn context_of(&self, user: &User, limits: Limits) -> UserExecutionContext {
        let principal = Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            groups: user.groups.clone().into(),
            rights: Rights::of_role(user.role),
            limits: Arc::new(limits),
            session: None,
        };
        UserExecutionContext::for_test(&self.runtime, principal)
    }

    pub(super) async fn start(
        &self,
        ctx: &UserExecutionContext,
        request: StartRun,
    ) -> Result<Started, Error> {
        self.engine.start(ctx, None, request, None).await
    }

    pub(super) async fn start_on(
        &self,
        ctx: &UserExecutionContext,
        thread: ThreadId,
        request: StartRun,
    ) -> Result<Started, Error> {
        let thread = self.store.thread(ctx, thread).for_write().await.unwrap();
        self.engine.start(ctx, Some(thread), request, None).await
    }

    pub(super) async fn cancel(&self, ctx: &UserExecutionContext, id: RunId) -> Result<(), Error> {
        let run = self.store.run(ctx, id).for_write().await.unwrap();
        self.engine.cancel(ctx, &run).await
    }

    /// Waits for the end of a run, holds its log against the contract, and gives both.
    pub(super) async fn ended(&self, ctx: &UserExecutionContext, id: RunId) -> (Run, Vec<Event>) {
        let run = self
            .bridge
            .wait_run(ctx, id, PATIENCE)
            .await
            .unwrap()
            .into_inner();
        assert!(
            run.status.is_terminal(),
            "the run did not end: {:?}",
            self.log(ctx, id).await
        );
        let log = self.log(ctx, id).await;
        if let Err(problem) = check_order(&log) {
            panic!("{problem}\n{}", names(&log).join("\n"));
        }
        (run, log)
    }

    /// The run's events so far.
    pub(super) async fn log(&self, ctx: &UserExecutionContext, id: RunId) -> Vec<Event> {
        let entries = self.store.events(ctx, 0, 100_000).await.unwrap();
        entries
            .iter()
            .filter(|entry| entry.run_id == id)
            .map(|e| e.event().unwrap())
            .collect()
    }

    /// Waits until the run has an event of this type.
    pub(super) async fn seen(&self, ctx: &UserExecutionContext, id: RunId, name: &str) {
        self.until(ctx, id, |log| {
            log.iter().any(|event| event.kind.name() == name)
        })
        .await;
    }

    /// Waits until the run's log is as wanted.
    pub(super) async fn until(
        &self,
        ctx: &UserExecutionContext,
        id: RunId,
        wanted: impl Fn(&[Event]) -> bool,
    ) {
        let filter = Filter {
            threads: None,
            run: Some(id),
            deltas: true,
        };
        let mut news = self
            .bridge
            .subscribe(ctx, Start::Now, None, filter)
            .await
            .unwrap();
        let all = async {
            while !wanted(&self.log(ctx, id).await) {
                news.next().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, all)
            .await
            .expect("the event did not come");
    }

    /// The files of the data folder, without those of the database's own making.
    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.to_string_lossy().ends_with("-wal") => {}
                    false => drop(found.insert(path)),
                }
            }
        }
        found
    }

    /// Waits until the holding tool was reached this often.
    pub(super) async fn held(&self, times: usize) {
        let mut reached = self.hold.reached.subscribe();
        let reached = reached.wait_for(|count| *count >= times);
        tokio::time::timeout(PATIENCE, reached)
            .await
            .expect("the tool was not reached")
            .unwrap();
    }

    pub(super) fn let_go(&self) {
        self.hold.open.send_replace(true);
    }

    /// Waits until nothing is left of any run, and says what is in use then.
    pub(super) async fn quiet(&self) {
        let all = async {
            while self.engine.load() != (0, 0) || self.runtime.live_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let quiet = tokio::time::timeout(PATIENCE, all).await;
        assert!(
            quiet.is_ok(),
            "left: {:?} {}",
            self.engine.load(),
            self.runtime.live_tasks()
        );
    }
}

pub(super) fn ask(agent: &str, input: impl Into<Value>) -> StartRun {
    StartRun {
        agent: agent.into(),
        input: input.into(),
        files: Vec::new(),
        metadata: None,
        timeout_ms: None,
        on_limit: OnLimit::Queue,
        on_busy: OnBusy::Queue,
    }
}

pub(super) fn names(log: &[Event]) -> Vec<&'static str> {
    log.iter().map(|event| event.kind.name()).collect()
}

/// The events without the pieces of messages, whose number is not promised.
pub(super) fn names_without_deltas(log: &[Event]) -> Vec<&'static str> {
    log.iter()
        .filter(|event| !event.kind.is_delta())
        .map(|event| event.kind.name())
        .collect()
}

pub(super) fn failure_of(log: &[Event]) -> &Failure {
    match &log.last().unwrap().kind {
        EventKind::RunFailed { error, .. }
        | EventKind::RunCancelled { error, .. }
        | EventKind::RunTimedOut { error, .. } => error,
        other => panic!("ended with {}", other.name()),
    }
}
