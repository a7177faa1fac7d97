//! What the layers around a tool that does nothing cost: `cargo xtask bench tools` runs it and shows what it prints.
//!
//! A call and the two commits that it makes, made alone, are timed in turn; the difference is the layers. The folder is
//! in memory where the system has such a one, so that the disk does not hide it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_events::{Emission, Hub, UserWebSocketEmitter, WebSocketBridgeFactory};
use netra_protocol::Failure;
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, RunId, ThreadId, ToolCallId};
use netra_protocol::limits::Limits;
use netra_protocol::tool::Risk;
use netra_store::{
    AuditKey, Changes, Journal, JournalEntry, JournalKind, NewRun, NewUser, Secrets, Store, Target,
};
use netra_tools::{
    Call, Caller, Infra, Past, Policy, Registry, Request, Tool, ToolExecutorFactory, ToolSpec,
    audit_of_call,
};
use netra_worker::{AnalysisPool, ScriptPool};
use serde_json::{Map, Value, json};

type Wrong = Box<dyn std::error::Error>;

/// Calls of each kind, after as many that are not counted as a tenth of them.
const CALLS: usize = 5_000;
const TOOL: &str = "nothing";

/// Policies beside the shipped ones: one that looks at arguments, so that Cedar is asked at each call, and one that
/// bounds how often.
const BY_ARGUMENTS: &str = r#"forbid (principal, action == Netra::Action::"call", resource)
    when { context.text.hasTag("path") && context.text.getTag("path") like "*secret*" };"#;
const RATED: &str = r#"@rate("1000000/hour, 1000000/day")
    permit (principal, action == Netra::Action::"call", resource == Netra::Tool::"nothing");
    permit (principal, action == Netra::Action::"call_unasked", resource);"#;

struct Nothing(ToolSpec);

#[async_trait]
impl Tool for Nothing {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, _: Call<'_>) -> Result<Value, Failure> {
        Ok(Value::Null)
    }
}

fn nothing() -> Arc<dyn Tool> {
    Arc::new(Nothing(ToolSpec {
        name: TOOL.into(),
        description: String::new(),
        input_schema: json!({
            "type": "object",
            "properties": { "path": { "type": "string", "maxLength": 100 }, "n": { "type": "integer" } },
            "required": ["path"],
            "additionalProperties": false
        }),
        permission: "basic".into(),
        risk: Risk::Low,
        idempotent: true,
        needs_approval: false,
    }))
}

#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn main() -> Result<(), Wrong> {
    let tokio = tokio::runtime::Runtime::new()?;
    let shipped = Policy::shipped_text();
    let both = format!("{shipped}\n{BY_ARGUMENTS}");
    let mut found = Map::new();
    for (name, policies) in [
        ("shipped", shipped),
        ("by_arguments", &both),
        ("rated", RATED),
    ] {
        let measured = tokio.block_on(measure(policies))?;
        for (what, value) in measured {
            found.insert(format!("{name}_{what}"), value);
        }
    }
    println!("{}", Value::Object(found));
    Ok(())
}

