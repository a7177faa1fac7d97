//! What can go wrong with a model call, without a word of the request or the key.

use std::time::Duration;

use netra_context::memory::OverLimit;
use netra_protocol::{ErrorCode, Failure};

/// Why a call of a model failed. `Display` is written for the user whose run it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such model here, or its configuration cannot work; the text says what to do.
    #[error("{0}")]
    NotConfigured(String),
    /// The provider refused the credentials.
    #[error("the model provider {provider} refused the credentials (status {status})")]
    Unauthorized {
        /// The provider's configured name.
        provider: String,
        /// The HTTP status that it answered.
        status: u16,
    },
    /// The account at the provider has no money or quota left.
    #[error("the account at the model provider {provider} has no quota left")]
    QuotaExhausted {
        /// The provider's configured name.
        provider: String,
    },
    /// Too many requests for the account.
    #[error("the model provider {provider} limits the rate of requests")]
    RateLimited {
        /// The provider's configured name.
        provider: String,
        /// How long it asked to wait, at most a day.
        retry_after: Option<Duration>,
    },
    /// The provider has more work than it can take.
    #[error("the model provider {provider} is overloaded")]
    Overloaded {
        /// The provider's configured name.
        provider: String,
        /// How long it asked to wait, at most a day.
        retry_after: Option<Duration>,
    },
    /// The provider does not accept the request.
    #[error("the model provider {provider} refused the request (status {status}){}", Hint(code.as_deref(), param.as_deref()))]
    InvalidRequest {
        /// The provider's configured name.
        provider: String,
        /// The HTTP status that it answered.
        status: u16,
        /// The provider's code, where it is a plain identifier.
        code: Option<String>,
        /// The field that it dislikes, where it is a plain path.
        param: Option<String>,
    },
    /// The call took longer than one model call may take.
    #[error("the model provider {provider} took longer than {limit_ms} ms")]
    Timeout {
        /// The provider's configured name.
        provider: String,
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// The model failed too often in a row, and is not asked for a while.
    #[error("the model {model} failed again and again, and is asked again in {} s", rest.as_secs_f64().ceil())]
    CircuitOpen {
        /// Its full name.
        model: String,
        /// How long that is.
        rest: Duration,
    },
    /// The caller's deadline passed during the call.
    #[error("the deadline passed while the model answered")]
    DeadlineExceeded,
    /// The caller was cancelled during the call.
    #[error("the model call was cancelled")]
    Cancelled,
    /// The provider's answer is not in the format that it should have.
    #[error("the model provider {provider} sent an answer that cannot be read: {what}")]
    Malformed {
        /// The provider's configured name.
        provider: String,
        /// What was wrong with it.
        what: &'static str,
    },
    /// The user has no memory left for the answer.
    #[error("no memory is left for the model's answer: {0}")]
    NoRoom(OverLimit),
    /// The answer ended before it was complete.
    #[error("the answer of the model provider {provider} was cut off")]
    Cut {
        /// The provider's configured name.
        provider: String,
    },
    /// The provider could not be reached, or reported a failure of its own.
    #[error("the model provider {provider} is not available: {reason}")]
    Unavailable {
        /// The provider's configured name.
        provider: String,
        /// What happened.
        reason: String,
        /// Whether it had the whole request by then, and may have worked on the answer.
        sent: bool,
    },
}

/// What an error means to whoever called.
struct Nature {
    /// The value of the metric's label.
    outcome: &'static str,
    code: ErrorCode,
    retryable: bool,
    of_model: bool,
    may_have_cost: bool,
}

impl Error {
    fn nature(&self) -> Nature {
        use ErrorCode::{
            AgentFailed, Cancelled, DeadlineExceeded, MemoryLimitExceeded, ModelNotConfigured,
            ModelUnavailable,
        };
        let (no, yes) = (false, true);
        // Whether it is worth another try, whether another model may answer, whether it may have cost something.
        let (outcome, code, [retryable, of_model, may_have_cost]) = match self {
            Self::NotConfigured(_) => ("not_configured", ModelNotConfigured, [no, yes, no]),
            Self::Unauthorized { .. } => ("unauthorized", ModelNotConfigured, [no, yes, no]),
            Self::QuotaExhausted { .. } => ("quota_exhausted", ModelUnavailable, [no, yes, no]),
            Self::RateLimited { .. } => ("rate_limited", ModelUnavailable, [yes, yes, no]),
            Self::Overloaded { .. } => ("overloaded", ModelUnavailable, [yes, yes, no]),
            Self::InvalidRequest { .. } => ("invalid_request", AgentFailed, [no, no, no]),
            Self::Timeout { .. } => ("timeout", ModelUnavailable, [yes, yes, yes]),
            Self::CircuitOpen { .. } => ("circuit_open", ModelUnavailable, [no, yes, no]),
            Self::NoRoom(_) => ("no_memory", MemoryLimitExceeded, [no, no, yes]),
            Self::DeadlineExceeded => ("deadline_exceeded", DeadlineExceeded, [no, no, yes]),
            Self::Cancelled => ("cancelled", Cancelled, [no, no, yes]),
            Self::Malformed { .. } => ("malformed", ModelUnavailable, [yes, yes, yes]),
            Self::Cut { .. } => ("cut", ModelUnavailable, [yes, yes, yes]),
            Self::Unavailable { sent, .. } => ("unavailable", ModelUnavailable, [yes, yes, *sent]),
        };
        Nature {
            outcome,
            code,
            retryable,
            of_model,
            may_have_cost,
        }
    }

    /// The code that a run which fails for this reason ends with.
    pub fn code(&self) -> ErrorCode {
        self.nature().code
    }

    /// Whether the same call may succeed when it is made again.
    pub fn retryable(&self) -> bool {
        self.nature().retryable
    }

    /// Whether another model may answer where this one did not.
    pub fn is_of_model(&self) -> bool {
        self.nature().of_model
    }

    /// Whether the provider may have worked on the answer before the call failed.
    pub fn may_have_cost(&self) -> bool {
        self.nature().may_have_cost
    }

    /// The value of the metric's label.
    pub(crate) fn outcome(&self) -> &'static str {
        self.nature().outcome
    }

    /// How long the provider asked to wait before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Overloaded { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The provider's code and field, as the end of a sentence.
struct Hint<'a>(Option<&'a str>, Option<&'a str>);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1) {
            (None, None) => Ok(()),
            (Some(code), None) => write!(f, ": {code}"),
            (None, Some(param)) => write!(f, ": in {param}"),
            (Some(code), Some(param)) => write!(f, ": {code} in {param}"),
        }
    }
}
