//! What can go wrong between a client and its server.

use std::sync::Arc;
use std::time::Duration;

use netra_protocol::ErrorCode;
use netra_protocol::error::ErrorDetail;
use netra_protocol::frame::MAX_INBOUND_BYTES;
use serde::Deserialize;

/// The least wait after a socket that was closed for doing too much.
const SLOWER: Duration = Duration::from_secs(5);

/// Why a call or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address is no `http` or `https` URL.
    #[error("`{0}` is not the address of a server: expected http://HOST:PORT")]
    Address(String),
    /// No answer came: the server is not there, or the connection broke.
    #[error("the server cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server refused, with the contract's error.
    #[error("{}: {}", .detail.code, .detail.message)]
    Refused {
        /// The HTTP status; 0 for a refusal on a WebSocket.
        status: u16,
        /// The error as the server wrote it.
        detail: Box<ErrorDetail>,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The log does not hold what follows the cursor: read the state anew, and go on after its
    /// `as_of`.
    #[error("{}: {}", .detail.code, .detail.message)]
    CursorExpired {
        /// The HTTP status; 0 on a WebSocket.
        status: u16,
        /// The log as it is.
        log: LogRange,
        /// The error as the server wrote it.
        detail: Box<ErrorDetail>,
    },
    /// No new access token could be had.
    #[error("the access token cannot be renewed")]
    Renewal(#[source] Arc<Error>),
    /// Nothing came for longer than the server may be silent, nor an answer to a ping.
    #[error("the connection is dead: nothing came for too long")]
    Silent,
    /// An answer that the contract does not have, from a proxy for example.
    #[error("the server answered with status {status} and no error of the contract: {body}")]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// An answer or frame that cannot be read.
    #[error("the server's answer cannot be read: {0}")]
    Malformed(String),
    /// The server closed the WebSocket.
    #[error("the server closed the connection with code {code} {reason}")]
    Closed {
        /// The close code; 1006 when the connection just broke.
        code: u16,
        /// The reason, often empty.
        reason: String,
    },
    /// The server would close the socket for it.
    #[error(
        "a frame of {bytes} bytes is too long for a socket, which takes {MAX_INBOUND_BYTES}; \
         start the run over REST, or upload a file"
    )]
    TooLong {
        /// The frame's length.
        bytes: usize,
    },
    /// Events are missing on this subscription.
    #[error("events are missing: expected to go on after {expected}, got {found}")]
    Gap {
        /// What was last received.
        expected: u64,
        /// The `prev` of the event that came.
        found: u64,
    },
    /// A local file cannot be read.
    #[error("cannot read {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What the server's log holds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogRange {
    /// Names the log.
    pub epoch: String,
    /// The first number that it answers for.
    pub oldest_seq: u64,
    /// The last number that was given.
    pub latest_seq: u64,
}

impl Error {
    /// A refusal, told apart where the caller has something of its own to do.
    pub(crate) fn refused(status: u16, detail: ErrorDetail, retry_after: Option<Duration>) -> Self {
        let detail = Box::new(detail);
        let log = match (&detail.code, &detail.details) {
            (ErrorCode::CursorExpired, Some(details)) => LogRange::deserialize(details).ok(),
            _ => None,
        };
        match log {
            Some(log) => Self::CursorExpired {
                status,
                log,
                detail,
            },
            None => Self::Refused {
                status,
                detail,
                retry_after,
            },
        }
    }

    /// The contract's code, where the server gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { detail, .. } | Self::CursorExpired { detail, .. } => Some(detail.code),
            Self::Renewal(error) => error.code(),
            _ => None,
        }
    }

    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. }
            | Self::CursorExpired { status, .. }
            | Self::Unexpected { status, .. } => Some(*status),
            Self::Renewal(error) => error.status(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: nobody answered, or the server said so.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Gap { .. } | Self::Silent => true,
            Self::Renewal(error) => error.is_passing(),
            Self::Refused { status, detail, .. } => {
                matches!(*status, 429 | 503)
                    || matches!(
                        detail.code,
                        ErrorCode::RateLimited
                            | ErrorCode::Overloaded
                            | ErrorCode::Draining
                            | ErrorCode::StoreUnavailable
                            | ErrorCode::Internal
                    )
            }
            Self::Unexpected { status, .. } => matches!(*status, 429 | 500 | 502 | 503 | 504),
            // Signed out, too many sockets, or what this client sent: trying again changes nothing.
            Self::Closed { code, .. } => {
                !matches!(*code, 1002 | 1003 | 1007 | 1009 | 1010 | 4001 | 4009)
            }
            Self::CursorExpired { .. }
            | Self::TooLong { .. }
            | Self::Address(_)
            | Self::Malformed(_)
            | Self::File { .. } => false,
        }
    }

    /// Whether the server was away, so that nobody knows whether the call was carried out.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent => true,
            Self::Refused { status, .. } => *status == 503,
            Self::Unexpected { status, .. } => matches!(*status, 502..=504),
            Self::Renewal(error) => error.is_unanswered(),
            Self::CursorExpired { .. }
            | Self::TooLong { .. }
            | Self::Closed { .. }
            | Self::Gap { .. }
            | Self::Address(_)
            | Self::Malformed(_)
            | Self::File { .. } => false,
        }
    }

    /// Whether the server wants another access token.
    pub(crate) fn wants_token(&self) -> bool {
        match self {
            Self::Refused { detail, .. } => matches!(
                detail.code,
                ErrorCode::Unauthenticated | ErrorCode::TokenExpired
            ),
            Self::Unexpected { status, .. } => *status == 401,
            Self::Closed { code, .. } => *code == 4001,
            // The renewal itself was refused: another one will be too.
            _ => false,
        }
    }

    /// How long the server asked to wait, in a header or by how it closed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Closed {
                code: 4003 | 4009, ..
            } => Some(SLOWER),
            Self::Renewal(error) => error.retry_after(),
            _ => None,
        }
    }

    pub(crate) fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        // What reqwest calls a decoding error is a body that broke off: JSON is read here.
        // The URL may hold what is nobody else's business, and the caller knows it.
        Self::Unreachable(Box::new(error.without_url()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_socket_is_worth_another_try_unless_it_was_refused_for_good() {
        let closed = |code| Error::Closed {
            code,
            reason: String::new(),
        };
        assert!(closed(1001).is_passing());
        assert!(closed(1006).is_passing());
        assert!(closed(4008).is_passing());
        assert!(!closed(4001).is_passing());
        assert!(!closed(4009).is_passing());
        assert!(
            !closed(1009).is_passing(),
            "the next socket would be closed as well"
        );
        assert_eq!(closed(4003).retry_after(), Some(SLOWER));
        assert_eq!(closed(1001).retry_after(), None);
    }
}
