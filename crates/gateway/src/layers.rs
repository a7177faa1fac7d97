//! The layers around the handlers. Their order, and why, stands in `router.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use netra_context::Rights;
use netra_context::runtime::TaskKind;
use netra_protocol::ErrorCode;
use netra_protocol::id::RequestId;
use netra_store::Counted;

use crate::address::{self, Peer};
use crate::auth::origin;
use crate::auth::verifier::{Presented, Verified, is_api_key};
use crate::charge;
use crate::cors;
use crate::error::Error;
use crate::limit::Verdict;
use crate::overload::{self, HEALTH};
use crate::serve::places::Place;
use crate::state::Gateway;
use crate::trace::{self, TRACEPARENT};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_NETRA_USER: HeaderName = HeaderName::from_static("x-netra-user");

/// Gives the request its id, catches panics, writes the body of errors, counts and logs.
pub(crate) async fn finish(
    State(gateway): State<Gateway>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let request_id = gateway.runtime.new_id(RequestId::from_parts);
    let trace = trace::of(request.headers(), &gateway.runtime);
    request.extensions_mut().insert(request_id);
    request.extensions_mut().insert(trace);
    find_client(&gateway, &mut request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let span = trace::span(&gateway.runtime, trace, &method, route);
    let is_api = request.uri().path().starts_with("/api/");
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let answered =
        answered.unwrap_or_else(|_| Error::internal("the request's code panicked").into_response());
    let mut response = with_error_body(&gateway, request_id, answered);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(request_id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(value) = trace::header(&trace) {
        headers.insert(TRACEPARENT, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    if is_api {
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
    record(&method, route, response.status(), began);
    trace::end(span, (&method, route), response.status(), request_id);
    tracing::debug!(
        request.id = %request_id, trace.id = format!("{:032x}", trace.id()), http.method = %method, http.route = route,
        http.status = response.status().as_u16(), "request answered",
    );
    response
}

/// Puts the client's address in place of a trusted proxy's.
fn find_client(gateway: &Gateway, request: &mut Request) {
    let trusted = &gateway.config.trusted_proxies;
    let peer = request.extensions().get::<Peer>();
    let Some(peer) = peer.copied().filter(|_| !trusted.is_empty()) else {
        return;
    };
    let client = address::of_client(peer, request.headers(), trusted);
    request.extensions_mut().insert(client);
}

/// The method as a label. Clients may invent methods; labels stay for ever.
fn label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let known = KNOWN.into_iter().find(|known| *known == method.as_str());
    known.unwrap_or("other")
}

fn record(method: &Method, route: &str, status: StatusCode, began: Instant) {
    let counter = metrics::counter!(
        "netra_http_requests_total",
        "method" => label(method),
        "route" => route.to_owned(),
        "status" => status.as_str().to_owned(),
    );
    counter.increment(1);
    let seconds = began.elapsed().as_secs_f64();
    metrics::histogram!("netra_http_request_duration_seconds", "route" => route.to_owned())
        .record(seconds);
}

/// Puts the contract's body into an answer that carries an error, and into the few that the
/// framework refuses by itself.
fn with_error_body(gateway: &Gateway, request_id: RequestId, mut response: Response) -> Response {
    let carried = response.extensions_mut().remove::<Error>();
    let error = match carried {
        Some(error) => error,
        None if is_error(response.status()) && !is_json(response.headers()) => {
            of_framework(response.status())
        }
        None => return response,
    };
    error.log(request_id);
    let mut answer = error.answer(request_id, &gateway.config.docs_base);
    for (name, value) in response.headers() {
        // Of the empty answer, what others have put there stays: rate headers, cookies, `Allow`.
        if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// The framework refuses in plain words; a JSON body is a handler's own.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn of_framework(status: StatusCode) -> Error {
    match status.as_u16() {
        404 => Error::no_route(),
        405 => Error::no_method(),
        413 => crate::json::too_large(0),
        415 => crate::json::unsupported("This content type is not accepted here."),
        500.. => Error::internal(format!("the framework answered {status}")),
        _ => Error::invalid("The request is not understood."),
    }
}

/// Parameters that carry credentials in other systems. Addresses end up in logs and histories.
const CREDENTIALS: [&str; 14] = [
    "access_token",
    "api_key",
    "api-key",
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "jwt",
    "key",
    "password",
    "refresh_token",
    "session",
    "ticket",
    "token",
];

fn credential_in_query(uri: &Uri) -> bool {
    let Some(query) = uri.query() else {
        return false;
    };
    form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let is_ticket = name == "ticket" && uri.path() == "/ws";
        !is_ticket && (CREDENTIALS.contains(&name.as_str()) || value.starts_with("ntr_"))
    })
}

pub(crate) fn is_interface(path: &str) -> bool {
    path == "/ws" || path.starts_with("/api/") || path.starts_with(HEALTH)
}

fn check_host(gateway: &Gateway, request: &Request) -> Result<(), Error> {
    let host = origin::checked_host(request.version(), request.headers(), request.uri())?;
    // Without credentials of its own, `--dev` must not be reached by a page whose name was made to
    // resolve to the loopback address.
    if gateway.config.dev && !host.is_some_and(origin::Host::is_loopback) {
        let message = "With --dev the server answers to this machine's own names only.";
        return Err(Error::new(ErrorCode::OriginRefused, message));
    }
    Ok(())
}

fn check_request(gateway: &Gateway, request: &Request) -> Result<(), Error> {
    check_host(gateway, request)?;
    if !is_interface(request.uri().path()) {
        return Ok(());
    }
    if credential_in_query(request.uri()) {
        return Err(Error::unauthenticated(
            "Credentials do not belong into an address.",
        ));
    }
    origin::check(&gateway.config, request.headers(), request.uri())
}

/// Refuses foreign pages, and credentials where they do not belong; lets pages on the allow-list read the answers.
pub(crate) async fn guard(
    State(gateway): State<Gateway>,
    request: Request,
    next: Next,
) -> Response {
    let is_interface = is_interface(request.uri().path());
    let page = cors::listed(&gateway.config, request.headers(), request.uri());
    let page = page.filter(|_| is_interface);
    let mut response = match (check_request(&gateway, &request), &page) {
        (Err(refused), _) => refused.into_response(),
        (Ok(()), Some(_)) if cors::is_preflight(request.method(), request.headers()) => {
            cors::preflight()
        }
        (Ok(()), _) => next.run(request).await,
    };
    let headers = response.headers_mut();
    if let Some(page) = page {
        cors::allow(headers, page);
    }
    if is_interface && !gateway.config.allowed_origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

fn peer(request: &Request) -> Option<Peer> {
    request.extensions().get::<Peer>().copied()
}

/// Counts a request of somebody who is not signed in, by address.
async fn count_stranger(gateway: &Gateway, peer: Option<Peer>) -> Result<Option<Verdict>, Error> {
    let Some(peer) = peer else {
        return Ok(None);
    };
    let key = address::counted(peer);
    let limit = gateway.config.requests_per_address.get();
    let (store, now) = (&gateway.store, gateway.runtime.now());
    let counted = (key, Counted::Strangers(key));
    let verdict = gateway.strangers.count(store, counted, limit, now).await;
    if verdict.allowed {
        Ok(Some(verdict))
    } else {
        Err(verdict.refusal())
    }
}

/// Lets through who need not be signed in, as often as their address may ask.
pub(crate) async fn count_strangers(
    State(gateway): State<Gateway>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    // Whoever looks after the server asks often and from one place.
    if request.uri().path().starts_with(HEALTH) {
        return Ok(next.run(request).await);
    }
    let verdict = count_stranger(&gateway, peer(&request)).await?;
    let mut response = next.run(request).await;
    // A refusal by another count says where that one stands.
    if response.status() != StatusCode::TOO_MANY_REQUESTS
        && let Some(verdict) = verdict
    {
        verdict.write_to(response.headers_mut());
    }
    Ok(response)
}

/// Refuses what would wait too long, and carries out what changes something in a task of its own, so that it is done to
/// its end where the client hangs up meanwhile: a session that the store has ended must be forgotten here too.
///
/// The task holds the place of its connection, so these are never more than connections.
pub(crate) async fn to_the_end(
    State(gateway): State<Gateway>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    overload::check_request(&gateway, &request)?;
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let carried_out = gateway.runtime.spawn(TaskKind::Part, next.run(request));
    match carried_out.await {
        Ok(Some(response)) => Ok(response),
        Ok(None) => Err(Error::internal("the request's code panicked")),
        Err(error) => Err(Error::internal(error)),
    }
}

/// The access token or API key of the `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The credentials that the request's headers carry, if any: a bearer token or key, or an API key
/// in `X-Api-Key`. Both at once are refused, so that nobody has to know which one counts.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let Some(key) = headers.get(X_API_KEY) else {
        return Ok(bearer(headers));
    };
    if headers.contains_key(header::AUTHORIZATION) || headers.get_all(X_API_KEY).iter().count() > 1
    {
        let message = "A request carries one credential: `Authorization` or `X-Api-Key`.";
        return Err(Error::unauthenticated(message));
    }
    match key.to_str().map(str::trim) {
        Ok(key) if is_api_key(key) => Ok(Some(key)),
        _ => Err(Error::unauthenticated("`X-Api-Key` takes an API key.")),
    }
}

/// The same, where there has to be one.
pub(crate) fn credentials(headers: &HeaderMap) -> Result<&str, Error> {
    let missing = || Error::unauthenticated("The credentials are missing or not valid.");
    presented(headers)?.ok_or_else(missing)
}

/// Whom a back end acts for, where the request says so.
pub(crate) fn acts_for(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut named = headers.get_all(X_NETRA_USER).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        // One that is no text is as wrong as one with spaces in it.
        (Some(subject), None) => Ok(Some(subject.to_str().unwrap_or(" "))),
        (Some(_), Some(_)) => {
            Err(Error::invalid("A request acts for one user.").breaks("X-Netra-User", "once"))
        }
    }
}

/// Lets through whose credentials have all these rights, before anything is looked up or read.
pub(crate) async fn authorise(
    needed: Rights,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let verified = request.extensions().get::<Arc<Verified>>();
    if verified.is_some_and(|verified| needed.is_within(verified.principal.rights)) {
        Ok(next.run(request).await)
    } else {
        Err(Error::forbidden())
    }
}

/// What is said to whoever has no good credentials: they are counted by address, and a refusal says no word on what was
/// guessed. A key that has asked too often, and what failed here, is nobody's guess.
async fn counted_refusal(gateway: &Gateway, peer: Option<Peer>, error: Error) -> Error {
    let status = error.status();
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return error;
    }
    match count_stranger(gateway, peer).await {
        Ok(Some(verdict)) => {
            let mut headers = HeaderMap::new();
            verdict.write_to(&mut headers);
            error.with_headers(headers)
        }
        Ok(None) => error,
        Err(refusal) => refusal,
    }
}

