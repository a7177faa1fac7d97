//! One open socket: a single task that reads frames, answers them, and sends events.
//!
//! Because one task does both, the order that the contract promises needs no lock: the answer to
//! `subscribe` is written before the new subscription is first asked for events, and the old one
//! is dropped before that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::SinkExt as _;
use netra_context::Limit;
use netra_events::{Delivery, Subscription};
use netra_protocol::frame::{MAX_INBOUND_BYTES, SUBPROTOCOL, ServerFrame};
use netra_protocol::id::{ConnectionId, RequestId};
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::connections::{Kind, NodePlace};
use super::frames;
use super::stall::unless_stalled;
use crate::auth::verifier::{Expiry, Revoked, Verified};
use crate::error::Error;
use crate::extract;
use crate::serve::places::Place;
use crate::state::Gateway;

mod operations;

/// Events that are handed to the connection before it is flushed, in bytes.
const CHUNK: usize = 64 * 1024;
/// How long a closing socket waits for the client to close too.
const GOODBYE: Duration = Duration::from_secs(2);
/// The window in which messages are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Pings that may go unanswered.
const MISSED_PINGS: u8 = 2;

/// Why a socket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The other side has gone.
    Gone,
    /// The client closed; the answer is on its way.
    Normal,
    Draining,
    TooBig,
    BrokenFrame,
    NotText,
    Unauthenticated,
    RateLimited,
    Stalled,
    TooMany,
    Internal,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Normal => "normal",
            Self::Draining => "draining",
            Self::TooBig => "too_big",
            Self::BrokenFrame => "broken_frame",
            Self::NotText => "not_text",
            Self::Unauthenticated => "unauthenticated",
            Self::RateLimited => "rate_limited",
            Self::Stalled => "stalled",
            Self::TooMany => "too_many",
            Self::Internal => "internal",
        }
    }

    /// The limit that has ended it, where one has.
    const fn limit(self) -> Option<Limit> {
        match self {
            Self::RateLimited => Some(Limit::Messages),
            Self::TooMany => Some(Limit::Sockets),
            _ => None,
        }
    }

    const fn close(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Gone | Self::Normal => return None,
            Self::Draining => (1001, "the server is about to stop; resume elsewhere"),
            Self::TooBig => (1009, "a message is at most 64 KiB"),
            Self::BrokenFrame => (1002, "a frame broke the protocol"),
            Self::NotText => (1007, "a text is UTF-8"),
            Self::Internal => (1011, "the server failed"),
            Self::Unauthenticated => (4001, "the token has expired or was revoked"),
            Self::RateLimited => (4003, "too many messages"),
            Self::Stalled => (4008, "took nothing for too long; resume"),
            Self::TooMany => (4009, "too many sockets"),
        })
    }
}

/// What happened next.
enum Turn {
    End(End),
    Revoked(Result<Revoked, broadcast::error::RecvError>),
    Heartbeat,
    Inbound(Option<Result<Message, axum::Error>>),
    Events(Result<Vec<Delivery>, netra_events::Error>),
}

pub(super) struct Socket {
    gateway: Gateway,
    stream: WebSocket,
    verified: Arc<Verified>,
    subscription: Option<Subscription>,
    revoked: broadcast::Receiver<Revoked>,
    recent: VecDeque<Instant>,
    unanswered_pings: u8,
    // Both are kept over all turns: registering them anew at each would cost more than the turn.
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// None for a key without an end.
    expiry: Expiry,
    /// Counts the bytes that the client has taken.
    connection: Arc<Place>,
}

