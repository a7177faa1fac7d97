//! The layers as a golden table: which one refuses what. Without any one of them the table is another.

use std::sync::Arc;

use async_trait::async_trait;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_protocol::Failure;
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::{MessageId, RunId, ThreadId, ToolCallId};
use netra_protocol::limits::Limits;
use netra_protocol::tool::Risk;
use netra_store::{AuditKey, Journal, NewRun, NewUser, Secrets, Store, Target};
use netra_worker::{AnalysisPool, ScriptPool};
use serde_json::{Map, Value, json};

use super::*;
use crate::{Call, Error, Infra, Past, Policy, Registry, Tool, ToolExecutorFactory, ToolSpec};

/// The tools of these tests need no worker.
fn no_workers() -> netra_worker::Config {
    netra_worker::Config {
        program: "/nonexistent".into(),
        workers: 1,
        warm: 0,
    }
}

/// What is called, and what becomes of it. The run may make five calls; a call of `rare` is permitted once an hour.
const GOLDEN: &[(&str, &str, &str)] = &[
    ("plain", "{}", "ran"),
    ("unlisted", "{}", "agent_list"),
    ("forbidden", "{}", "policy"),
    ("plain", r#"{"n": "three"}"#, "schema"),
    ("rare", "{}", "ran"),
    ("rare", "{}", "rate"),
    ("careful", "{}", "approval"),
    ("plain", "{}", "ran"),
    ("plain", "{}", "ran"),
    ("plain", "{}", "limits"),
];

const POLICY: &str = r#"
    permit (principal, action == Netra::Action::"call", resource)
    unless { ["forbidden", "rare"].contains(resource.name) };
    @rate("1/hour")
    permit (principal, action == Netra::Action::"call", resource == Netra::Tool::"rare");
    permit (principal, action == Netra::Action::"call_unasked", resource) unless { resource.needs_approval };
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

async fn user(runtime: &Runtime, store: &Store) -> UserExecutionContext {
    let console = UserExecutionContext::for_background(runtime, BackgroundKind::Console);
    let new = NewUser {
        name: "ada".into(),
        role: Role::User,
        plan: Plan::Free,
        password_hash: None,
    };
    let user = store.user_create(&console, new).await.unwrap();
    let limits = Limits {
        tool_calls: 5,
        ..Limits::default()
    };
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
        events: Vec::new(),
    }
}

/// What becomes of each call of the table where these are the layers.
async fn table(layers: &'static [Layer]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let (runtime, hub) = (Runtime::new(), Hub::new());
    let config = netra_store::Config {
        dir: dir.path().to_owned(),
        audit_key: AuditKey::new([7; 32]),
    };
    let store = Store::open(&runtime, config, hub.clone()).unwrap();
    let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
    let tools = ["plain", "unlisted", "forbidden", "rare", "careful"]
        .map(tool)
        .to_vec();
    let policy = Policy::of(&[("golden.cedar".into(), POLICY.into())], "production").unwrap();
    let ctx = user(&runtime, &store).await;
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "t".into(),
    };
    let run = store
        .run_create(&ctx, target, new_run(&runtime), None)
        .await
        .unwrap()
        .value;
    let factory = ToolExecutorFactory::new(Infra {
        registry: Arc::new(Registry::new(tools, policy).unwrap()),
        store: store.clone(),
        secrets: Secrets::ephemeral(&store),
        analyses: AnalysisPool::new(no_workers()),
        scripts: ScriptPool::new(no_workers()),
    });
    let emitter = Arc::new(bridge.create_emitter(&run));
    let dispatcher = factory
        .create(&ctx, emitter, Vec::new(), 0)
        .with_layers(layers);
    let allowed_tools = ["plain", "forbidden", "rare", "careful"].map(str::to_owned);
    let caller = Caller {
        agent: "a",
        step: 1,
        allowed_tools: &allowed_tools,
    };
    let mut outcomes = Vec::new();
    for (number, (name, arguments, _)) in GOLDEN.iter().enumerate() {
        let request = Request {
            id: runtime.new_id(ToolCallId::from_parts),
            name: (*name).into(),
            arguments: serde_json::from_str(arguments).unwrap(),
            purpose: None,
            past: Past::of(&Journal::default(), number.to_string()),
        };
        outcomes.push(match dispatcher.call(&ctx, &caller, request).await {
            Ok(_) => "ran".to_owned(),
            Err(Error::Waiting) => "approval".to_owned(),
            Err(Error::Run(failure)) => match failure.code {
                ErrorCode::ToolCallLimitExceeded => "limits".to_owned(),
                _ => failure.message,
            },
            Err(Error::Call(failure)) => {
                let layer = failure
                    .details
                    .as_ref()
                    .and_then(|details| details["layer"].as_str());
                layer.map_or(failure.message.clone(), str::to_owned)
            }
        });
    }
    outcomes
}

#[tokio::test]
async fn each_layer_refuses_what_is_its_own_and_none_can_be_left_out() {
    let golden: Vec<&str> = GOLDEN.iter().map(|(_, _, outcome)| *outcome).collect();
    assert_eq!(table(LAYERS).await, golden);
    let names = [
        "agent_list",
        "policy",
        "schema",
        "limits",
        "rate",
        "approval",
    ];
    assert_eq!(
        names.len(),
        LAYERS.len(),
        "a new layer needs a row that it alone refuses"
    );
    for (left_out, name) in names.into_iter().enumerate() {
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
