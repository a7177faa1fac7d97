//! What can go wrong with a worker, and what a script or a job can fail with.

use std::time::Duration;

use netra_memory::OverLimit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a script or a job did not end with a result. After any of these its process is gone.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It needed more memory than it may have, and was ended.
    #[error("more than the limit of {limit_bytes} bytes of memory was needed")]
    MemoryLimit {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// It sent more than its user has memory left for.
    #[error("no memory is left for what it sent: {0}")]
    NoRoom(OverLimit),
    /// It computed for longer than it may (time spent waiting for answers does not count), and was ended.
    #[error("the computation took longer than its limit of {} ms", .limit.as_millis())]
    TimeLimit {
        /// The limit.
        limit: Duration,
    },
    /// It printed, asked for or returned more than it may.
    #[error("more than the limit of {limit_bytes} bytes was put out")]
    OutputLimit {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// It called its functions more often than it may.
    #[error("the script called the server's functions more than {limit} times")]
    SuspensionLimit {
        /// The limit.
        limit: u32,
    },
    /// The script itself is wrong: it cannot be parsed, or it raised an exception that it did not catch.
    #[error("{0}")]
    Script(Traceback),
    /// The job ran and reports a failure.
    #[error("{0}")]
    Job(JobError),
    /// The process ended without saying why.
    #[error("the worker process ended unexpectedly ({status})")]
    WorkerDied {
        /// The exit status, as the system words it.
        status: String,
    },
    /// The process could not be started.
    #[error("a worker process could not be started: {0}")]
    Start(#[source] std::io::Error),
    /// The process sent what makes no sense, and was ended.
    #[error("the worker process broke the protocol: {0}")]
    Protocol(String),
    /// The caller asked for the next step while the script waits for an answer, or after its end.
    #[error("the script cannot go on: {0}")]
    Misuse(&'static str),
}

/// An exception that a script did not catch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traceback {
    /// The exception's class, such as `ValueError`.
    pub kind: String,
    /// Its message; empty when it has none.
    pub message: String,
    /// The line of the script, counted from 1, nearest to where it was raised.
    pub line: Option<u32>,
    /// The traceback as Python words it, the exception's own line at its end.
    pub traceback: String,
}

impl std::fmt::Display for Traceback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

/// A failure that a job reports, in terms that the user can act on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// A stable word for programs, such as `unknown_column`.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// More about it, for programs.
    pub details: Option<Value>,
}

impl From<netra_analytics::jobs::Error> for JobError {
    fn from(error: netra_analytics::jobs::Error) -> JobError {
        // The code's name on the wire is what it serializes to.
        let code = serde_json::to_value(error.code).ok();
        let code = code
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or("internal")
            .to_owned();
        JobError {
            code,
            message: error.message,
            details: None,
        }
    }
}

/// An exception that a call of the script raises, instead of returning something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptException {
    /// The name of one of Python's own exception classes. Any other name becomes `RuntimeError`.
    pub kind: String,
    /// Its message.
    pub message: String,
}

impl ScriptException {
    /// An exception of the class `RuntimeError`.
    pub fn runtime(message: impl Into<String>) -> ScriptException {
        ScriptException {
            kind: "RuntimeError".to_owned(),
            message: message.into(),
        }
    }
}
