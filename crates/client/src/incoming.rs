//! What comes from the server, and the check that nothing before it is missing.

use std::time::Duration;

use netra_protocol::WireEvent;
use netra_protocol::frame::ServerFrame;
use netra_protocol::id::{ConnectionId, UserId};
use serde::Deserialize;
use serde_json::Value;

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
    /// Between two signs of life of the server.
    pub heartbeat: Duration,
}

/// An event, and the text that it came as.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The event.
    pub event: WireEvent,
    /// As on the wire.
    pub text: String,
}

/// Anything that the server sends.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "frames that are not events are few, and most callers look into them"
)]
pub enum Incoming {
    /// An event.
    Event(Box<Received>),
    /// Anything else.
    Frame(ServerFrame),
}

/// The new position after an event, or what is missing before it.
pub(crate) fn follow(position: Option<u64>, prev: u64, seq: u64) -> Result<u64, Error> {
    match position {
        Some(expected) if expected != prev => Err(Error::Gap {
            expected,
            found: prev,
        }),
        _ => Ok(seq),
    }
}

/// Tells events from other frames by the number that only events and positions have.
pub(crate) fn parse(text: String) -> Result<Incoming, Error> {
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
