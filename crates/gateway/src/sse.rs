//! Server-sent events: the same log as the WebSocket's, for those who have none.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netra_context::Limit;
use netra_context::runtime::TaskKind;
use netra_events::{Delivery, Subscription};
use netra_protocol::ErrorCode;
use netra_protocol::error::ErrorBody;
use netra_protocol::id::RequestId;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, Interval};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::verifier::{Revoked, Verified};
use crate::error::Error;
use crate::extract::Caller;
use crate::serve::places::Place;
use crate::state::Gateway;
use crate::ws;
use crate::ws::connections::{Kind, NodePlace, UserPlace};

/// Between two comments that keep proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Batches that wait for a client which reads slowly; more stay in the log.
const PIECES: usize = 2;
/// How long a client may take to see the end of a stream that is no longer allowed.
const GOODBYE: Duration = Duration::from_secs(2);
/// When one stream too many may be asked for again, in seconds. Nobody knows when another ends.
const AGAIN_S: u64 = 5;

/// As the document has it.
const CURSOR_RULE: &str = "pattern ^([!-~]+:)?[0-9]{1,19}$";

/// A place in the log as clients write it: `seq` or `epoch:seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: Option<String>,
    pub(crate) seq: u64,
}

impl Cursor {
    /// The parameter or header of this name as a cursor.
    fn read(name: &str, text: &str) -> Result<Self, Error> {
        let (epoch, seq) = match text.rsplit_once(':') {
            Some((epoch, seq)) => (Some(epoch), seq),
            None => (None, text),
        };
        let is_epoch =
            |epoch: &str| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_graphic());
        // More digits than any number of an event has could be one that does not fit.
        let is_seq = (1..=19).contains(&seq.len()) && seq.bytes().all(|byte| byte.is_ascii_digit());
        match seq.parse() {
            Ok(seq) if is_seq && epoch.is_none_or(is_epoch) => Ok(Self {
                epoch: epoch.map(str::to_owned),
                seq,
            }),
            _ => Err(Error::invalid("A cursor is `seq` or `epoch:seq`.").breaks(name, CURSOR_RULE)),
        }
    }
}

/// Where the client wants to go on: `Last-Event-ID`, or `?after=`; the former wins.
pub(crate) fn resume_at(headers: &HeaderMap, after: Option<&str>) -> Result<Option<Cursor>, Error> {
    let last = headers
        .get("last-event-id")
        .map(|value| value.to_str().unwrap_or("-"));
    let last = last.filter(|last| !last.is_empty());
    let last = last.map(|last| ("Last-Event-ID", last));
    last.or(after.map(|after| ("after", after)))
        .map(|(name, text)| Cursor::read(name, text))
        .transpose()
}

/// What is read of the log and handed to the connection.
struct Stream {
    gateway: Gateway,
    request_id: RequestId,
    subscription: Subscription,
    epoch: String,
    /// Whether the first terminal event ends the stream.
    one_run: bool,
    keep_alive: Interval,
    ended: bool,
}

/// What the stream may last for, looked at whether or not the client reads.
struct Allowed {
    gateway: Gateway,
    verified: Arc<Verified>,
    revoked: broadcast::Receiver<Revoked>,
}

/// The answer's end of a stream; dropping it tells the task that the client has gone.
struct Reading {
    pieces: mpsc::Receiver<Bytes>,
    _gone: DropGuard,
    _places: (NodePlace, UserPlace),
}

/// Streams count like sockets, against the same limits.
fn places(gateway: &Gateway, verified: &Verified) -> Result<(NodePlace, UserPlace), Error> {
    let principal = &verified.principal;
    let (user, most) = (principal.user_id, principal.limits.sockets);
    let on_node = gateway.connections.place_on_node(Kind::Stream);
    let on_node = on_node.ok_or_else(ws::node_is_full)?;
    let of_user = gateway.connections.place_of_user(Kind::Stream, user, most);
    let of_user = of_user.ok_or_else(|| {
        gateway.runtime.limit_hit(user, Limit::Sockets);
        let message = "Too many event streams and sockets are open; close one of them.";
        Error::new(ErrorCode::RateLimited, message)
            .with_details(serde_json::json!({ "limit": most }))
            .retry_after(AGAIN_S)
    })?;
    Ok((on_node, of_user))
}

