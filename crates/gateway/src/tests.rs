//! The edge as a whole, over a real store and engine.

mod accounts;
mod admin;
mod approvals;
mod connections;
mod keys;
mod memory;
mod requests;
mod slow_sockets;
mod sockets;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_engine::{Agents, EmbeddedAgent, ExecutionEngineFactory};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_model::Models;
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_store::{NewUser, Store};
use netra_tools::{Policy, Registry, ToolExecutorFactory};
use netra_worker::{AnalysisPool, ScriptPool};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt as _;

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

impl Edge {
    fn new(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new();
        let hub = Hub::new();
        let place = netra_store::Config {
            dir: dir.path().to_owned(),
            audit_key: netra_store::AuditKey::new([7; 32]),
        };
        let store = Store::open(&runtime, place, hub.clone()).unwrap();
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let registry = Arc::new(
            Registry::new(
                vec![approvals::tool()],
                Policy::shipped("production").unwrap(),
            )
            .unwrap(),
        );
        let engine = engine(&runtime, &store, &bridge, registry.clone());
        let keys = Keys::ephemeral(&runtime);
        let parts = {
            let (runtime, store, keys) = (runtime.clone(), store.clone(), keys.clone());
            move || Parts {
                runtime: runtime.clone(),
                store: store.clone(),
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
            _dir: dir,
        }
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
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

/// The same with another header.
fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}