/// One call of a run, and its commits without it.
struct Bench {
    ctx: UserExecutionContext,
    emitter: Arc<UserWebSocketEmitter>,
    factory: ToolExecutorFactory,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

async fn measure(policies: &str) -> Result<HashMap<&'static str, Value>, Wrong> {
    let bench = Bench::new(policies).await?;
    let dispatcher = bench.factory.create(
        &bench.ctx,
        Arc::clone(&bench.emitter),
        Vec::new(),
        &Journal::default(),
    );
    let allowed_tools = [TOOL.to_owned()];
    let caller = Caller {
        agent: "bench",
        step: 1,
        allowed_tools: &allowed_tools,
    };
    let (mut layers, mut whole) = (Vec::new(), Vec::new());
    for number in 0..CALLS + CALLS / 10 {
        let request = Request {
            id: bench.runtime.new_id(ToolCallId::from_parts),
            name: TOOL.into(),
            arguments: json!({ "path": "a/b.txt", "n": number }),
            purpose: None,
            past: Past::of(&Journal::default(), number.to_string()),
        };
        let began = Instant::now();
        let done = dispatcher.call(&bench.ctx, &caller, request).await;
        let call = began.elapsed();
        if let Err(error) = done {
            return Err(format!("{error:?}").into());
        }
        let commits = bench.commits(number).await?;
        if number >= CALLS / 10 {
            layers.push(micros(call) - micros(commits));
            whole.push(micros(call));
        }
    }
    layers.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    let at = |times: &[f64], part: usize| json!(times[(times.len() - 1) * part / 100]);
    Ok(HashMap::from([
        ("layers_p50_us", at(&layers, 50)),
        ("layers_p90_us", at(&layers, 90)),
        ("with_commits_p50_us", at(&whole, 50)),
    ]))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Bench {
    async fn new(policies: &str) -> Result<Self, Wrong> {
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
        let policy = Policy::of(&[("bench.cedar".into(), policies.into())], "production")?;
        let nowhere = || netra_worker::Config {
            program: "/nonexistent".into(),
            workers: 1,
            warm: 0,
        };
        let factory = ToolExecutorFactory::new(Infra {
            registry: Arc::new(Registry::new(vec![nothing()], policy)?),
            store: store.clone(),
            secrets: Secrets::ephemeral(&store),
            analyses: AnalysisPool::new(nowhere()),
            scripts: ScriptPool::new(nowhere()),
        });
        let ctx = user(&runtime, &store).await?;
        let target = Target::New {
            id: runtime.new_id(ThreadId::from_parts),
            title: "bench".into(),
        };
        let run = store
            .run_create(&ctx, target, new_run(&runtime), None)
            .await?;
        Ok(Self {
            ctx,
            emitter: Arc::new(bridge.create_emitter(&run.value)),
            factory,
            runtime,
            _dir: dir,
        })
    }

    /// What a call commits, and nothing else.
    async fn commits(&self, number: usize) -> Result<Duration, Wrong> {
        let id = self.runtime.new_id(ToolCallId::from_parts);
        let entry = |kind, value| JournalEntry {
            key: format!("bare/{number}"),
            kind,
            step: 1,
            value,
        };
        let begun = Changes {
            journal: vec![entry(JournalKind::ToolBegun, json!({ "tool_call_id": id }))],
            ..Changes::default()
        };
        let executing = EventKind::ToolExecuting {
            tool_call_id: id,
            tool_name: TOOL.into(),
            arguments: json!({ "path": "a/b.txt", "n": number }),
            purpose: None,
        };
        let ended = json!({ "tool_call_id": id, "tool_name": TOOL, "result": null });
        let ended = Changes {
            journal: vec![entry(JournalKind::ToolEnded, ended)],
            audit: vec![audit_of_call(id, TOOL, "bench", "completed")],
            ..Changes::default()
        };
        let completed = EventKind::ToolCompleted {
            tool_call_id: id,
            tool_name: TOOL.into(),
            success: true,
            duration_ms: 0,
            result: Value::Null,
            result_bytes: 4,
            error: None,
        };
        let began = Instant::now();
        for (changes, kind) in [(begun, executing), (ended, completed)] {
            let emissions = vec![Emission::of_agent("bench", 1, kind)];
            self.emitter.commit(&self.ctx, changes, emissions).await?;
        }
        Ok(began.elapsed())
    }
}

async fn user(runtime: &Runtime, store: &Store) -> Result<UserExecutionContext, Wrong> {
    let console = UserExecutionContext::for_background(runtime, BackgroundKind::Console);
    let new = NewUser {
        name: "bench".into(),
        role: Role::User,
        plan: Plan::Free,
        password_hash: None,
    };
    let user = store.user_create(&console, new).await?;
    let principal = Principal {
        user_id: user.id,
        role: user.role,
        plan: user.plan,
        groups: Arc::default(),
        rights: Rights::of_role(user.role),
        limits: Arc::new(Limits {
            tool_calls: u32::MAX,
            ..Limits::default()
        }),
        session: None,
    };
    Ok(UserExecutionContext::for_test(runtime, principal))
}

fn new_run(runtime: &Runtime) -> NewRun {
    NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "bench".into(),
        agent_hash: String::new(),
        input: json!("x"),
        files: Vec::new(),
        metadata: Map::new(),
        timeout_ms: 3_600_000,
        deadline: runtime.now().plus_millis(3_600_000),
        input_message_id: runtime.new_id(MessageId::from_parts),
        started: true,
        over_nodes: None,
        events: Vec::new(),
    }
}
