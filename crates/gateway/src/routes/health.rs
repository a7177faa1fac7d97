//! Whether the server lives, is ready, and can reach what it needs.

use std::time::Instant;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netra_context::UserExecutionContext;
use netra_protocol::ErrorCode;
use netra_protocol::tool::ToolServerState;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;
use crate::extract::{Caller, Visitor};
use crate::state::Gateway;

/// The state and nothing else.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `live` or `ready`.
    status: &'static str,
}

/// One thing that the server needs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dependency {
    /// `store`, `redis` where it is configured, `workers`, `models`, or `tool_server NAME` for each that is configured.
    name: String,
    /// `ok` or `failed`.
    status: &'static str,
    /// How long the probe took, in milliseconds.
    duration_ms: u64,
    /// What the probe said when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Dependency {
    fn new(name: impl Into<String>, began: Instant, problem: Option<String>) -> Self {
        Self {
            name: name.into(),
            status: word(problem.is_none()),
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            problem,
        }
    }
}

const fn word(good: bool) -> &'static str {
    if good { "ok" } else { "failed" }
}

/// All things that the server needs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Dependencies {
    /// `ok` when all are.
    status: &'static str,
    /// One by one.
    dependencies: Vec<Dependency>,
}

/// Says that the process answers
#[utoipa::path(get, path = "/health/live", tag = "server", operation_id = "health_live",
    responses((status = 200, description = "It does", body = Health)), security(()))]
pub(crate) async fn health_live(_: Visitor) -> Answer<Health> {
    Answer(Health { status: "live" })
}

/// Says whether new work is taken
#[utoipa::path(get, path = "/health/ready", tag = "server", operation_id = "health_ready",
    responses((status = 200, description = "It is", body = Health)), security(()))]
pub(crate) async fn health_ready(
    State(gateway): State<Gateway>,
    _: Visitor,
) -> Result<Answer<Health>, Error> {
    if gateway.engine.is_draining() || gateway.runtime.shutdown().is_cancelled() {
        return Err(Error::new(
            ErrorCode::Draining,
            "The server is about to stop.",
        ));
    }
    Ok(Answer(Health { status: "ready" }))
}

/// Probes what the server needs
///
/// For admins. 503 when something fails. The store is written to, a worker reads a script; models that fail again and
/// again, and tool servers that are away, are known without a probe.
#[utoipa::path(get, path = "/health/dependencies", tag = "server",
    operation_id = "health_dependencies",
    responses((status = 200, description = "All can be used", body = Dependencies),
        (status = 503, description = "Something cannot be used", body = Dependencies)))]
pub(crate) async fn health_dependencies(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Response, Error> {
    let (store, workers) = tokio::join!(store(&gateway), workers(&gateway, &caller.ctx));
    let mut dependencies = vec![store];
    dependencies.extend(redis(&gateway));
    dependencies.extend([workers, models(&gateway)]);
    dependencies.extend(tool_servers(&gateway));
    let good = dependencies.iter().all(|one| one.problem.is_none());
    let found = Answer(Dependencies {
        status: word(good),
        dependencies,
    });
    if good {
        return Ok(found.into_response());
    }
    let again = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
    Ok((StatusCode::SERVICE_UNAVAILABLE, again, found).into_response())
}

async fn store(gateway: &Gateway) -> Dependency {
    let began = Instant::now();
    let problem = gateway.store.health().await.err();
    Dependency::new("store", began, problem.map(|error| error.to_string()))
}

/// What the store knows by itself: it tries again and again.
fn redis(gateway: &Gateway) -> Option<Dependency> {
    let reached = gateway.store.redis()?;
    Some(Dependency::new("redis", Instant::now(), reached.err()))
}

async fn workers(gateway: &Gateway, ctx: &UserExecutionContext) -> Dependency {
    let began = Instant::now();
    let problem = gateway.engine.probe_workers(ctx).await.err();
    Dependency::new("workers", began, problem)
}

/// No call is made: it would cost something, and those that are made tell.
fn models(gateway: &Gateway) -> Dependency {
    let left_alone = gateway.engine.models().left_alone();
    let names: Vec<String> = left_alone.iter().map(ToString::to_string).collect();
    let problem = (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("left alone for a while after failures in a row: {names}")
    });
    Dependency::new("models", Instant::now(), problem)
}

fn tool_servers(gateway: &Gateway) -> impl Iterator<Item = Dependency> {
    gateway.tool_servers.list().into_iter().map(|server| {
        let away = server.state == ToolServerState::Away;
        let problem = away.then(|| server.problem.unwrap_or_else(|| "it is away".into()));
        let name = format!("tool_server {}", server.name);
        Dependency::new(name, Instant::now(), problem)
    })
}
