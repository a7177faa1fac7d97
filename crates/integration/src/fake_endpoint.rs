//! An agent's HTTP endpoint whose turns a test answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{self, BoxStream, StreamExt as _};
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// What the endpoint answers to one turn.
#[derive(Debug, Clone)]
pub enum Said {
    /// One step, as JSON.
    Step(Value),
    /// Several steps, a line each.
    Steps(Vec<Value>),
    /// These steps, and then nothing until the caller goes away.
    Hang(Vec<Value>),
    /// These steps, and then the connection breaks.
    Die(Vec<Value>),
    /// This status with this type and body.
    Raw(u16, &'static str, Vec<u8>),
    /// A body without end, in pieces of this many bytes.
    Endless(usize),
}

/// One request that the endpoint got.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST` for a turn, `DELETE` for the news that a run has stopped.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// The turn; null where there is no body.
    pub turn: Value,
}

impl Request {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Respond = Arc<dyn Fn(&Value) -> BoxFuture<'static, Said> + Send + Sync>;

#[derive(Clone)]
struct Shared {
    respond: Respond,
    seen: watch::Sender<Vec<Request>>,
    sent: Arc<AtomicUsize>,
}

/// Answers turns, and remembers them.
pub struct FakeEndpoint {
    url: String,
    seen: watch::Receiver<Vec<Request>>,
    sent: Arc<AtomicUsize>,
    runtime: Runtime,
}

impl FakeEndpoint {
    /// Answers each turn with what `respond` makes of it.
    pub async fn start(respond: impl Fn(&Value) -> Said + Send + Sync + 'static) -> Result<Self> {
        Self::start_later(move |turn| {
            let said = respond(turn);
            async move { said }
        })
        .await
    }

    /// The same with an answer that is waited for.
    pub async fn start_later<F>(
        respond: impl Fn(&Value) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Said> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/agent", listener.local_addr()?);
        let (sender, seen) = watch::channel(Vec::new());
        let sent = Arc::new(AtomicUsize::new(0));
        let shared = Shared {
            respond: Arc::new(move |turn| respond(turn).boxed()),
            seen: sender,
            sent: Arc::clone(&sent),
        };
        let router = Router::new().fallback(answer).with_state(shared);
        let runtime = Runtime::new();
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Listener, async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = axum::serve(listener, router) => {}
            }
        });
        Ok(Self {
            url,
            seen,
            sent,
            runtime,
        })
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port, as a secret is bound to them.
    pub fn place(&self) -> &str {
        let rest = self.url.trim_start_matches("http://");
        rest.split('/').next().unwrap_or_default()
    }

    /// What it got so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.borrow().clone()
    }

    /// How many bytes of bodies without end have been taken from it.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until it got so many requests, and gives them.
    pub async fn until_seen(&self, count: usize) -> Result<Vec<Request>> {
        let mut seen = self.seen.clone();
        let enough = seen.wait_for(|seen| seen.len() >= count);
        Ok(tokio::time::timeout(crate::PATIENCE, enough)
            .await??
            .clone())
    }
}

impl Drop for FakeEndpoint {
    fn drop(&mut self) {
        self.runtime.shutdown().cancel();
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, Infallible> {
    let turn = serde_json::from_slice(&body).unwrap_or_default();
    let request = Request {
        method: method.clone(),
        headers,
        turn,
    };
    let turn = request.turn.clone();
    shared.seen.send_modify(|seen| seen.push(request));
    if method != Method::POST {
        return Ok(response(204, JSON, Body::empty()));
    }
    Ok(match (shared.respond)(&turn).await {
        Said::Step(step) => response(200, JSON, Body::from(step.to_string())),
        Said::Steps(steps) => response(200, LINES, Body::from_stream(lines(steps))),
        Said::Hang(steps) => {
            let stream = lines(steps).chain(stream::pending());
            response(200, LINES, Body::from_stream(stream))
        }
        Said::Die(steps) => {
            let broken = stream::once(async { Err(std::io::Error::other("dies on purpose")) });
            response(200, LINES, Body::from_stream(lines(steps).chain(broken)))
        }
        Said::Raw(status, kind, body) => response(status, kind, Body::from(body)),
        Said::Endless(bytes) => {
            let sent = shared.sent;
            let pieces = stream::repeat_with(move || {
                sent.fetch_add(bytes, Ordering::SeqCst);
                Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes]))
            });
            response(200, JSON, Body::from_stream(pieces))
        }
    })
}

fn lines(steps: Vec<Value>) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let line = |step: Value| Ok(Bytes::from(format!("{step}\n")));
    stream::iter(steps.into_iter().map(line)).boxed()
}

fn response(status: u16, kind: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert("content-type", kind);
    }
    if status == 302 {
        let place = axum::http::HeaderValue::from_static("http://127.0.0.1:1/");
        response.headers_mut().insert("location", place);
    }
    response
}