/// Lets signed-in users through, as often as they may, and tells them how often that is. From here
/// on everything is on the user's account.
pub(crate) async fn authenticate(
    State(gateway): State<Gateway>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let headers = request.headers();
    let presented = match credentials(headers) {
        Ok(text) => Presented {
            text,
            acts_for: acts_for(headers)?,
        },
        Err(error) => return Err(counted_refusal(&gateway, peer(&request), error).await),
    };
    let passed = match gateway.verifier.verify(presented).await {
        Ok(passed) => passed,
        Err(error) => return Err(counted_refusal(&gateway, peer(&request), error).await),
    };
    if let Some(place) = request.extensions().get::<Arc<Place>>() {
        place.keep();
    }
    let (verdict, account) = charge::admit(&gateway, &passed).await?;
    request.extensions_mut().insert(passed.verified);
    let answering = next.run(request);
    let answered = gateway.runtime.on_account(account.scope(), answering).await;
    let mut response = answered.map(|body| charge::body(account, body));
    verdict.write_to(response.headers_mut());
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_seen() {
        for (uri, seen) in [
            ("/ws?ticket=x", false),
            ("/ws?token=x", true),
            ("/ws?ticket=x&access_token=y", true),
            ("/api/events?ticket=x", true),
            ("/api/runs?Access%5FToken=x", true),
            ("/api/runs?q=ntr_abc", true),
            ("/api/runs?limit=3&cursor=tok", false),
        ] {
            assert_eq!(credential_in_query(&uri.parse().unwrap()), seen, "{uri}");
        }
    }

    #[test]
    fn a_handlers_own_refusal_is_no_frameworks() {
        let own = (StatusCode::SERVICE_UNAVAILABLE, axum::Json("found")).into_response();
        assert!(is_error(own.status()) && is_json(own.headers()));
        let frameworks = (StatusCode::SERVICE_UNAVAILABLE, "found").into_response();
        assert!(!is_json(frameworks.headers()));
    }

    #[test]
    fn invented_methods_make_no_labels() {
        assert_eq!(label(&Method::PATCH), "PATCH");
        for invented in ["M1XXX", "get", "TRACE", "CONNECT"] {
            let method = Method::from_bytes(invented.as_bytes()).unwrap();
            assert_eq!(label(&method), "other", "{invented}");
        }
    }

    #[test]
    fn a_request_carries_one_credential() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            let found = presented(&headers).map(|found| found.map(str::to_owned));
            found.map_err(|error| error.code())
        };
        let refused = Err(ErrorCode::Unauthenticated);
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&[("x-api-key", " ntr_a")]), Ok(Some("ntr_a".into())));
        assert_eq!(
            of(&[("authorization", "Bearer ntr_a")]),
            Ok(Some("ntr_a".into()))
        );
        assert_eq!(of(&[("x-api-key", "a.b.c")]), refused);
        assert_eq!(
            of(&[("x-api-key", "ntr_a"), ("x-api-key", "ntr_a")]),
            refused
        );
        assert_eq!(
            of(&[("x-api-key", "ntr_a"), ("authorization", "Bearer ntr_a")]),
            refused
        );
    }

    #[test]
    fn the_bearer_scheme_is_the_only_one() {
        for (value, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer(&headers), expected, "{value}");
        }
    }
}
