//! What the program's exit codes mean. They are part of the contract with scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `netra run`: the run completed.
    Success = 0,
    /// Something failed that has no code of its own.
    Failure = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// The run ended with an error.
    RunFailed = 3,
    /// The run was cancelled.
    RunCancelled = 4,
    /// The run's deadline passed.
    RunTimedOut = 5,
    /// The server cannot be reached.
    Unreachable = 6,
    /// The server refused the request.
    Refused = 7,
    /// The address is in use by another program, or is not this machine's.
    Address = 8,
    /// The data folder is in use by another server.
    DataInUse = 9,
}

/// For `--help`.
pub const TABLE: &str = "Exit codes:
  0  done; for `netra run`: the run completed
  1  something else failed
  2  wrong arguments or configuration
  3  the run failed
  4  the run was cancelled
  5  the run timed out
  6  the server cannot be reached
  7  the server refused the request
  8  the address to listen on is in use or is not this machine's
  9  the data folder is in use by another server";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An error with the exit code that it ends the program with.
#[derive(Debug)]
pub struct Problem {
    /// The code.
    pub exit: Exit,
    /// What to tell.
    pub error: anyhow::Error,
}

impl Problem {
    /// An error with this code.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// A message with this code.
    pub fn message(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            error: anyhow::Error::msg(message.into()),
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self {
            exit: Exit::Failure,
            error,
        }
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failure, error)
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::new(Exit::Failure, error)
    }
}

impl From<crate::config::Error> for Problem {
    fn from(error: crate::config::Error) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<netra_client::Error> for Problem {
    fn from(error: netra_client::Error) -> Self {
        use netra_client::Error;
        let exit = match &error {
            Error::Address(_) => Exit::Usage,
            Error::Unreachable(_) | Error::Closed { .. } | Error::Silent => Exit::Unreachable,
            Error::Renewal(cause) if cause.is_passing() => Exit::Unreachable,
            Error::Refused { .. }
            | Error::CursorExpired { .. }
            | Error::Renewal(_)
            | Error::Unexpected { .. } => Exit::Refused,
            Error::Malformed(_)
            | Error::TooLong { .. }
            | Error::Gap { .. }
            | Error::File { .. } => Exit::Failure,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        for code in 0..=Exit::DataInUse as u8 {
            assert!(TABLE.contains(&format!("\n  {code}  ")), "{code}");
        }
    }
}