/// Serves a socket until it ends.
pub(super) async fn serve(
    gateway: Gateway,
    stream: WebSocket,
    verified: Arc<Verified>,
    _node: NodePlace,
    connection: Arc<Place>,
) {
    let user = verified.principal.user_id;
    let mine =
        gateway
            .connections
            .place_of_user(Kind::Socket, user, verified.principal.limits.sockets);
    let mut socket = Socket {
        revoked: gateway.verifier.revoked(),
        shutdown: Box::pin(gateway.runtime.shutdown().clone().cancelled_owned()),
        expiry: verified.expiry(gateway.runtime.now()),
        gateway,
        stream,
        connection,
        verified,
        subscription: None,
        recent: VecDeque::new(),
        unanswered_pings: 0,
    };
    let end = if mine.is_some() {
        socket.converse().await
    } else {
        End::TooMany
    };
    if let Some(limit) = end.limit() {
        socket.gateway.runtime.limit_hit(user, limit);
    }
    metrics::counter!("netra_sockets_closed_total", "reason" => end.as_str()).increment(1);
    Box::pin(socket.say_goodbye(end)).await;
}

/// The next events, or never where there is no subscription.
async fn next_events(
    subscription: &mut Option<Subscription>,
) -> Result<Vec<Delivery>, netra_events::Error> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

impl Socket {
    async fn converse(&mut self) -> End {
        match self.turns().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    // What happens seldom is boxed: a socket at rest holds what its largest turn would need.
    async fn turns(&mut self) -> Result<std::convert::Infallible, End> {
        // The credentials were verified before revocations were listened to.
        Box::pin(self.look_up_again()).await?;
        Box::pin(self.greet()).await?;
        let every = self.gateway.config.heartbeat;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            match self.next_turn(&mut heartbeat).await {
                Turn::End(end) => return Err(end),
                Turn::Revoked(revoked) => Box::pin(self.on_revoked(revoked)).await?,
                Turn::Heartbeat => Box::pin(self.on_heartbeat()).await?,
                Turn::Inbound(None) => return Err(End::Gone),
                Turn::Inbound(Some(Err(error))) => return Err(of_broken_read(&error)),
                Turn::Inbound(Some(Ok(message))) => Box::pin(self.on_message(message)).await?,
                Turn::Events(Ok(batch)) => self.send_events(&batch).await?,
                Turn::Events(Err(error)) => {
                    Box::pin(self.on_lost_subscription(error.into())).await?;
                }
            }
        }
    }

