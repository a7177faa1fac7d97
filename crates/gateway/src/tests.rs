//! The edge as a whole, over a real store and engine.

mod accounts;
mod admin;
mod approvals;
mod connections;
mod cors;
mod end_users;
mod http2;
mod issuers;
mod keys;
mod leaving;
mod lists;
mod load;
mod memory;
mod parsers;
mod people;
mod requests;
mod rules;
mod slow_sockets;
mod sockets;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use netra_context::runtime::{Clock, SystemClock};
use netra_context::{BackgroundKind, Lag, Runtime, UserExecutionContext};
use netra_engine::{Agents, EmbeddedAgent, ExecutionEngineFactory};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_model::Models;
use netra_protocol::Timestamp;
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_protocol::limits::Limits;
use netra_store::{Entry, Fanout, NewUser, Store};
use netra_tools::{Policy, Registry, ToolExecutorFactory};
use netra_worker::{AnalysisPool, ScriptPool};
use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::address::Peer;
use crate::{Config, Keys, Parts, router};

const ECHO: EmbeddedAgent = EmbeddedAgent {
    name: "echo",
    files: &[(
        "agent.toml",
        "description = \"Gives back what it was given.\"\nkind = \"native\"\n",
    )],
};
/// Calls the tool that asks a person.
const ASKER: EmbeddedAgent = EmbeddedAgent {
    name: "asker",
    files: &[
        (
            "agent.toml",
            "description = \"Asks.\"\nkind = \"model\"\ninstructions = \"i.md\"\n\
             tools = [\"consent\"]\n",
        ),
        ("i.md", "Ask."),
    ],
};
const PASSWORD: &str = "correct horse battery";

/// A server without a listener, with a data folder of its own.
struct Edge {
    runtime: Runtime,
    store: Store,
    keys: Keys,
    router: Router,
    parts: Box<dyn Fn() -> Parts>,
    gate: Arc<Gate>,
    /// Nobody looks at it but a test.
    lag: Lag,
    _dir: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn refused(&self) -> (u16, &str) {
        (self.status.as_u16(), self.code())
    }
}

fn engine(
    runtime: &Runtime,
    store: &Store,
    bridge: &WebSocketBridgeFactory,
    registry: Arc<Registry>,
) -> ExecutionEngineFactory {
    let models = Models::new(netra_model::Config::default()).unwrap();
    let models = models
        .with(Arc::new(approvals::asking_model()))
        .with_default("test/model".parse().unwrap());
    let models = Arc::new(models);
    let agents = Arc::new(Agents::load(&[ECHO, ASKER], None, &registry, &models));
    // No agent of these tests needs a worker.
    let workers = || netra_worker::Config {
        program: "/bin/false".into(),
        workers: 1,
        warm: 0,
    };
    let tools = ToolExecutorFactory::new(netra_tools::Infra {
        registry,
        store: store.clone(),
        secrets: netra_store::Secrets::ephemeral(store),
        analyses: AnalysisPool::new(workers()),
        scripts: ScriptPool::new(workers()),
    });
    ExecutionEngineFactory::new(netra_engine::Infra {
        runtime: runtime.clone(),
        store: store.clone(),
        bridge: bridge.clone(),
        tools,
        models,
        agents,
        scripts: ScriptPool::new(workers()),
        endpoints: netra_endpoint::Endpoints::new().unwrap(),
        config: netra_engine::Config::default(),
    })
}

/// The machine's clock, moved ahead by a test, in seconds.
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let ahead = self.0.load(Ordering::SeqCst);
        SystemClock.now().plus_millis(ahead * 1_000)
    }
}

/// Holds the store's writer up at the end of its next commit, as long as it is closed.
#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn close(&self) {
        *self.is_closed.lock() = true;
    }

    fn open(&self) {
        *self.is_closed.lock() = false;
        self.opened.notify_all();
    }
}

struct Gated(Arc<Gate>, Arc<Hub>);

impl Fanout for Gated {
    fn committed(&self, entries: &[Arc<Entry>]) {
        let mut is_closed = self.0.is_closed.lock();
        while *is_closed {
            self.0.opened.wait(&mut is_closed);
        }
        drop(is_closed);
        self.1.committed(entries);
    }
}

impl Edge {
    fn new(config: Config) -> Self {
        Self::with_clock(config, Arc::default())
    }

    fn with_clock(config: Config, ahead: Arc<AtomicI64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::with_clock(Box::new(Ahead(ahead)));
        let hub = Hub::new();
        let place = netra_store::Config {
            dir: dir.path().to_owned(),
            audit_key: netra_store::AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let gate = Arc::new(Gate::default());
        let gated = Arc::new(Gated(gate.clone(), hub.clone()));
        let store = Store::open(&runtime, place, gated).unwrap();
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let registry = Arc::new(
            Registry::new(
                vec![approvals::tool()],
                Policy::shipped("production").unwrap(),
            )
            .unwrap(),
        );
        let engine = engine(&runtime, &store, &bridge, registry.clone());
        let (keys, lag) = (
            Keys::ephemeral(&runtime),
            Lag::new(std::time::Duration::from_millis(20)),
        );
        let parts = {
            let (runtime, store, keys) = (runtime.clone(), store.clone(), keys.clone());
            let lag = lag.clone();
            move || Parts {
                runtime: runtime.clone(),
                store: store.clone(),
                lag: lag.clone(),
                bridge: bridge.clone(),
                engine: engine.clone(),
                tools: registry.clone(),
                secrets: netra_store::Secrets::ephemeral(&store),
                tool_servers: Arc::new(()),
                keys: keys.clone(),
                metrics: Arc::new(|json| {
                    if json {
                        "{}".into()
                    } else {
                        "metric 1\n".into()
                    }
                }),
                history: Arc::new(Default::default),
                config: config.clone(),
            }
        };
        let router = router(parts());
        Self {
            runtime,
            store,
            keys,
            router,
            parts: Box::new(parts),
            gate,
            lag,
            _dir: dir,
        }
    }

    /// Other limits for everybody than those that nobody has set.
    fn limit(&self, change: impl FnOnce(&mut Limits)) {
        let mut limits = Limits::default();
        change(&mut limits);
        self.store.set_limits(limits);
    }

    fn operator(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Console)
    }

    async fn user(&self, name: &str, role: Role) -> (UserId, String) {
        let new = NewUser {
            name: name.into(),
            role,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = self.store.user_create(&self.operator(), new).await.unwrap();
        let now = self.runtime.now();
        let token = self
            .keys
            .access_token(user.id, None, now, std::time::Duration::from_secs(600));
        (user.id, token.unwrap())
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(request(Method::GET, path, Some(token), None))
            .await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send(request(Method::POST, path, token, Some(body)))
            .await
    }
}

/// A request from this machine.
fn request(method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "127.0.0.1:1");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let mut request = request.body(body).unwrap();
    let peer = Peer::of("127.0.0.1".parse().unwrap());
    request.extensions_mut().insert(peer);
    request
}

/// The same with another header.
fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}
