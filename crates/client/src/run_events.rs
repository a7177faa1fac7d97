//! The events of one run over SSE, from its start to its last.

use futures::StreamExt as _;
use futures::stream::BoxStream;
use netra_protocol::WireEvent;
use netra_protocol::id::RunId;
use reqwest::{Method, StatusCode};

use crate::backoff::Backoff;
use crate::client::{Client, refusal};
use crate::error::Error;
use crate::socket::Received;
use crate::sse::Reader;

type Body = BoxStream<'static, reqwest::Result<bytes::Bytes>>;

/// Reads a run's events; when the connection breaks, it connects again and goes on after the last.
pub struct RunEvents {
    client: Client,
    run: RunId,
    last_id: Option<String>,
    deltas: bool,
    body: Option<Body>,
    reader: Reader,
    backoff: Backoff,
    ended: bool,
}

impl RunEvents {
    pub(crate) fn new(client: Client, run: RunId) -> Self {
        Self {
            client,
            run,
            last_id: None,
            deltas: true,
            body: None,
            reader: Reader::default(),
            backoff: Backoff::default(),
            ended: false,
        }
    }

    /// Leaves the pieces of messages out; whole messages come anyway.
    #[must_use]
    pub fn without_deltas(mut self) -> Self {
        self.deltas = false;
        self
    }

    /// Goes on after the event with this id, `<epoch>:<seq>` or a number.
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

    /// The id of the last event, to go on after it some other time.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; none after the run's last one. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Received>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            match self.step().await {
                Ok(Some(received)) => {
                    self.ended = received.event.event.kind.is_terminal();
                    self.backoff.reset();
                    return Ok(Some(received));
                }
                Ok(None) => {}
                Err(error) => self.pause(error).await?,
            }
        }
    }

    /// Connects, or reads a piece; an event where one is whole.
    async fn step(&mut self) -> Result<Option<Received>, Error> {
        if let Some(block) = self.reader.next_block() {
            let event: WireEvent = serde_json::from_str(&block.data).map_err(Error::malformed)?;
            self.last_id = Some(block.id);
            return Ok(Some(Received {
                event,
                text: block.data,
            }));
        }
        let Some(body) = &mut self.body else {
            return self.connect().await.map(|()| None);
        };
        match body.next().await {
            Some(Ok(bytes)) => {
                self.reader.push(&bytes);
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(Error::Closed {
                code: 1006,
                reason: "the stream of events ended".into(),
            }),
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let mut request = self
            .client
            .request(Method::GET, &format!("/api/runs/{}/events", self.run))
            .query(&[("deltas", self.deltas)])
            .header("accept", "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await?;
        match response.status() {
            // The run has ended and all its events were read.
            StatusCode::NO_CONTENT => self.ended = true,
            StatusCode::OK => {
                self.reader = Reader::default();
                self.body = Some(response.bytes_stream().boxed());
            }
            _ => return Err(refusal(response).await),
        }
        Ok(())
    }

    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        self.body = None;
        if !error.is_passing() {
            return Err(error);
        }
        match self.backoff.next_wait(error.retry_after()) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}
