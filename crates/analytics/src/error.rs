//! What can go wrong in an analysis, in words for the person who brought the file.

use serde::{Deserialize, Serialize};

/// The kind of a failure, stable on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The arguments do not fit the operation, or name a file or model that is not there.
    InvalidInput,
    /// The file cannot be read as a usage log.
    UnreadableFile,
    /// There is no operation of that name.
    UnknownOperation,
    /// A defect of this crate.
    Internal,
}

/// A failed operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure it is.
    pub code: Code,
    /// One or two sentences for the caller; never holds a path of the server.
    pub message: String,
}

impl From<netra_prices::Error> for Error {
    fn from(error: netra_prices::Error) -> Self {
        Self::invalid(error.to_string())
    }
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidInput,
            message: message.into(),
        }
    }

    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self {
            code: Code::UnreadableFile,
            message: message.into(),
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self {
            code: Code::Internal,
            message: message.into(),
        }
    }
}
