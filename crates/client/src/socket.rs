//! One WebSocket: frames out, acks and events in, with the check that nothing is missing.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use netra_protocol::frame::{
    AuthRefresh, ClientFrame, Delivered, Empty, MAX_INBOUND_BYTES, RunCancel, RunStart,
    ServerFrame, Subscribe,
};
use netra_protocol::id::{RunId, ThreadId};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::{ANSWER, Client, new_key, retry_after};
use crate::error::Error;
use crate::incoming::{Incoming, Ready, Received, follow, parse};

/// How long opening a socket may take, to the first frame; and its goodbye.
const OPENING: Duration = Duration::from_secs(10);

/// The ack of `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subscribed {
    /// Names the log.
    pub epoch: String,
    /// Where the subscription begins.
    pub after: u64,
    /// The last event's number.
    pub latest_seq: u64,
}

/// The ack of `run.start`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunAccepted {
    /// The run.
    pub run_id: RunId,
    /// Its conversation.
    pub thread_id: ThreadId,
}

/// How a socket is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The client's token in a header.
    Bearer,
    /// A ticket, as browsers need it.
    Ticket,
}

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An open WebSocket.
pub struct Socket {
    stream: Stream,
    ready: Ready,
    token: Option<String>,
    next_id: u64,
    position: Option<u64>,
    early: VecDeque<Received>,
    /// Why the server ended the subscription, told while something else was waited for.
    ended: Option<Error>,
    silence: Silence,
}

/// Until when something must come, and whether the server was asked if it is there.
#[derive(Debug, Clone, Copy)]
struct Silence {
    until: Instant,
    asked: bool,
}

impl Silence {
    /// A server may be silent for its heartbeat, and a sixth for the way.
    fn allowed(heartbeat: Duration) -> Self {
        Self {
            until: Instant::now() + heartbeat + heartbeat / 6,
            asked: false,
        }
    }

    /// It was asked, and has a third of its heartbeat to answer.
    fn asked(heartbeat: Duration) -> Self {
        Self {
            until: Instant::now() + heartbeat / 3,
            asked: true,
        }
    }
}

impl Socket {
    /// Opens a socket with the client's token and waits for `connection_ready`.
    pub async fn connect(client: &Client) -> Result<Self, Error> {
        Self::connect_with(client, Credential::Bearer).await
    }

    /// The same with a choice of the credential. A token that is refused is renewed where it can be.
    pub async fn connect_with(client: &Client, credential: Credential) -> Result<Self, Error> {
        let token = client.fresh_token().await?;
        match Box::pin(Self::open(client, credential, token.clone())).await {
            Err(error) if error.wants_token() && client.is_renewable() => {
                let token = client.other_token(token.as_deref()).await?;
                Box::pin(Self::open(client, credential, token)).await
            }
            opened => opened,
        }
    }

