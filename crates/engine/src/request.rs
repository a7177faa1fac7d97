//! What is asked for when a run is started: checked against the user's limits and the agent before
//! anything is stored.

use std::sync::Arc;

use netra_context::{Trace, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::file::File;
use netra_protocol::id::{FileId, MessageId};
use netra_protocol::limits::Limits;
use netra_protocol::run::{Run, StartRun};
use netra_store::{Journal, Store, Writable};
use netra_tools::bytes_of;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::agents::Definition;
use crate::error::Error;
use crate::factory::Infra;
use crate::live::Listed;

/// The largest metadata of a run, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// The most files of one run.
const MAX_FILES: usize = 50;
/// The longest title that a thread gets from its first message, in characters.
const TITLE_CHARS: usize = 80;

/// A request that may be carried out.
pub(crate) struct Accepted {
    pub(crate) agent: Arc<Definition>,
    /// As the user gave it.
    pub(crate) given: Value,
    /// As the agent gets it.
    pub(crate) input: Value,
    pub(crate) files: Vec<File>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) timeout_ms: u64,
}

/// A run that was made, for its engine.
pub(crate) struct Commission {
    pub(crate) run: Writable<Run>,
    pub(crate) agent: Arc<Definition>,
    pub(crate) input: Value,
    pub(crate) files: Vec<File>,
    pub(crate) timeout_ms: u64,
    pub(crate) deadline: Instant,
    pub(crate) deadline_at: Timestamp,
    pub(crate) input_message_id: MessageId,
    pub(crate) begin: Begin,
    /// What earlier attempts have done.
    pub(crate) journal: Journal,
    /// The run's place in its trace, where it is told of.
    pub(crate) trace: Option<Trace>,
    pub(crate) listed: Listed,
}

/// With what an engine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The run's first events are in the log already, written with the run.
    Begun,
    /// The run begins after it has waited for its slot.
    First,
    /// An earlier engine has begun the run.
    Again(Resumption),
}

/// After what a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// Its server was killed.
    Crash,
    /// Its server was told to stop.
    Drain,
    /// What a person was asked is answered.
    Answer,
}

impl Resumption {
    /// As `run_resumed` tells it.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Drain => "drain",
            Self::Answer => "approval",
        }
    }
}

/// Checks the request. Look-ups come before what depends on the object.
pub(crate) async fn accept(
    ctx: &UserExecutionContext,
    infra: &Infra,
    request: StartRun,
) -> Result<Accepted, Error> {
    let limits = ctx.limits().ok_or(Error::Forbidden)?;
    let agent = infra.agents.get_for(ctx, &request.agent);
    let agent = agent.ok_or(Error::NotFound)?;
    let files = find_files(ctx, &infra.store, &request.files).await?;
    let timeout_ms = timeout(&request, limits)?;
    let metadata = request.metadata.unwrap_or_default();
    if bytes_of(&Value::Object(metadata.clone())) > MAX_METADATA_BYTES {
        return Err(Error::InvalidRequest {
            message: format!("metadata may have at most {MAX_METADATA_BYTES} bytes"),
            details: broken("metadata", &format!("maxBytes {MAX_METADATA_BYTES}")),
        });
    }
    check_length(&request.input, limits.message_chars)?;
    let input = agent
        .accept(request.input.clone())
        .map_err(|misfits| Error::InvalidInput {
            message: format!(
                "the input does not fit the agent's schema: {}",
                misfits.join("; ")
            ),
            details: json!({ "field": "input", "rule": "input_schema", "misfits": misfits }),
        })?;
    let wanted = agent
        .needs_key
        .as_ref()
        .map(|needs| needs.provider.as_str());
    let own_keys = infra.own_keys(ctx, wanted).await?;
    if let Some(problem) = agent.problem_with(&own_keys) {
        return Err(Error::AgentNotReady(problem.to_owned()));
    }
    Ok(Accepted {
        agent,
        given: request.input,
        input,
        files,
        metadata,
        timeout_ms,
    })
}

async fn find_files(
    ctx: &UserExecutionContext,
    store: &Store,
    ids: &[FileId],
) -> Result<Vec<File>, Error> {
    if ids.len() > MAX_FILES {
        return Err(Error::InvalidRequest {
            message: format!("a run may have at most {MAX_FILES} files"),
            details: broken("files", &format!("maxItems {MAX_FILES}")),
        });
    }
    let mut files: Vec<File> = Vec::with_capacity(ids.len());
    for id in ids {
        let file = match store.file(ctx, *id).for_read().await {
            Ok(file) => file.into_inner(),
            Err(netra_store::Error::NotFound) => return Err(Error::NotFound),
            Err(error) => return Err(error.into()),
        };
        if files.iter().all(|known| known.id != file.id) {
            files.push(file);
        }
    }
    Ok(files)
}

fn timeout(request: &StartRun, limits: &Limits) -> Result<u64, Error> {
    let most = limits.run_timeout_max_ms;
    let rule = match request.timeout_ms {
        None => return Ok(limits.run_timeout_ms.min(most)),
        Some(ms) if (1..=most).contains(&ms) => return Ok(ms),
        Some(0) => "minimum 1",
        Some(_) => "limits.run_timeout_max_ms",
    };
    Err(Error::InvalidRequest {
        message: format!("timeout_ms must be from 1 to {most}"),
        details: broken("timeout_ms", rule),
    })
}

/// Where a request is wrong, and which rule it breaks.
fn broken(field: &str, rule: &str) -> Value {
    json!({ "field": field, "rule": rule })
}

/// The limit on texts holds for all texts of the input together.
fn check_length(input: &Value, allowed: u32) -> Result<(), Error> {
    let chars = chars_of(input);
    if chars > u64::from(allowed) {
        return Err(Error::InvalidInput {
            message: format!("the input has {chars} characters, {allowed} are allowed"),
            details: json!({
                "field": "input", "rule": "limits.message_chars",
                "limit": "message_chars", "used": chars, "allowed": allowed,
            }),
        });
    }
    Ok(())
}

fn chars_of(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Array(list) => list.iter().map(chars_of).sum(),
        Value::Object(fields) => fields.values().map(chars_of).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The title of a thread that a run makes: the beginning of the first line of its text.
pub(crate) fn title(input: &Value) -> String {
    let text = input
        .get("text")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("Untitled");
    match line.char_indices().nth(TITLE_CHARS) {
        None => line.to_owned(),
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_beginning_of_the_first_line() {
        assert_eq!(
            title(&json!({"text": "\n  Cut the cost \nmore"})),
            "Cut the cost"
        );
        assert_eq!(title(&json!({"query": 1})), "Untitled");
        let long = title(&json!({"text": "é".repeat(500)}));
        assert_eq!(long.chars().count(), TITLE_CHARS + 1);
    }

    #[test]
    fn texts_count_wherever_they_stand() {
        assert_eq!(chars_of(&json!("ééé")), 3);
        assert_eq!(chars_of(&json!({"a": ["bc", {"d": "e"}, 7]})), 3);
        assert!(check_length(&json!({"text": "x".repeat(100)}), 99).is_err());
        assert!(check_length(&json!({"text": "x".repeat(100)}), 100).is_ok());
    }
}
