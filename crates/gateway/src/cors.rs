//! What lets a page on the allow-list read the answers: CORS. A page that is not on it is refused before (`origin.rs`), and
//! the server's own needs none of this.
//!
//! No answer allows credentials of the browser (`Access-Control-Allow-Credentials`): a page of another origin signs in
//! with tokens that it holds itself, and the refresh cookie is for the server's own page alone.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use crate::auth::origin;
use crate::config::Config;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// What the contract reads of a request.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept, Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Api-Key, traceparent, tracestate",
);
/// What the contract tells in headers.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Disposition, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id, traceparent",
);
/// How long a browser may go by what it was told, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The page of another origin on the allow-list that sent the request, as it has to be named again.
pub(crate) fn listed(config: &Config, headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let page = headers.get(header::ORIGIN)?;
    let named = page.to_str().ok()?;
    // The list first: mostly it is empty, and then nothing has to be parsed.
    if !config.allowed_origins.have(named) {
        return None;
    }
    let public = config.public_origin.as_ref();
    let is_own = origin::is_own(headers, uri)
        || public.is_some_and(|public| public.eq_ignore_ascii_case(named));
    (!is_own).then(|| page.clone())
}

/// Whether a browser asks before it sends what a page wants to send. No operation of the contract has this method.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    *method == Method::OPTIONS && asks && origin::origin(headers).is_some()
}

/// The answer to that, which says nothing of whether there is anything at the address.
pub(crate) fn preflight() -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    answer
}

/// Lets the page read an answer.
pub(crate) fn allow(headers: &mut HeaderMap, page: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
}
