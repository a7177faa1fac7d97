//! The process's metrics, for admins and for whoever holds the metrics token.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use netra_context::Right;

use crate::auth::same_secret;
use crate::auth::verifier::Presented;
use crate::error::Error;
use crate::extract::Visitor;
use crate::layers::credentials;
use crate::state::Gateway;

async fn check(gateway: &Gateway, headers: &HeaderMap) -> Result<(), Error> {
    let token = credentials(headers)?;
    if gateway
        .config
        .metrics_token
        .as_ref()
        .is_some_and(|known| same_secret(known.expose(), token))
    {
        return Ok(());
    }
    let passed = gateway.verifier.verify(Presented::of(token)).await?;
    if passed.verified.principal.rights.contains(Right::Metrics) {
        Ok(())
    } else {
        Err(Error::forbidden())
    }
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains("application/json"))
}

/// Reads the metrics of this node
///
/// As Prometheus text, or as JSON with `Accept: application/json`.
#[utoipa::path(get, path = "/api/metrics", tag = "server", operation_id = "metrics_get",
    responses((status = 200, description = "The metrics", content_type = "text/plain",
        body = String)))]
pub(crate) async fn metrics_get(
    State(gateway): State<Gateway>,
    visitor: Visitor,
) -> Result<Response, Error> {
    check(&gateway, &visitor.headers).await?;
    let json = wants_json(&visitor.headers);
    let kind = if json {
        "application/json"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    Ok((headers, (gateway.metrics)(json)).into_response())
}
