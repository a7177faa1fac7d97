//! The client: posts a turn, and reads what the endpoint says, up to a bound in bytes and time.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use netra_context::{Secret, Trace, memory};
use netra_protocol::id::RunId;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, redirect};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::address::Endpoint;
use crate::answer::{Answer, JSON, LINES};
use crate::error::Error;
use crate::wire::Turn;

/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long an endpoint may take to hear that a run was cancelled.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// After these a turn is brought again that has not arrived.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// What endpoints know us by.
const USER_AGENT: &str = concat!("netra/", env!("CARGO_PKG_VERSION"));
/// Names the run in each request.
const RUN: &str = "netra-run";
/// Names the span that the turn is a part of.
const TRACEPARENT: &str = "traceparent";

/// Connections to endpoints. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoints {
    client: Client,
}

impl Endpoints {
    /// No connection yet.
    ///
    /// # Errors
    /// Where the system has no cryptography to speak of.
    pub fn new() -> reqwest::Result<Self> {
        let client = Client::builder()
            // A redirect could carry the turn and the secret to somebody else.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(USER_AGENT)
            .build()?;
        Ok(Self { client })
    }

    /// Posts a turn. `id` names it: the same turn has the same in each attempt; `trace` is the place in a trace that the
    /// endpoint may go on with. One that cannot have
    /// arrived, or that the endpoint puts off, is brought again a few times.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn ask(
        &self,
        endpoint: &Endpoint,
        secret: Option<&Secret>,
        (turn, id): (&Turn<'_>, &str),
        trace: Option<Trace>,
    ) -> Result<Answer, Error> {
        let until = Instant::now() + endpoint.timeout;
        let late = |_| Error::Timeout(endpoint.timeout);
        let body = body(turn)?;
        let mut pauses = PAUSES.iter();
        loop {
            let request = self
                .request(Method::POST, endpoint, secret, turn.run_id)?
                .header(CONTENT_TYPE, JSON)
                .header(ACCEPT, format!("{LINES}, {JSON}"))
                .header("idempotency-key", id)
                .body(body.clone());
            let request = match &trace {
                Some(trace) => request.header(TRACEPARENT, trace.header()),
                None => request,
            };
            let refused = match timeout_at(until, request.send()).await.map_err(late)? {
                Ok(response) => match judge(response.status().as_u16()) {
                    None => return Ok(Answer::of(response, endpoint.timeout, until)),
                    Some(refused) => refused,
                },
                Err(error) => {
                    let error = error.without_url();
                    tracing::debug!(%error, "an agent's endpoint did not answer");
                    if !error.is_connect() {
                        return Err(Error::CutOff);
                    }
                    Error::Unreachable
                }
            };
            match pauses.next().filter(|_| comes_again(&refused)) {
                Some(pause) => timeout_at(until, sleep(*pause)).await.map_err(late)?,
                None => return Err(refused),
            }
        }
    }

    /// Tells an endpoint that a run has stopped, so that it need not work on. Nobody waits for what
    /// it says.
    pub async fn cancel(&self, endpoint: &Endpoint, secret: Option<&Secret>, run: RunId) {
        if let Ok(request) = self.request(Method::DELETE, endpoint, secret, run) {
            timeout(CANCEL_LIMIT, request.send()).await.ok();
        }
    }

    fn request(
        &self,
        method: Method,
        endpoint: &Endpoint,
        secret: Option<&Secret>,
        run: RunId,
    ) -> Result<RequestBuilder, Error> {
        let request = self.client.request(method, endpoint.url.clone());
        let request = request.header(RUN, run.to_string());
        let Some(secret) = secret else {
            return Ok(request);
        };
        let said = if endpoint.header == AUTHORIZATION {
            HeaderValue::try_from(format!("Bearer {}", secret.expose()))
        } else {
            HeaderValue::try_from(secret.expose())
        };
        let mut said = said.map_err(|_| Error::Header)?;
        said.set_sensitive(true);
        Ok(request.header(endpoint.header.clone(), said))
    }
}

/// What is wrong with a status; nothing with a success.
fn judge(status: u16) -> Option<Error> {
    match status {
        200..=299 => None,
        300..=399 => Some(Error::Redirect),
        other => Some(Error::Status(other)),
    }
}

/// Whether a turn that was refused like this has not been worked on, and may be taken later.
fn comes_again(refused: &Error) -> bool {
    matches!(refused, Error::Unreachable | Error::Status(429 | 502 | 503))
}

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A turn as it is sent. Its results are as large as tools make them, so there has to be room.
fn body(turn: &Turn<'_>) -> Result<Bytes, Error> {
    let defect = |error: serde_json::Error| Error::Nonsense(error.to_string());
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, turn).map_err(defect)?;
    let _room = memory::reserve(counter.0)?;
    let mut text = Vec::with_capacity(counter.0);
    serde_json::to_writer(&mut text, turn).map_err(defect)?;
    Ok(text.into())
}
