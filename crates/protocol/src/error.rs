//! The closed list of error codes and the one error body.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::RequestId;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal;)*) => {
        /// A stable error code. Each has a page in `docs/errors/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the contract.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The code as it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// The number of the HTTP status that carries this code; 0 for codes of runs and tools.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// The request is not understood: wrong types, a missing field, a broken body.
    InvalidRequest = "invalid_request", 400;
    /// A field that the contract does not know.
    UnknownField = "unknown_field", 400;
    /// The input does not fit the agent's schema, or a text is too long.
    InvalidInput = "invalid_input", 400;
    /// No credentials, or wrong ones.
    Unauthenticated = "unauthenticated", 401;
    /// The access token has expired.
    TokenExpired = "token_expired", 401;
    /// The role or scope lacks this operation.
    Forbidden = "forbidden", 403;
    /// The Origin is neither the server's own nor on the allow-list.
    OriginRefused = "origin_refused", 403;
    /// There is no such object for this user.
    NotFound = "not_found", 404;
    /// The state of the object does not allow this now.
    Conflict = "conflict", 409;
    /// The thread has an active run.
    ThreadBusy = "thread_busy", 409;
    /// The approval has been answered.
    ApprovalResolved = "approval_resolved", 409;
    /// The run has ended.
    RunEnded = "run_ended", 409;
    /// The same idempotency key came with another body.
    IdempotencyKeyReused = "idempotency_key_reused", 409;
    /// The cursor names events that the log no longer (or never) held.
    CursorExpired = "cursor_expired", 410;
    /// The body is larger than allowed.
    TooLarge = "too_large", 413;
    /// The content type is not one that this operation takes.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The agent cannot run; its problem says why.
    AgentNotReady = "agent_not_ready", 422;
    /// Too many requests.
    RateLimited = "rate_limited", 429;
    /// All execution slots of the user are in use.
    SlotsExhausted = "slots_exhausted", 429;
    /// The user's queue of runs is full.
    QueueFull = "queue_full", 429;
    /// A defect of the server.
    Internal = "internal", 500;
    /// The server has more work than it can take.
    Overloaded = "overloaded", 503;
    /// The server is about to stop.
    Draining = "draining", 503;
    /// The store cannot be written or read, a full disk for example.
    StoreUnavailable = "store_unavailable", 503;

    /// The user's memory limit was passed by this, the largest run.
    MemoryLimitExceeded = "memory_limit_exceeded", 0;
    /// The user's budget is spent.
    BudgetExceeded = "budget_exceeded", 0;
    /// The run took more steps than allowed.
    StepLimitExceeded = "step_limit_exceeded", 0;
    /// The run made more tool calls than allowed.
    ToolCallLimitExceeded = "tool_call_limit_exceeded", 0;
    /// Sub-agents were nested deeper than allowed.
    DepthLimitExceeded = "depth_limit_exceeded", 0;
    /// The run's deadline has passed.
    DeadlineExceeded = "deadline_exceeded", 0;
    /// The run was cancelled.
    Cancelled = "cancelled", 0;
    /// The agent ended with an error of its own.
    AgentFailed = "agent_failed", 0;
    /// The model's provider did not answer.
    ModelUnavailable = "model_unavailable", 0;
    /// No model is configured.
    ModelNotConfigured = "model_not_configured", 0;
    /// The agent's output does not fit its schema.
    OutputInvalid = "output_invalid", 0;
    /// The server stopped while the run was going on.
    Interrupted = "interrupted", 0;
    /// The run was tried as often as allowed.
    AttemptsExhausted = "attempts_exhausted", 0;
    /// The tool call was begun and its end is not known.
    OutcomeUnknown = "outcome_unknown", 0;
    /// The tool reported an error.
    ToolFailed = "tool_failed", 0;
    /// The tool took longer than a call may take.
    ToolTimeout = "tool_timeout", 0;
    /// A permission layer refused the tool call.
    ToolDenied = "tool_denied", 0;
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of every error answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened and what to do, for the caller.
    pub message: String,
    /// To be named when asking the operator.
    pub request_id: RequestId,
    /// The field, the limit, or what else belongs to the code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<serde_json::Value>,
    /// Where the code is explained.
    pub docs: String,
}

/// The error of a run or of a tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened, for the user.
    pub message: String,
    /// What else belongs to the code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<serde_json::Value>,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_code_is_its_serialised_form() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let mut pages: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.md")
            .collect();
        let mut codes: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|code| format!("{code}.md"))
            .collect();
        pages.sort();
        codes.sort();
        assert_eq!(pages, codes);
    }
}