    async fn next_turn(&mut self, heartbeat: &mut tokio::time::Interval) -> Turn {
        tokio::select! {
            biased;
            () = &mut self.shutdown => Turn::End(End::Draining),
            revoked = self.revoked.recv() => Turn::Revoked(revoked),
            () = self.expiry.passed() => Turn::End(End::Unauthenticated),
            _ = heartbeat.tick() => Turn::Heartbeat,
            message = self.stream.recv() => Turn::Inbound(message),
            batch = next_events(&mut self.subscription) => Turn::Events(batch),
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let runtime = &self.gateway.runtime;
        let ctx = self.context(runtime.new_id(RequestId::from_parts));
        let latest_seq = match self.gateway.store.latest_seq(&ctx).await {
            Ok(latest_seq) => latest_seq,
            Err(error) => {
                Error::from(error).log(ctx.request_id());
                return Err(End::Internal);
            }
        };
        let heartbeat_ms = self.gateway.config.heartbeat.as_millis();
        let ready = ServerFrame::ConnectionReady {
            connection_id: runtime.new_id(ConnectionId::from_parts),
            user_id: self.verified.principal.user_id,
            protocol: SUBPROTOCOL.to_owned(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_interval_ms: u64::try_from(heartbeat_ms).unwrap_or(u64::MAX),
            epoch: self.gateway.store.epoch().to_owned(),
            latest_seq,
        };
        self.send_frame(&ready).await
    }

    fn context(&self, request_id: RequestId) -> netra_context::UserExecutionContext {
        extract::context(
            &self.gateway,
            self.verified.principal.clone(),
            request_id,
            "frame",
        )
    }

    async fn on_revoked(
        &mut self,
        revoked: Result<Revoked, broadcast::error::RecvError>,
    ) -> Result<(), End> {
        match revoked {
            Ok(revoked) if !self.verified.is_concerned(revoked) => Ok(()),
            Ok(Revoked::Session(_) | Revoked::Key(_)) => Err(End::Unauthenticated),
            // The user may have another role; and of too many at once nobody knows which: ask.
            Ok(Revoked::User(_) | Revoked::Plans | Revoked::Everything) | Err(_) => {
                self.look_up_again().await
            }
        }
    }

    /// Whether user and grant are still good; what another process changed is seen here.
    async fn look_up_again(&mut self) -> Result<(), End> {
        let Verified {
            ref principal,
            grant,
            expires_at,
            key,
        } = *self.verified;
        let found = self.gateway.verifier.look_up(principal.user_id, grant);
        match found.await {
            Ok(principal) => {
                self.verified = Arc::new(Verified {
                    principal,
                    grant,
                    expires_at,
                    key,
                });
                Ok(())
            }
            Err(error) if error.status() == axum::http::StatusCode::UNAUTHORIZED => {
                Err(End::Unauthenticated)
            }
            // The store does not answer; it will be asked again at the next heartbeat.
            Err(_) => Ok(()),
        }
    }

    async fn on_heartbeat(&mut self) -> Result<(), End> {
        if self.unanswered_pings >= MISSED_PINGS {
            return Err(End::Gone);
        }
        self.look_up_again().await?;
        self.unanswered_pings += 1;
        self.send_all(vec![Message::Ping(axum::body::Bytes::new())])
            .await
    }

    async fn on_message(&mut self, message: Message) -> Result<(), End> {
        self.unanswered_pings = 0;
        match message {
            Message::Text(text) if text.len() > MAX_INBOUND_BYTES => Err(End::TooBig),
            Message::Text(text) => self.on_text(&text).await,
            Message::Binary(_) => {
                self.count_message()?;
                let error = Error::invalid("Frames are text; binary ones are not read.");
                self.refuse(Value::Null, &error, self.new_request_id())
                    .await
            }
            // Pings are answered by the connection itself.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Normal),
        }
    }

    /// Counts a message of the client against its limit.
    fn count_message(&mut self) -> Result<(), End> {
        let most = self.verified.principal.limits.messages_per_10s as usize;
        let now = Instant::now();
        while self
            .recent
            .front()
            .is_some_and(|then| now.duration_since(*then) >= WINDOW)
        {
            self.recent.pop_front();
        }
        if self.recent.len() >= most {
            return Err(End::RateLimited);
        }
        self.recent.push_back(now);
        Ok(())
    }

    fn new_request_id(&self) -> RequestId {
        self.gateway.runtime.new_id(RequestId::from_parts)
    }

    async fn on_lost_subscription(&mut self, error: Error) -> Result<(), End> {
        self.subscription = None;
        let request_id = self.new_request_id();
        self.refuse(Value::Null, &error, request_id).await
    }

    async fn on_text(&mut self, text: &str) -> Result<(), End> {
        let frames::Read { id, frame } = frames::read(text);
        let is_delivered = matches!(frame, Ok(netra_protocol::frame::ClientFrame::Delivered(_)));
        if !is_delivered {
            self.count_message()?;
        }
        let request_id = self.new_request_id();
        let done = match frame {
            Ok(frame) => self.carry_out(frame, request_id).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(operations::Done::Ack(fields)) => {
                self.send_frame(&ServerFrame::Ack { id, fields }).await
            }
            Ok(operations::Done::Pong) => self.send_frame(&ServerFrame::Pong { id }).await,
            Ok(operations::Done::Nothing) => Ok(()),
            Err(error) => self.refuse(id, &error, request_id).await,
        }
    }

    async fn refuse(&mut self, id: Value, error: &Error, request_id: RequestId) -> Result<(), End> {
        error.log(request_id);
        let error = error.detail(request_id, &self.gateway.config.docs_base);
        self.send_frame(&ServerFrame::Error { id, error }).await
    }

    async fn send_frame(&mut self, frame: &ServerFrame) -> Result<(), End> {
        let text = serde_json::to_string(frame).map_err(|_| End::Internal)?;
        self.send_all(vec![Message::Text(text.into())]).await
    }

    async fn send_events(&mut self, batch: &[Delivery]) -> Result<(), End> {
        metrics::counter!("netra_events_sent_total").increment(batch.len() as u64);
        let frames = batch
            .iter()
            .map(|delivery| Message::Text(delivery.frame().into()));
        let frames: Vec<Message> = frames.collect();
        self.send_all(frames).await
    }

    /// Hands all messages to the connection and flushes once, or once per chunk where they are
    /// many, so that a slow client which takes bytes is told apart from one that takes none.
    async fn send_all(&mut self, messages: Vec<Message>) -> Result<(), End> {
        let mut messages = VecDeque::from(messages);
        let stall = self.gateway.config.write_stall;
        let connection = Arc::clone(&self.connection);
        while !messages.is_empty() {
            let chunk = write_chunk(&mut self.stream, &mut messages);
            tokio::select! {
                biased;
                written = unless_stalled(chunk, stall, || connection.taken()) => {
                    written.ok_or(End::Stalled)?.map_err(|_| End::Gone)?;
                }
                () = &mut self.shutdown => return Err(End::Draining),
            }
        }
        Ok(())
    }

    /// Says why, and waits a little for the client to have read it: closing the connection with
    /// bytes unread would take the reason away from it.
    async fn say_goodbye(mut self, end: End) {
        let close = end.close().map(|(code, reason)| {
            Message::Close(Some(CloseFrame {
                code,
                reason: Utf8Bytes::from_static(reason),
            }))
        });
        let goodbye = async {
            match close {
                Some(close) => self.stream.send(close).await?,
                None if end == End::Normal => self.stream.flush().await?,
                None => return Ok(()),
            }
            while let Some(Ok(_)) = self.stream.recv().await {}
            Ok::<_, axum::Error>(())
        };
        // Whoever does not listen is not waited for.
        drop(tokio::time::timeout(GOODBYE, goodbye).await);
    }
}

async fn write_chunk(
    stream: &mut WebSocket,
    messages: &mut VecDeque<Message>,
) -> Result<(), axum::Error> {
    let mut bytes = 0;
    while let Some(message) = messages.pop_front() {
        bytes += match &message {
            Message::Text(text) => text.len(),
            Message::Binary(data) | Message::Ping(data) | Message::Pong(data) => data.len(),
            Message::Close(_) => 0,
        };
        stream.feed(message).await?;
        if bytes >= CHUNK {
            break;
        }
    }
    stream.flush().await
}

/// A read that failed: the message was too long, the client broke the protocol, or the connection
/// broke. The framework tells them apart in words only.
fn of_broken_read(error: &axum::Error) -> End {
    let words = error.to_string();
    if words.contains("too long") {
        End::TooBig
    } else if words.starts_with("UTF-8") {
        End::NotText
    } else if words.contains("protocol error") && !words.contains("reset without closing") {
        End::BrokenFrame
    } else {
        End::Gone
    }
}

/// The fields of an answer that has none.
fn no_fields() -> Map<String, Value> {
    Map::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_the_codes_of_the_contract() {
        for (end, code) in [
            (End::Draining, 1001),
            (End::BrokenFrame, 1002),
            (End::NotText, 1007),
            (End::TooBig, 1009),
            (End::Unauthenticated, 4001),
            (End::RateLimited, 4003),
            (End::Stalled, 4008),
            (End::TooMany, 4009),
        ] {
            assert_eq!(end.close().map(|(code, _)| code), Some(code), "{end:?}");
        }
    }
}
