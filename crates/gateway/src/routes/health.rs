//! Whether the server lives, is ready, and can reach what it needs.

use std::time::Instant;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netra_protocol::ErrorCode;
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
    /// What.
    name: &'static str,
    /// `ok` or `failed`.
    status: &'static str,
    /// How long the probe took, in milliseconds.
    duration_ms: u64,
    /// What the probe said when it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
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
/// For admins. 503 when something fails.
#[utoipa::path(get, path = "/health/dependencies", tag = "server",
    operation_id = "health_dependencies",
    responses((status = 200, description = "All can be used", body = Dependencies),
        (status = 503, description = "Something cannot be used", body = Dependencies)))]
pub(crate) async fn health_dependencies(
    State(gateway): State<Gateway>,
    _: Caller,
) -> Result<Response, Error> {
    let began = Instant::now();
    let problem = gateway
        .store
        .health()
        .await
        .err()
        .map(|error| error.to_string());
    let store = Dependency {
        name: "store",
        status: if problem.is_none() { "ok" } else { "failed" },
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        problem,
    };
    let status = store.status;
    let found = Answer(Dependencies {
        status,
        dependencies: vec![store],
    });
    if status == "ok" {
        return Ok(found.into_response());
    }
    let again = [(header::RETRY_AFTER, HeaderValue::from_static("1"))];
    Ok((StatusCode::SERVICE_UNAVAILABLE, again, found).into_response())
}
