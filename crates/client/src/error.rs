//! What can go wrong between a client and its server.

use std::time::Duration;

use netra_protocol::ErrorCode;
use netra_protocol::error::ErrorDetail;

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

impl Error {
    /// The contract's code, where the server gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { detail, .. } => Some(detail.code),
            _ => None,
        }
    }

    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Unexpected { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: nobody answered, or the server said so.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Gap { .. } => true,
            Self::Refused { status, detail, .. } => {
                matches!(*status, 429 | 503)
                    || matches!(
                        detail.code,
                        ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::Draining
                    )
            }
            Self::Unexpected { status, .. } => matches!(*status, 429 | 502 | 503 | 504),
            // Signed out, or too many sockets: trying again changes nothing.
            Self::Closed { code, .. } => !matches!(*code, 4001 | 4009),
            Self::Address(_) | Self::Malformed(_) | Self::File { .. } => false,
        }
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
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
    }
}
