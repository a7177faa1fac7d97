//! The layers as a golden table: which one refuses what. Without any one of them the table is another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_protocol::Failure;
use netra_protocol::account::{Plan, Role};
use netra_protocol::approval::{Decision, ResolveApproval};
use netra_protocol::id::{MessageId, RunId, ThreadId, ToolCallId};
use netra_protocol::limits::Limits;
use netra_protocol::tool::Risk;
use netra_store::{AuditKey, Journal, NewRun, NewUser, Secrets, Store, Target};
use netra_worker::{AnalysisPool, ScriptPool};
use serde_json::{Map, Value, json};

use super::*;
use crate::dispatcher::{BOUNDS, Bound};
use crate::{Call, Error, Infra, Past, Policy, Registry, Tool, ToolExecutorFactory, ToolSpec};

/// The tools of these tests need no worker.
fn no_workers() -> netra_worker::Config {
    netra_worker::Config {
        program: "/nonexistent".into(),
        workers: 1,
        warm: 0,
    }
}

/// What is called, and what becomes of it. The run may make five calls; a call of `rare` is permitted once an hour; a
/// person is asked before `careful`, and where `n` is 9. Where two layers would refuse, the earlier one does.
const GOLDEN: &[(&str, &str, &str)] = &[
    ("plain", "{}", "ran"),
    ("unlisted", "{}", "agent_list"),
    ("forbidden", "{}", "policy"),
    ("plain", r#"{"n": "three"}"#, "schema"),
    ("strange", "{}", "agent_list"),
    ("forbidden", r#"{"n": "three"}"#, "policy"),
    // Asked for, and not counted yet.
    ("rare", r#"{"n": 9}"#, "approval"),
    ("rare", "{}", "ran"),
    ("rare", "{}", "rate"),
    ("rare", r#"{"n": 9}"#, "rate"),
    ("careful", "{}", "approval"),
    ("plain", "{}", "ran"),
    ("plain", "{}", "ran"),
    ("plain", "{}", "ran"),
    ("plain", "{}", "limits"),
    ("plain", r#"{"n": "three"}"#, "schema"),
    ("rare", "{}", "limits"),
    ("careful", "{}", "limits"),
];

/// The layers by their names.
const NAMES: [&str; 6] = [
    "agent_list",
    "policy",
    "schema",
    "limits",
    "rate",
    "approval",
];

const POLICY: &str = r#"
    permit (principal, action == Netra::Action::"call", resource)
    unless { ["forbidden", "strange", "rare"].contains(resource.name) };
    @rate("1/hour")
    permit (principal, action == Netra::Action::"call", resource == Netra::Tool::"rare");
    permit (principal, action == Netra::Action::"call_unasked", resource)
    unless { resource.needs_approval || (context.number.hasTag("n") && context.number.getTag("n") == 9) };
"#;

struct Plain(ToolSpec);

#[async_trait]
impl Tool for Plain {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, _: Call<'_>) -> Result<Value, Failure> {
        Ok(Value::Null)
    }
}

fn tool(name: &str) -> Arc<dyn Tool> {
    Arc::new(Plain(ToolSpec {
        name: name.into(),
        description: String::new(),
        input_schema: json!({ "type": "object", "properties": { "n": { "type": "integer" } } }),
        permission: "basic".into(),
        risk: Risk::Low,
        idempotent: true,
        needs_approval: name == "careful",
    }))
}

async fn user(
    runtime: &Runtime,
    store: &Store,
    (role, plan): (Role, Plan),
    limits: Limits,
) -> UserExecutionContext {
    let console = UserExecutionContext::for_background(runtime, BackgroundKind::Console);
    let new = NewUser {
        name: "ada".into(),
        role,
        plan,
        password_hash: None,
    };
    let user = store.user_create(&console, new).await.unwrap();
    let principal = Principal {
        user_id: user.id,
        role: user.role,
        plan: user.plan,
        groups: Arc::default(),
        rights: Rights::of_role(user.role),
        limits: Arc::new(limits),
        session: None,
    };
    UserExecutionContext::for_test(runtime, principal)
}

fn new_run(runtime: &Runtime) -> NewRun {
    NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "a".into(),
        agent_hash: String::new(),
        input: json!("x"),
        files: Vec::new(),
        metadata: Map::new(),
        timeout_ms: 60_000,
        deadline: runtime.now().plus_millis(60_000),
        input_message_id: runtime.new_id(MessageId::from_parts),
        started: true,
        over_nodes: None,
        events: Vec::new(),
    }
}

/// A run of a user, and what calls its tools.
struct World {
    _dir: tempfile::TempDir,
    runtime: Runtime,
    ctx: UserExecutionContext,
    dispatcher: Dispatcher,
}

impl World {
    async fn new(
        tools: Vec<Arc<dyn Tool>>,
        policy: Policy,
        (role, plan): (Role, Plan),
        limits: Limits,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (runtime, hub) = (Runtime::new(), Hub::new());
        let config = netra_store::Config {
            dir: dir.path().to_owned(),
            audit_key: AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let store = Store::open(&runtime, config, hub.clone()).unwrap();
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let ctx = user(&runtime, &store, (role, plan), limits).await;
        let target = Target::New {
            id: runtime.new_id(ThreadId::from_parts),
            title: "t".into(),
        };
        let run = store.run_create(&ctx, target, new_run(&runtime), None);
        let run = run.await.unwrap().value;
        let factory = ToolExecutorFactory::new(Infra {
            registry: Arc::new(Registry::new(tools, policy).unwrap()),
            store: store.clone(),
            secrets: Secrets::ephemeral(&store),
            analyses: AnalysisPool::new(no_workers()),
            scripts: ScriptPool::new(no_workers()),
        });
        let emitter = Arc::new(bridge.create_emitter(&run));
        Self {
            dispatcher: factory.create(&ctx, emitter, Vec::new(), &Journal::default()),
            _dir: dir,
            runtime,
            ctx,
        }
    }

    /// Makes a call, and says what became of it: that it ran, the layer that refused it, or why it failed.
    async fn call(
        &self,
        allowed_tools: &[String],
        (number, name): (usize, &str),
        arguments: &str,
    ) -> String {
        let past = Past::of(&Journal::default(), number.to_string());
        self.call_again(allowed_tools, name, arguments, past).await
    }

    /// The same of a call with a past.
    async fn call_again(
        &self,
        allowed_tools: &[String],
        name: &str,
        arguments: &str,
        past: Past,
    ) -> String {
        let caller = Caller {
            agent: "a",
            step: 1,
            allowed_tools,
        };
        let request = Request {
            id: self.runtime.new_id(ToolCallId::from_parts),
            name: name.into(),
            arguments: serde_json::from_str(arguments).unwrap(),
            purpose: None,
            past,
        };
        match self.dispatcher.call(&self.ctx, &caller, request).await {
            Ok(_) => "ran".to_owned(),
            Err(Error::Waiting) => "approval".to_owned(),
            Err(Error::Run(failure)) => match failure.code {
                ErrorCode::ToolCallLimitExceeded => "limits".to_owned(),
                _ => failure.message,
            },
            Err(Error::Call(failure)) => {
                let details = failure.details.as_ref();
                let layer = details.and_then(|details| details["layer"].as_str());
                layer.map_or(failure.code.to_string(), str::to_owned)
            }
        }
    }
}

/// What becomes of each call of the table where these are the layers.
async fn table(layers: &'static [Layer]) -> Vec<String> {
    let tools = [
        "plain",
        "unlisted",
        "strange",
        "forbidden",
        "rare",
        "careful",
    ];
    let policy = Policy::of(&[("golden.cedar".into(), POLICY.into())], "production").unwrap();
    let limits = Limits {
        tool_calls: 5,
        ..Limits::default()
    };
    let who = (Role::User, Plan::Free);
    let mut world = World::new(tools.map(tool).to_vec(), policy, who, limits).await;
    world.dispatcher = world.dispatcher.with_layers(layers);
    let allowed_tools = ["plain", "forbidden", "rare", "careful"].map(str::to_owned);
    let mut outcomes = Vec::new();
    for (number, (name, arguments, _)) in GOLDEN.iter().enumerate() {
        let called = world.call(&allowed_tools, (number, name), arguments);
        outcomes.push(called.await);
    }
    outcomes
}

#[tokio::test]
async fn each_layer_refuses_what_is_its_own_and_none_can_be_left_out() {
    let golden: Vec<&str> = GOLDEN.iter().map(|(_, _, outcome)| *outcome).collect();
    assert_eq!(table(LAYERS).await, golden);
    assert_eq!(
        NAMES.len(),
        LAYERS.len(),
        "a new layer needs a row that it alone refuses"
    );
    for (left_out, name) in NAMES.into_iter().enumerate() {
        let mut layers = LAYERS.to_vec();
        layers.remove(left_out);
        let without = table(layers.leak()).await;
        let passed = golden
            .iter()
            .zip(&without)
            .any(|(with, without)| *with == name && without == "ran");
        assert!(passed, "without {name} the table is {without:?}");
    }
}

#[tokio::test]
async fn of_two_layers_that_would_refuse_a_call_the_earlier_one_does() {
    let golden: Vec<&str> = GOLDEN.iter().map(|(_, _, outcome)| *outcome).collect();
    let last = LAYERS.len() - 1;
    // The rate says no in the commit that begins the call, after all layers.
    let named = NAMES.into_iter().enumerate().take(last);
    for (earlier, name) in named.filter(|(_, name)| *name != "limits") {
        let mut layers = LAYERS.to_vec();
        layers.swap(earlier, earlier + 1);
        let swapped = table(layers.leak()).await;
        assert_ne!(swapped, golden, "{name} after the next");
    }
}

/// It took one of the run's calls, and with the last one it ended the run.
#[tokio::test]
async fn a_call_that_a_person_has_refused_needs_no_room_and_takes_none() {
    let policy = Policy::of(&[("golden.cedar".into(), POLICY.into())], "production").unwrap();
    let limits = Limits {
        tool_calls: 1,
        ..Limits::default()
    };
    let names = ["plain", "careful"].map(str::to_owned);
    let tools = names.iter().map(|name| tool(name)).collect();
    let world = World::new(tools, policy, (Role::User, Plan::Free), limits).await;
    let refused = |key: &str| Past {
        asked: Some(world.runtime.new_id(ToolCallId::from_parts)),
        answer: Some(ResolveApproval {
            decision: Decision::Deny,
            note: None,
            arguments: None,
        }),
        ..Past::of(&Journal::default(), key.to_owned())
    };
    let denied = |key: &'static str| world.call_again(&names, "careful", "{}", refused(key));
    assert_eq!(denied("1").await, "approval");
    assert_eq!(world.dispatcher.calls(), 0);
    assert_eq!(world.call(&names, (2, "plain"), "{}").await, "ran");
    assert_eq!(denied("3").await, "approval");
    assert_eq!(world.call(&names, (4, "plain"), "{}").await, "limits");
    assert_eq!(world.dispatcher.calls(), 1);
}

/// A tool that takes its time, or gives much back.
struct Hungry(ToolSpec);

#[async_trait]
impl Tool for Hungry {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, _: Call<'_>) -> Result<Value, Failure> {
        const MIB: usize = 1024 * 1024;
        match self.0.name.as_str() {
            // Longer than a call may take.
            "slow" => tokio::time::sleep(Duration::from_millis(300)).await,
            "long" => return Ok("x".repeat(9 * MIB).into()),
            "heavy" => return Ok("x".repeat(7 * MIB).into()),
            _ => {}
        }
        Ok(Value::Null)
    }
}

/// What becomes of a call that takes too long, gives too much back, or more than its user has memory for.
async fn bounded(bounds: &'static [Bound]) -> Vec<String> {
    let names = ["slow", "long", "heavy"].map(str::to_owned);
    let hungry = |name: &String| {
        let spec = ToolSpec {
            name: name.clone(),
            description: String::new(),
            input_schema: json!({}),
            permission: "basic".into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        };
        Arc::new(Hungry(spec)) as Arc<dyn Tool>
    };
    let limits = Limits {
        tool_call_ms: 50,
        ..Limits::default()
    };
    let policy = Policy::shipped("production").unwrap();
    let who = (Role::User, Plan::Free);
    let tools = names.iter().map(hungry).collect();
    let mut world = World::new(tools, policy, who, limits).await;
    world.dispatcher = world.dispatcher.with_bounds(bounds);
    let account = world.runtime.account_of(world.ctx.user_id().unwrap(), 16);
    let mut outcomes = Vec::new();
    for (number, name) in names.iter().enumerate() {
        // Of the others the memory is nobody's.
        let entered = (name == "heavy").then(|| account.scope().enter());
        outcomes.push(world.call(&names, (number, name), "{}").await);
        drop(entered);
    }
    outcomes
}

#[tokio::test]
async fn each_limit_of_a_call_stops_what_is_its_own_and_none_can_be_left_out() {
    let golden = ["tool_timeout", "tool_failed", "memory_limit_exceeded"];
    assert_eq!(bounded(BOUNDS).await, golden);
    assert_eq!(
        golden.len(),
        BOUNDS.len(),
        "a new limit needs a tool that it alone stops"
    );
    for left_out in 0..BOUNDS.len() {
        let mut bounds = BOUNDS.to_vec();
        bounds.remove(left_out);
        let without = bounded(bounds.leak()).await;
        assert_eq!(
            without[left_out], "ran",
            "without {:?}: {without:?}",
            BOUNDS[left_out]
        );
    }
}

/// A tool of each permission, one that harms and one that asks.
const TOOLS: [(&str, &str, Risk, bool); 13] = [
    ("basic", "basic", Risk::Low, false),
    ("risky", "basic", Risk::High, false),
    ("asks", "basic", Risk::Low, true),
    ("artifacts", "artifacts", Risk::Low, false),
    ("memory", "memory", Risk::Low, false),
    ("web", "web", Risk::Medium, false),
    ("external", "external", Risk::Medium, false),
    ("analytics", "analytics", Risk::Low, false),
    ("data", "data_management", Risk::Medium, false),
    ("advanced", "advanced_optimization", Risk::Medium, false),
    ("system", "system_management", Risk::High, false),
    ("developer", "developer_tools", Risk::Medium, false),
    ("unruled", "teleport", Risk::Low, false),
];

/// By tool what becomes of a call, of user, developer, admin of each plan: `+` it ran, else the first letter of the layer
/// that refused it (`p`olicy) or made it wait (`a`pproval).
async fn decisions(environment: &str) -> Vec<String> {
    let mut rows = TOOLS.map(|(name, ..)| format!("{name:<10}")).to_vec();
    let names: Vec<String> = TOOLS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for plan in [Plan::Free, Plan::Pro, Plan::Enterprise] {
        for row in &mut rows {
            row.push(' ');
        }
        for role in [Role::User, Role::Developer, Role::Admin] {
            let tools = TOOLS.map(|(name, permission, risk, needs_approval)| {
                Arc::new(Plain(ToolSpec {
                    name: name.into(),
                    description: String::new(),
                    input_schema: json!({}),
                    permission: permission.into(),
                    risk,
                    idempotent: true,
                    needs_approval,
                })) as Arc<dyn Tool>
            });
            let policy = Policy::shipped(environment).unwrap();
            let world = World::new(tools.to_vec(), policy, (role, plan), Limits::default()).await;
            for (number, (row, name)) in rows.iter_mut().zip(&names).enumerate() {
                let outcome = world.call(&names, (number, name), "{}").await;
                row.push(match outcome.as_str() {
                    "ran" => '+',
                    layer => layer.chars().next().unwrap(),
                });
            }
        }
    }
    rows
}

#[tokio::test]
async fn the_golden_table_of_role_plan_tool_and_environment() {
    let outside_production = [
        "basic      +++ +++ +++",
        "risky      aaa aaa aaa",
        "asks       aaa aaa aaa",
        "artifacts  +++ +++ +++",
        "memory     +++ +++ +++",
        "web        ppp +++ +++",
        "external   ppp +++ +++",
        "analytics  +++ +++ +++",
        "data       ppp +++ +++",
        "advanced   ppp ppp +++",
        "system     ppp ppp ppa",
        "developer  p++ p++ p++",
        "unruled    ppp ppp ppp",
    ];
    assert_eq!(decisions("development").await, outside_production);
    assert_eq!(decisions("staging").await, outside_production);
    let in_production = outside_production.map(|row| match row.starts_with("developer") {
        true => "developer  ppp ppp ppp",
        false => row,
    });
    assert_eq!(decisions("production").await, in_production);
}
