//! Refuses what would wait long because everything does: whoever asks can come back, and those who were let in get on.

use axum::extract::{MatchedPath, Request};
use netra_protocol::ErrorCode;

use crate::error::Error;
use crate::layers::is_interface;
use crate::state::Gateway;

/// Whoever looks after the server asks here, overloaded or not.
pub(crate) const HEALTH: &str = "/health/";
/// Where work or a credential ends, or a person answers: what takes a load off the server or cannot wait. And where one
/// sees how it is.
const LET_IN: [(&str, &str); 9] = [
    // Without it a page that is opened cannot even say what is the matter.
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("DELETE", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/{id}"),
    ("DELETE", "/api/keys/{id}"),
    ("POST", "/api/runs/{id}/cancel"),
    ("POST", "/api/admin/runs/{id}/cancel"),
    ("POST", "/api/approvals/{id}"),
    ("GET", "/api/metrics"),
];
/// Those who are refused are told to come back after one of so many seconds, so that they do not come back together.
const WITHIN_S: u64 = 3;

/// Refuses a request where everybody waits too long for a turn, or for the database.
pub(crate) fn check_request(gateway: &Gateway, request: &Request) -> Result<(), Error> {
    let path = request.uri().path();
    if !is_interface(path) || path.starts_with(HEALTH) {
        return Ok(());
    }
    let (method, route) = (request.method(), request.extensions().get::<MatchedPath>());
    if route.is_some_and(|route| LET_IN.contains(&(method.as_str(), route.as_str()))) {
        return Ok(());
    }
    check(gateway, !request.method().is_safe())
}

/// The same for what a frame of a socket asks for.
pub(crate) fn check(gateway: &Gateway, to_write: bool) -> Result<(), Error> {
    if !gateway.lag.is_high(to_write) && !gateway.store.is_overloaded(to_write) {
        return Ok(());
    }
    metrics::counter!("netra_overloaded_total").increment(1);
    let message = "The server has more to do than it can; try again.";
    let [drawn] = gateway.runtime.secret_bytes::<1>();
    let after = 1 + u64::from(drawn) % WITHIN_S;
    Err(Error::new(ErrorCode::Overloaded, message).retry_after(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_in_is_what_there_is() {
        let document = serde_json::to_value(crate::openapi()).unwrap();
        for (method, path) in LET_IN {
            let operation = &document["paths"][path][method.to_lowercase()];
            assert!(operation.is_object(), "{method} {path}");
        }
    }
}