/// The answer that carries the subscription until it ends.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: Caller<impl Sized>,
    subscription: Subscription,
    one_run: bool,
) -> Result<Response, Error> {
    let places = places(gateway, &caller.verified)?;
    let allowed = Allowed::begin(gateway, caller.verified).await?;
    let stream = Stream {
        epoch: subscription.epoch.clone(),
        keep_alive: tokio::time::interval(KEEP_ALIVE),
        gateway: gateway.clone(),
        request_id: caller.ctx.request_id(),
        subscription,
        one_run,
        ended: false,
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    let gone = CancellationToken::new();
    let reading = Reading {
        pieces,
        _gone: gone.clone().drop_guard(),
        _places: places,
    };
    let task = drive(stream, allowed, sender, gone, caller.place);
    gateway.runtime.spawn(TaskKind::Socket, task);
    let pieces = futures::stream::unfold(reading, |mut reading| async move {
        let piece = reading.pieces.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), reading))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        // Proxies must hand on what they have, not collect it.
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Sends the stream until it ends, the client goes, or it is no longer allowed. The answer's body
/// cannot tell of the latter by itself: nobody asks it for more while the client reads nothing.
async fn drive(
    stream: Stream,
    mut allowed: Allowed,
    sender: mpsc::Sender<Bytes>,
    gone: CancellationToken,
    place: Option<Arc<Place>>,
) {
    tokio::select! {
        biased;
        () = gone.cancelled() => return,
        () = allowed.over() => {}
        // What is left of a stream that has ended is the client's, as slowly as it reads.
        () = stream.send(sender) => return,
    }
    // The sender is gone, so whoever reads sees the end; whoever does not is not waited for.
    if tokio::time::timeout(GOODBYE, gone.cancelled())
        .await
        .is_err()
        && let Some(place) = place
    {
        place.close();
    }
}

impl Allowed {
    /// Looks the credentials up again: they were verified before revocations were listened to.
    async fn begin(gateway: &Gateway, verified: Arc<Verified>) -> Result<Self, Error> {
        let mut allowed = Self {
            revoked: gateway.verifier.revoked(),
            gateway: gateway.clone(),
            verified,
        };
        allowed.look_up_again().await?;
        Ok(allowed)
    }

    async fn look_up_again(&mut self) -> Result<(), Error> {
        let (user, grant) = (self.verified.principal.user_id, self.verified.grant);
        self.gateway.verifier.look_up(user, grant).await?;
        Ok(())
    }

    /// Waits for the end of the credentials or of the server.
    async fn over(&mut self) {
        let shutdown = self.gateway.runtime.shutdown().clone();
        let mut expiry = self.verified.expiry(self.gateway.runtime.now());
        let every = self.gateway.config.heartbeat;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = expiry.passed() => return,
                revoked = self.revoked.recv() => match revoked {
                    Ok(revoked) if !self.verified.is_concerned(revoked) => continue,
                    // The user may have another role and be good for the stream: ask.
                    Ok(Revoked::User(_) | Revoked::Plans | Revoked::Everything) => {}
                    Ok(Revoked::Session(_) | Revoked::Key(_)) => return,
                    // Too many at once to follow: ask.
                    Err(_) => {}
                },
                _ = heartbeat.tick() => {}
            }
            match self.look_up_again().await {
                Err(error) if error.status() == StatusCode::UNAUTHORIZED => return,
                // Where the store does not answer, it is asked again at the next heartbeat.
                Ok(()) | Err(_) => {}
            }
        }
    }
}

impl Stream {
    /// Hands over one piece after the other, as the client takes them. How long it may take none
    /// is the connection's to say, which sees single bytes.
    async fn send(mut self, sender: mpsc::Sender<Bytes>) {
        while let Some(piece) = self.next().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    }

    /// What to send next; none at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            tokio::select! {
                biased;
                batch = self.subscription.next() => match batch {
                    Ok(batch) => {
                        let text = self.write(&batch);
                        if !text.is_empty() {
                            return Some(text.into());
                        }
                    }
                    Err(error) => {
                        self.ended = true;
                        return self.failure(error.into());
                    }
                },
                _ = self.keep_alive.tick() => return Some(Bytes::from_static(b": keep-alive\n\n")),
            }
        }
        None
    }

    fn write(&mut self, batch: &[Delivery]) -> String {
        let mut text = String::new();
        for delivery in batch {
            // Writing to a string cannot fail.
            let written = match delivery {
                Delivery::Event { entry, .. } => write!(
                    text,
                    "id: {}:{}\nevent: {}\ndata: {}\n\n",
                    self.epoch,
                    entry.seq,
                    entry.kind.as_str(),
                    delivery.frame(),
                ),
                // Without data there is no event, but the client's cursor moves on.
                Delivery::Position { seq } => write!(text, "id: {}:{seq}\n\n", self.epoch),
            };
            written.ok();
            if let Delivery::Event { entry, .. } = delivery
                && self.one_run
                && entry.kind.is_terminal()
            {
                self.ended = true;
                break;
            }
        }
        text
    }

    fn failure(&self, error: Error) -> Option<Bytes> {
        error.log(self.request_id);
        let body = ErrorBody {
            error: error.detail(self.request_id, &self.gateway.config.docs_base),
        };
        let json = serde_json::to_string(&body).ok()?;
        Some(format!("event: error\ndata: {json}\n\n").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_number_with_or_without_its_log() {
        let read = |text: &str| Cursor::read("after", text).ok();
        assert_eq!(
            read("7"),
            Some(Cursor {
                epoch: None,
                seq: 7
            })
        );
        assert_eq!(
            read("ep:7"),
            Some(Cursor {
                epoch: Some("ep".into()),
                seq: 7
            })
        );
        for bad in [
            "",
            ":",
            ":7",
            "ep:",
            "-1",
            "+7",
            "ep:+7",
            "7.0",
            "99999999999999999999",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_header_wins_over_the_parameter() {
        let mut headers = HeaderMap::new();
        assert_eq!(resume_at(&headers, None).unwrap(), None);
        assert_eq!(resume_at(&headers, Some("3")).unwrap().unwrap().seq, 3);
        headers.insert("last-event-id", "ep:9".parse().unwrap());
        assert_eq!(resume_at(&headers, Some("3")).unwrap().unwrap().seq, 9);
        headers.insert("last-event-id", "x".parse().unwrap());
        assert!(resume_at(&headers, Some("3")).is_err());
    }
}
