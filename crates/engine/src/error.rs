//! Why a run is not started, cancelled or retried.

use netra_context::Limit;
use netra_protocol::ErrorCode;
use serde_json::Value;

use crate::admission::Refusal;

/// Why a run is not started, cancelled or retried. Messages are for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused, or is not available.
    #[error(transparent)]
    Store(#[from] netra_store::Error),
    /// There is no such agent or file for this user.
    #[error("not found")]
    NotFound,
    /// The agent cannot run; the message says why.
    #[error("the agent is not ready: {0}")]
    AgentNotReady(String),
    /// The input does not fit the agent's schema, or a text is too long.
    #[error("{message}")]
    InvalidInput {
        /// What is wrong.
        message: String,
        /// Where, and which rule it breaks.
        details: Value,
    },
    /// Another part of the request is not as it must be.
    #[error("{message}")]
    InvalidRequest {
        /// What is wrong.
        message: String,
        /// Where, and which rule it breaks.
        details: Value,
    },
    /// The state of the run does not allow this now.
    #[error("{0}")]
    Conflict(&'static str),
    /// The context lacks the right to run agents.
    #[error("the context does not allow this")]
    Forbidden,
    /// All execution slots of the user are in use.
    #[error("all execution slots are in use")]
    SlotsExhausted,
    /// The user's queue of runs is full.
    #[error("the queue of runs is full")]
    QueueFull,
    /// The thread has an active run.
    #[error("the thread has an active run")]
    ThreadBusy,
    /// The server has more work than it can take.
    #[error("the server has more work than it can take")]
    Overloaded,
    /// The server is about to stop.
    #[error("the server is about to stop")]
    Draining,
    /// The run has ended.
    #[error("the run has ended")]
    RunEnded,
}

impl Error {
    /// The code of the contract that says the same.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Store(error) => error.code(),
            Self::NotFound => ErrorCode::NotFound,
            Self::AgentNotReady(_) => ErrorCode::AgentNotReady,
            Self::InvalidInput { .. } => ErrorCode::InvalidInput,
            Self::InvalidRequest { .. } => ErrorCode::InvalidRequest,
            Self::Conflict(_) => ErrorCode::Conflict,
            Self::Forbidden => ErrorCode::Forbidden,
            Self::SlotsExhausted => ErrorCode::SlotsExhausted,
            Self::QueueFull => ErrorCode::QueueFull,
            Self::ThreadBusy => ErrorCode::ThreadBusy,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Draining => ErrorCode::Draining,
            Self::RunEnded => ErrorCode::RunEnded,
        }
    }

    /// The limit that has refused the run, where one has.
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self {
            Self::SlotsExhausted => Some(Limit::ConcurrentRuns),
            Self::QueueFull => Some(Limit::QueuedRuns),
            Self::Overloaded => Some(Limit::Engines),
            _ => None,
        }
    }

    /// What else belongs to the code.
    pub fn details(&self) -> Option<&Value> {
        match self {
            Self::InvalidInput { details, .. } | Self::InvalidRequest { details, .. } => {
                Some(details)
            }
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SlotsExhausted => Self::SlotsExhausted,
            Refusal::QueueFull => Self::QueueFull,
            Refusal::ThreadBusy => Self::ThreadBusy,
            Refusal::Overloaded => Self::Overloaded,
        }
    }
}
