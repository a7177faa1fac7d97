//! What can go wrong in the store.

use netra_context::memory::OverLimit;
use netra_protocol::{ErrorCode, Timestamp};

use crate::budget::Shortage;
use crate::rate::Rate;
use crate::secret::KeyringError;

/// What can go wrong in the store. Messages hold no user's data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object for this user; forbidden looks the same.
    #[error("not found")]
    NotFound,
    /// The context lacks the right, or its user is gone or disabled.
    #[error("the context does not allow this")]
    Forbidden,
    /// The state of the object does not allow this now.
    #[error("{0}")]
    Conflict(&'static str),
    /// The account's name is in use.
    #[error("the name is taken")]
    NameTaken,
    /// The thread has an active run.
    #[error("the thread has an active run")]
    ThreadBusy,
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded,
    /// Another node has taken the run since: whoever held it writes nothing more.
    #[error("another node has taken the run")]
    Fenced,
    /// All of the user's slots are in use, on whichever nodes.
    #[error("all execution slots are in use")]
    SlotsExhausted,
    /// The user's queue of runs is full, over all nodes.
    #[error("the queue of runs is full")]
    QueueFull,
    /// The approval has been answered.
    #[error("the approval has been answered")]
    ApprovalResolved,
    /// The same idempotency key came with another body.
    #[error("the idempotency key was used with another request")]
    IdempotencyKeyReused,
    /// The page cursor is not one of ours.
    #[error("the cursor is not valid")]
    InvalidCursor,
    /// A text has the character NUL in it, which the database does not keep.
    #[error("a text with the character NUL cannot be kept")]
    Nul,
    /// The content is larger than allowed.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was passed.
        limit_bytes: u64,
    },
    /// The user's agents have called the tool as often as a policy allows.
    #[error("at most {rate} of one user; again from {until}")]
    RateExceeded {
        /// The rate that has no room.
        rate: Rate,
        /// When there is room again.
        until: Timestamp,
    },
    /// A budget has no room for a call of a model.
    #[error(transparent)]
    BudgetExceeded(#[from] Shortage),
    /// The user holds, or would hold, more memory than allowed.
    #[error("no memory is left for this: {0}")]
    Memory(#[from] OverLimit),
    /// The keys of secrets, or a secret, cannot be used.
    #[error(transparent)]
    Secrets(#[from] KeyringError),
    /// The store cannot be read or written now.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The data folder is in use by another server.
    #[error("the data folder {dir} is in use by another server")]
    InUse {
        /// The folder.
        dir: String,
    },
    /// The keys or the files of the data folder are not those of the installation.
    #[error("{0}")]
    OtherInstallation(String),
    /// The schema is not one that this program can work with.
    #[error("{0}")]
    Migration(String),
    /// A defect of ours.
    #[error("internal: {0}")]
    Bug(String),
}

impl Error {
    /// The code of the contract that says the same.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::NotFound,
            Self::Forbidden => ErrorCode::Forbidden,
            Self::Conflict(_) | Self::NameTaken => ErrorCode::Conflict,
            Self::ThreadBusy => ErrorCode::ThreadBusy,
            Self::RunEnded => ErrorCode::RunEnded,
            Self::SlotsExhausted => ErrorCode::SlotsExhausted,
            Self::QueueFull => ErrorCode::QueueFull,
            Self::ApprovalResolved => ErrorCode::ApprovalResolved,
            Self::IdempotencyKeyReused => ErrorCode::IdempotencyKeyReused,
            Self::InvalidCursor | Self::Nul => ErrorCode::InvalidRequest,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::RateExceeded { .. } => ErrorCode::RateLimited,
            Self::BudgetExceeded(_) => ErrorCode::BudgetExceeded,
            // Of requests; to a run it is the limit that it has passed.
            Self::Memory(_) => ErrorCode::RateLimited,
            Self::Unavailable(_) => ErrorCode::StoreUnavailable,
            Self::Fenced
            | Self::InUse { .. }
            | Self::Migration(_)
            | Self::OtherInstallation(_)
            | Self::Secrets(_)
            | Self::Bug(_) => ErrorCode::Internal,
        }
    }

    /// A row that does not read back as it was written.
    pub(crate) fn corrupt(what: &str) -> Self {
        Self::Bug(format!("a stored {what} cannot be read back"))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        crate::sql::Error::from(error).into()
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Bug(format!("JSON: {error}"))
    }
}
