//! Events over SSE: those of one run, from its start to its last, or all of a user's.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::{ErrorBody, WireEvent};
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::error::Error;
use crate::incoming::{Received, follow};
use crate::sse::{Block, Reader};

/// A comment comes every 15 s: a stream on which nothing comes for so long is dead.
const SILENCE: Duration = Duration::from_secs(45);
/// How long the head of the answer may take.
const OPENING: Duration = Duration::from_secs(30);

type Body = BoxStream<'static, reqwest::Result<bytes::Bytes>>;

/// Reads events; when the connection breaks, it connects again and goes on after the last one.
pub struct EventStream {
    client: Client,
    path: String,
    threads: Vec<ThreadId>,
    deltas: bool,
    last_id: Option<String>,
    position: Option<u64>,
    body: Option<Body>,
    reader: Reader,
    backoff: Backoff,
    since: Option<Instant>,
    has_end: bool,
    ended: bool,
}

impl EventStream {
    pub(crate) fn of_run(client: Client, run: RunId) -> Self {
        Self::new(client, format!("/api/runs/{run}/events"), true)
    }

    pub(crate) fn of_user(client: Client) -> Self {
        Self::new(client, "/api/events".to_owned(), false)
    }

    fn new(client: Client, path: String, has_end: bool) -> Self {
        Self {
            client,
            path,
            threads: Vec::new(),
            deltas: true,
            last_id: None,
            position: None,
            body: None,
            reader: Reader::default(),
            backoff: Backoff::default(),
            since: None,
            has_end,
            ended: false,
        }
    }

    /// Leaves the pieces of messages out; whole messages come anyway.
    #[must_use]
    pub fn without_deltas(mut self) -> Self {
        self.deltas = false;
        self
    }

    /// Only events of these threads.
    #[must_use]
    pub fn of_threads(mut self, threads: impl IntoIterator<Item = ThreadId>) -> Self {
        self.threads = threads.into_iter().collect();
        self
    }

    /// Goes on after this: `<epoch>:<seq>` as [`EventStream::last_id`] gives it, or a number.
    #[must_use]
    pub fn after(mut self, id: impl Into<String>) -> Self {
        self.last_id = Some(id.into());
        self
    }

    /// How long to go on trying when the server is not there.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The id of the last event or position, to go on after it some other time.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; none after the last one of a run. Fails when another attempt would not help
    /// or patience is at its end. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Received>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(received)) => {
                    self.ended = self.has_end && received.event.event.kind.is_terminal();
                    self.backoff.reset();
                    return Ok(Some(received));
                }
                Ok(None) => {}
                Err(error) => {
                    self.body = None;
                    if !error.is_passing() {
                        return Err(error);
                    }
                    if let Some(since) = self.since.take() {
                        self.backoff.lasted(since.elapsed());
                    }
                    self.backoff.pause(error).await?;
                }
            }
        }
    }

    /// Connects, or reads a piece; an event where one is whole.
    async fn step(&mut self) -> Result<Option<Received>, Error> {
        if let Some(block) = self.reader.next_block() {
            return self.take(block);
        }
        let Some(body) = &mut self.body else {
            return self.connect().await.map(|()| None);
        };
        match timeout(SILENCE, body.next()).await {
            Ok(Some(Ok(bytes))) => {
                self.reader.push(&bytes);
                Ok(None)
            }
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Err(Error::Closed {
                code: 1006,
                reason: "the stream of events ended".into(),
            }),
            Err(_) => Err(Error::Silent),
        }
    }

    fn take(&mut self, block: Block) -> Result<Option<Received>, Error> {
        if block.event == "error" {
            let body: ErrorBody = serde_json::from_str(block.data()).map_err(Error::malformed)?;
            return Err(Error::refused(0, body.error, None));
        }
        if block.data.is_none() {
            self.position = place_of(&block.id);
            self.last_id = Some(block.id);
            return Ok(None);
        }
        let event: WireEvent = serde_json::from_str(block.data()).map_err(Error::malformed)?;
        self.position = Some(follow(self.position, event.prev, event.seq)?);
        let text = block.data.unwrap_or_default();
        if !block.id.is_empty() {
            self.last_id = Some(block.id);
        }
        Ok(Some(Received { event, text }))
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut request = self
            .client
            .request(Method::GET, &self.path)
            .query(&[("deltas", self.deltas)])
            .header("accept", "text/event-stream");
        if !self.threads.is_empty() {
            let threads: Vec<String> = self.threads.iter().map(ThreadId::to_string).collect();
            request = request.query(&[("threads", threads.join(","))]);
        }
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        let response = timeout(OPENING, self.client.send(request))
            .await
            .map_err(|_| Error::Silent)??;
        self.reader = Reader::default();
        // The first event must follow what was asked for; "now" and a run's start have no number.
        self.position = self.last_id.as_deref().and_then(place_of);
        self.since = Some(Instant::now());
        match response.status() {
            // The run has ended and all its events were read.
            StatusCode::NO_CONTENT => self.ended = true,
            _ => self.body = Some(response.bytes_stream().boxed()),
        }
        Ok(())
    }
}

/// The number in `<epoch>:<seq>`, or alone.
fn place_of(id: &str) -> Option<u64> {
    id.rsplit(':').next()?.parse().ok()
}
