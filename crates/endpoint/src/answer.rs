//! What an endpoint says in a turn: read step by step, up to a bound in bytes and time.

use std::time::Duration;

use netra_context::memory;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::wire::Step;

/// The most bytes of the answer to one turn.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
pub(crate) const JSON: &str = "application/json";
pub(crate) const LINES: &str = "application/x-ndjson";

/// The answer to one turn, while it comes in.
#[derive(Debug)]
pub struct Answer {
    response: Response,
    /// Whether each line is a step; else the whole is one.
    in_lines: bool,
    /// What has come and was not a whole step yet.
    pending: Vec<u8>,
    /// How much of it has been looked through for the end of a line.
    searched: usize,
    /// How much has come in all.
    bytes: usize,
    timeout: Duration,
    until: Instant,
}

impl Answer {
    pub(crate) fn of(response: Response, timeout: Duration, until: Instant) -> Self {
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        Self {
            in_lines: kind.eq_ignore_ascii_case(LINES),
            response,
            pending: Vec::new(),
            searched: 0,
            bytes: 0,
            timeout,
            until,
        }
    }

    /// The next step. `clean` sees it before anything else does. After the last one nothing more is
    /// to be read.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn next(&mut self, clean: impl Fn(Value) -> Value) -> Result<Step, Error> {
        if let Some(encoding) = self.response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(nonsense("it is encoded, which was not asked for"));
        }
        loop {
            if let Some(line) = self.line() {
                if !line.trim_ascii().is_empty() {
                    return read(&line, clean);
                }
                continue;
            }
            if !self.more().await? {
                let rest = std::mem::take(&mut self.pending);
                if rest.trim_ascii().is_empty() {
                    return Err(Error::CutOff);
                }
                return read(&rest, clean);
            }
        }
    }

    /// The next line that has come whole.
    fn line(&mut self) -> Option<Vec<u8>> {
        if !self.in_lines {
            return None;
        }
        let fresh = self.pending.get(self.searched..)?;
        let Some(end) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let rest = self.pending.split_off(self.searched + end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.pending, rest))
    }

    /// Waits for more; false at the end.
    async fn more(&mut self) -> Result<bool, Error> {
        let chunk = timeout_at(self.until, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| Error::Timeout(self.timeout))?;
        let Some(chunk) = chunk.map_err(|_| Error::CutOff)? else {
            return Ok(false);
        };
        self.bytes += chunk.len();
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(Error::TooLarge(MAX_ANSWER_BYTES));
        }
        // The list may take twice that while it grows.
        let _room = memory::reserve(2 * (self.pending.len() + chunk.len()))?;
        self.pending.extend_from_slice(&chunk);
        Ok(true)
    }
}

fn read(text: &[u8], clean: impl Fn(Value) -> Value) -> Result<Step, Error> {
    let _room = memory::reserve_for_json(text)?;
    let value: Value = serde_json::from_slice(text).map_err(|error| {
        // Its words name line and column, and no content.
        let words = format!("no JSON: {error}");
        let hint = match error.classify() {
            serde_json::error::Category::Syntax if text.starts_with(b"{") => {
                "; several steps need the type application/x-ndjson, and a line each"
            }
            _ => "",
        };
        nonsense(words + hint)
    })?;
    let step = Step::deserialize(clean(value)).map_err(|error| nonsense(error.to_string()))?;
    match &step {
        Step::Calls { calls, .. } if calls.is_empty() => {
            Err(nonsense("`calls` has at least one call"))
        }
        _ => Ok(step),
    }
}

fn nonsense(words: impl Into<String>) -> Error {
    let words: String = words.into();
    Error::Nonsense(words.chars().take(300).collect())
}
