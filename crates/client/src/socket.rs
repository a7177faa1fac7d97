//! One WebSocket: frames out, acks and events in, with the check that nothing is missing.

use std::collections::VecDeque;

use futures::{SinkExt as _, StreamExt as _};
use netra_protocol::WireEvent;
use netra_protocol::error::ErrorDetail;
use netra_protocol::frame::{
    AuthRefresh, ClientFrame, Delivered, Empty, RunCancel, RunStart, ServerFrame, Subscribe,
};
use netra_protocol::id::{ConnectionId, RunId, ThreadId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::Client;
use crate::error::Error;

/// The first frame: whose socket it is, and where the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// This socket.
    pub connection_id: ConnectionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The server's version.
    pub server_version: String,
    /// Names the log.
    pub epoch: String,
    /// The last event's number.
    pub latest_seq: u64,
}

/// An event, and the text that it came as.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The event.
    pub event: WireEvent,
    /// As on the wire.
    pub text: String,
}

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

/// Anything that the server sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// An event.
    Event(Box<Received>),
    /// Anything else.
    Frame(ServerFrame),
}

/// How a socket is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The client's token in a header.
    Bearer,
    /// A ticket, as browsers need it.
    Ticket,
}

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    ready: Ready,
    next_id: u64,
    position: Option<u64>,
    early: VecDeque<Received>,
}

impl Socket {
    /// Opens a socket with the client's token and waits for `connection_ready`.
    pub async fn connect(client: &Client) -> Result<Self, Error> {
        Self::connect_with(client, Credential::Bearer).await
    }

    /// The same with a choice of the credential.
    pub async fn connect_with(client: &Client, credential: Credential) -> Result<Self, Error> {
        // http becomes ws, https becomes wss.
        let mut url = format!("ws{}/ws", client.base().trim_start_matches("http"));
        if credential == Credential::Ticket {
            url.push_str("?ticket=");
            url.push_str(&client.ws_ticket().await?.ticket);
        }
        let mut request = url.into_client_request().map_err(handshake)?;
        if let (Credential::Bearer, Some(token)) = (credential, client.token()) {
            let value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::Malformed("the token is no header value".into()))?;
            request.headers_mut().insert("authorization", value);
        }
        let (mut stream, _) = Box::pin(tokio_tungstenite::connect_async(request))
            .await
            .map_err(handshake)?;
        let text = read_text(&mut stream).await?;
        let ready = match serde_json::from_str(&text).map_err(Error::malformed)? {
            ServerFrame::ConnectionReady {
                connection_id,
                user_id,
                server_version,
                epoch,
                latest_seq,
                ..
            } => Ready {
                connection_id,
                user_id,
                server_version,
                epoch,
                latest_seq,
            },
            other => {
                return Err(Error::Malformed(format!(
                    "expected connection_ready: {other:?}"
                )));
            }
        };
        Ok(Self {
            stream,
            ready,
            next_id: 1,
            position: None,
            early: VecDeque::new(),
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
        self.position = Some(subscribed.after);
        Ok(subscribed)
    }

    /// Starts a run.
    pub async fn run_start(&mut self, start: RunStart) -> Result<RunAccepted, Error> {
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
        self.request(ClientFrame::AuthRefresh(AuthRefresh { token }))
            .await
            .map(drop)
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
                    return Err(refused(error));
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
        self.send_text(value.to_string()).await
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
        self.stream.send(message).await.map_err(broken)
    }

    /// The next event. Fails with [`Error::Gap`] when one before it is missing. Cancel safe.
    pub async fn next_event(&mut self) -> Result<Received, Error> {
        if let Some(received) = self.early.pop_front() {
            return Ok(received);
        }
        loop {
            if let Incoming::Event(received) = self.read().await? {
                return Ok(*received);
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
        let text = read_text(&mut self.stream).await?;
        let incoming = parse(text)?;
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

    /// Says goodbye and waits for the server's answer.
    pub async fn close(mut self) -> Result<(), Error> {
        self.stream.close(None).await.map_err(broken)?;
        while let Some(Ok(_)) = self.stream.next().await {}
        Ok(())
    }
}

/// The new position after an event, or what is missing before it.
fn follow(position: Option<u64>, prev: u64, seq: u64) -> Result<u64, Error> {
    match position {
        Some(expected) if expected != prev => Err(Error::Gap {
            expected,
            found: prev,
        }),
        _ => Ok(seq),
    }
}

/// Tells events from other frames by the number that only events and positions have.
fn parse(text: String) -> Result<Incoming, Error> {
    #[derive(Deserialize)]
    struct Head {
        event_id: Option<Value>,
    }
    let head: Head = serde_json::from_str(&text).map_err(Error::malformed)?;
    if head.event_id.is_none() {
        return serde_json::from_str(&text)
            .map(Incoming::Frame)
            .map_err(Error::malformed);
    }
    let event = serde_json::from_str(&text).map_err(Error::malformed)?;
    Ok(Incoming::Event(Box::new(Received { event, text })))
}

async fn read_text(
    stream: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
) -> Result<String, Error> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Close(frame))) => {
                let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                    (frame.code.into(), frame.reason.as_str().to_owned())
                });
                return Err(Error::Closed { code, reason });
            }
            // Pings are answered by the library as the stream is read.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Binary(_))) => {
                return Err(Error::Malformed("a binary frame".into()));
            }
            Some(Err(error)) => return Err(broken(error)),
            None => {
                return Err(Error::Closed {
                    code: 1006,
                    reason: String::new(),
                });
            }
        }
    }
}

fn refused(detail: ErrorDetail) -> Error {
    Error::Refused {
        status: 0,
        detail: Box::new(detail),
        retry_after: None,
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
                Ok(body) => Error::Refused {
                    status,
                    detail: Box::new(body.error),
                    retry_after: None,
                },
                Err(_) => Error::Unexpected {
                    status,
                    body: String::from_utf8_lossy(body).into_owned(),
                },
            }
        }
        other => Error::Unreachable(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_event_is_noticed() {
        assert_eq!(follow(Some(3), 3, 7).unwrap(), 7);
        assert_eq!(follow(None, 3, 7).unwrap(), 7);
        assert!(matches!(
            follow(Some(3), 5, 7),
            Err(Error::Gap {
                expected: 3,
                found: 5
            })
        ));
    }

    #[test]
    fn events_and_frames_are_told_apart() {
        let position = parse(r#"{"type":"position","seq":9}"#.into()).unwrap();
        assert_eq!(position, Incoming::Frame(ServerFrame::Position { seq: 9 }));
        let text = serde_json::json!({
            "prev": 1, "type": "agent_thinking", "seq": 2, "ts": "2026-11-22T18:00:00.000000Z",
            "event_id": "evt_00000000000000000000000001",
            "thread_id": "thr_00000000000000000000000001",
            "run_id": "run_00000000000000000000000001",
            "data": {"message": "hm"},
        })
        .to_string();
        let Incoming::Event(received) = parse(text.clone()).unwrap() else {
            panic!("an event")
        };
        assert_eq!((received.event.prev, received.event.seq), (1, 2));
        assert_eq!(received.text, text);
        assert!(matches!(parse("nonsense".into()), Err(Error::Malformed(_))));
    }
}