    async fn open(
        client: &Client,
        credential: Credential,
        token: Option<String>,
    ) -> Result<Self, Error> {
        // http becomes ws, https becomes wss.
        let mut url = format!("ws{}/ws", client.base().trim_start_matches("http"));
        if credential == Credential::Ticket {
            url.push_str("?ticket=");
            url.push_str(&client.ws_ticket().await?.ticket);
        }
        let mut request = url.into_client_request().map_err(handshake)?;
        if let (Credential::Bearer, Some(token)) = (credential, &token) {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::Malformed("the token is no header value".into()))?;
            request.headers_mut().insert("authorization", value);
        }
        let opening = async {
            // Small frames must not wait for the answer to the one before them.
            let no_delay = true;
            let (mut stream, _) =
                tokio_tungstenite::connect_async_with_config(request, None, no_delay)
                    .await
                    .map_err(handshake)?;
            let ready = read_ready(&mut stream).await?;
            Ok::<_, Error>((stream, ready))
        };
        let (stream, ready) = Box::pin(timeout(OPENING, opening))
            .await
            .map_err(|late| Error::Unreachable(Box::new(late)))??;
        Ok(Self {
            silence: Silence::allowed(ready.heartbeat),
            stream,
            ready,
            token,
            next_id: 1,
            position: None,
            early: VecDeque::new(),
            ended: None,
        })
    }

    /// The first frame.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Everything up to here was received, or does not pass the filter; none before `subscribe`.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// Whether every event that was received has been taken.
    pub(crate) fn has_no_early(&self) -> bool {
        self.early.is_empty()
    }

    /// Asks for events, in place of what was asked for before: events of the subscription before
    /// it that were not taken yet are dropped.
    pub async fn subscribe(&mut self, subscribe: Subscribe) -> Result<Subscribed, Error> {
        let ack = self.request(ClientFrame::Subscribe(subscribe)).await?;
        let subscribed: Subscribed =
            serde_json::from_value(Value::Object(ack)).map_err(Error::malformed)?;
        self.early.clear();
        self.ended = None;
        self.position = Some(subscribed.after);
        Ok(subscribed)
    }

    /// Starts a run. Where its answer is lost with the socket, the same `idempotency_key` on the next
    /// one finds the run that was made; without one of the caller's it has a key that nobody else has.
    pub async fn run_start(&mut self, mut start: RunStart) -> Result<RunAccepted, Error> {
        start.idempotency_key.get_or_insert_with(new_key);
        let ack = self.request(ClientFrame::RunStart(start)).await?;
        serde_json::from_value(Value::Object(ack)).map_err(Error::malformed)
    }

    /// Asks a run to end.
    pub async fn run_cancel(&mut self, run_id: RunId) -> Result<(), Error> {
        self.request(ClientFrame::RunCancel(RunCancel { run_id }))
            .await
            .map(drop)
    }

    /// Goes on with a new access token of the same user.
    pub async fn auth_refresh(&mut self, token: String) -> Result<(), Error> {
        let refresh = AuthRefresh {
            token: token.clone(),
        };
        self.request(ClientFrame::AuthRefresh(refresh)).await?;
        self.token = Some(token);
        Ok(())
    }

    /// The access token that the server knows of.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Waits for a `pong`: all that the server sent before it has been received then.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.request(ClientFrame::Ping(Empty {})).await.map(drop)
    }

    /// Tells the server how far the client is; not answered.
    pub async fn delivered(&mut self, seq: u64) -> Result<(), Error> {
        self.send(&ClientFrame::Delivered(Delivered { seq }), None)
            .await
    }

    /// Sends a frame and waits for its answer; events that come before it are kept.
    pub async fn request(&mut self, frame: ClientFrame) -> Result<Map<String, Value>, Error> {
        let id = Value::from(self.next_id);
        self.next_id += 1;
        self.send(&frame, Some(&id)).await?;
        // Pings and events show that the line is alive, not that there will be an answer.
        let answer = Box::pin(timeout(ANSWER, self.answer(id)));
        answer.await.map_err(|_| Error::Silent)?
    }

    async fn answer(&mut self, id: Value) -> Result<Map<String, Value>, Error> {
        loop {
            match self.read().await? {
                Incoming::Event(received) => self.early.push_back(*received),
                Incoming::Frame(ServerFrame::Ack { id: of, fields }) if of == id => {
                    return Ok(fields);
                }
                Incoming::Frame(ServerFrame::Pong { id: of }) if of == id => {
                    return Ok(Map::new());
                }
                Incoming::Frame(ServerFrame::Error { id: of, error }) if of == id => {
                    return Err(Error::refused(0, error, None));
                }
                Incoming::Frame(ServerFrame::Error { id, error }) if id.is_null() => {
                    self.ended = Some(Error::refused(0, error, None));
                }
                // Answers to frames that were sent as text are the caller's business only when it
                // reads with `next_incoming`.
                Incoming::Frame(_) => {}
            }
        }
    }

    async fn send(&mut self, frame: &ClientFrame, id: Option<&Value>) -> Result<(), Error> {
        let mut value = serde_json::to_value(frame).map_err(Error::malformed)?;
        if let (Some(object), Some(id)) = (value.as_object_mut(), id) {
            object.insert("id".into(), id.clone());
        }
        let text = value.to_string();
        // It would cost the socket, and the next one as well.
        if text.len() > MAX_INBOUND_BYTES {
            return Err(Error::TooLong { bytes: text.len() });
        }
        self.send_text(text).await
    }

    /// Sends any text as one frame.
    pub async fn send_text(&mut self, text: impl Into<String>) -> Result<(), Error> {
        self.send_message(Message::text(text.into())).await
    }

    /// Sends bytes as one binary frame, which the contract does not have.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        self.send_message(Message::binary(bytes)).await
    }

    async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        let sent = timeout(ANSWER, self.stream.send(message)).await;
        sent.map_err(|_| Error::Silent)?.map_err(broken)
    }

    /// The next event. Fails with [`Error::Gap`] when one before it is missing, and when the server
    /// ends the subscription. Cancel safe.
    pub async fn next_event(&mut self) -> Result<Received, Error> {
        if let Some(received) = self.early.pop_front() {
            return Ok(received);
        }
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        loop {
            match self.read().await? {
                Incoming::Event(received) => return Ok(*received),
                Incoming::Frame(ServerFrame::Error { id, error }) if id.is_null() => {
                    return Err(Error::refused(0, error, None));
                }
                Incoming::Frame(_) => {}
            }
        }
    }

    /// The next frame of any kind. Cancel safe.
    pub async fn next_incoming(&mut self) -> Result<Incoming, Error> {
        match self.early.pop_front() {
            Some(received) => Ok(Incoming::Event(Box::new(received))),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Incoming, Error> {
        let incoming = parse(self.read_text().await?)?;
        match &incoming {
            Incoming::Event(received) => {
                let (prev, seq) = (received.event.prev, received.event.seq);
                self.position = Some(follow(self.position, prev, seq)?);
            }
            Incoming::Frame(ServerFrame::Position { seq }) => self.position = Some(*seq),
            Incoming::Frame(_) => {}
        }
        Ok(incoming)
    }

    /// The next text. A server that is silent for longer than it may be is asked whether it is
    /// there; without an answer the socket is dead. Time in which nobody reads does not count.
    async fn read_text(&mut self) -> Result<String, Error> {
        loop {
            // What waits is taken first, however late it is.
            let Ok(next) = timeout_at(self.silence.until, self.stream.next()).await else {
                if self.silence.asked {
                    return Err(Error::Silent);
                }
                // Its answer, like any frame, ends the silence.
                self.silence = Silence::asked(self.ready.heartbeat);
                self.send_message(Message::Ping(Vec::new().into())).await?;
                continue;
            };
            self.silence = Silence::allowed(self.ready.heartbeat);
            if let Some(text) = text_of(next)? {
                return Ok(text);
            }
        }
    }

    /// Says goodbye and waits for the server's answer.
    pub async fn close(mut self) -> Result<(), Error> {
        let goodbye = async {
            self.stream.close(None).await.map_err(broken)?;
            while let Some(Ok(_)) = self.stream.next().await {}
            Ok(())
        };
        timeout(OPENING, goodbye).await.map_err(|_| Error::Silent)?
    }
}

async fn read_ready(stream: &mut Stream) -> Result<Ready, Error> {
    let text = loop {
        if let Some(text) = text_of(stream.next().await)? {
            break text;
        }
    };
    match serde_json::from_str(&text).map_err(Error::malformed)? {
        ServerFrame::ConnectionReady {
            connection_id,
            user_id,
            server_version,
            heartbeat_interval_ms,
            epoch,
            latest_seq,
            ..
        } => Ok(Ready {
            connection_id,
            user_id,
            server_version,
            epoch,
            latest_seq,
            heartbeat: Duration::from_millis(heartbeat_interval_ms),
        }),
        other => Err(Error::Malformed(format!(
            "expected connection_ready: {other:?}"
        ))),
    }
}

/// The text of a message; none for what is only a sign of life.
fn text_of(message: Option<Result<Message, tungstenite::Error>>) -> Result<Option<String>, Error> {
    match message {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Close(frame))) => {
            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                (frame.code.into(), frame.reason.as_str().to_owned())
            });
            Err(Error::Closed { code, reason })
        }
        // Pings are answered by the library as the stream is read.
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
        Some(Ok(Message::Binary(_))) => Err(Error::Malformed("a binary frame".into())),
        Some(Err(error)) => Err(broken(error)),
        None => Err(Error::Closed {
            code: 1006,
            reason: String::new(),
        }),
    }
}

/// An error on an open socket: it is gone.
fn broken(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Io(_)
        | tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
            | tungstenite::error::ProtocolError::SendAfterClosing,
        ) => Error::Closed {
            code: 1006,
            reason: error.to_string(),
        },
        other => Error::malformed(other),
    }
}

/// An error before the socket was open: often an answer of the contract over plain HTTP.
fn handshake(error: tungstenite::Error) -> Error {
    match error {
        tungstenite::Error::Http(response) => {
            let status = response.status().as_u16();
            let body = response.body().as_deref().unwrap_or_default();
            match serde_json::from_slice::<netra_protocol::ErrorBody>(body) {
                Ok(body) => Error::refused(status, body.error, retry_after(response.headers())),
                Err(_) => Error::Unexpected {
                    status,
                    body: String::from_utf8_lossy(body).into_owned(),
                },
            }
        }
        other => Error::Unreachable(Box::new(other)),
    }
}
