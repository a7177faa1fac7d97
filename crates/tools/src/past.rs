//! What earlier attempts of a run did of a call: what is done is not done again, and of what was
//! begun without a known end a person decides. And what they were given that is not to be told.

use std::collections::BTreeSet;

use netra_protocol::approval::{Decision, ResolveApproval};
use netra_protocol::error::Failure;
use netra_protocol::id::ToolCallId;
use netra_store::{Journal, JournalKind, Recorded};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dispatcher::{Done, Error};

/// How a call ended, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) tool_call_id: ToolCallId,
    pub(crate) tool_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
    /// Whether the error was that of the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ends_run: bool,
}

impl Ended {
    /// What the agent was told.
    pub(crate) fn outcome(self) -> Result<Done, Error> {
        match self.error {
            Some(failure) if self.ends_run => Err(Error::Run(failure)),
            Some(failure) => Err(Error::Call(failure)),
            None => Ok(Done {
                id: self.tool_call_id,
                value: self.result.unwrap_or_default(),
            }),
        }
    }
}

/// What earlier attempts of a run have used.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// How many calls they have begun.
    pub(crate) begun: u32,
    /// The tools that were called.
    pub(crate) tools: BTreeSet<String>,
    /// The names of the secrets that tools, or an agent's endpoint, were given.
    pub(crate) secrets: BTreeSet<String>,
}

impl Earlier {
    pub(crate) fn of(journal: &Journal) -> Self {
        let begun = journal.of_kind(JournalKind::ToolBegun);
        let called = begun.chain(journal.of_kind(JournalKind::ToolEnded));
        let tools = called.filter_map(|entry| entry.value["tool_name"].as_str());
        let given = journal.of_kind(JournalKind::SecretGiven);
        let secrets = given.filter_map(|entry| entry.value.as_str());
        let times = journal.of_kind(JournalKind::ToolBegun).map(times_begun);
        Self {
            begun: times.fold(0, u32::saturating_add),
            tools: tools.map(str::to_owned).collect(),
            secrets: secrets.map(str::to_owned).collect(),
        }
    }
}

#[derive(Deserialize)]
struct Named {
    tool_call_id: ToolCallId,
}

#[derive(Deserialize)]
struct Answered {
    answer: ResolveApproval,
}

/// What there is of a call from earlier attempts; nothing of it for a call that is made first.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The call's key in the run's journal.
    pub(crate) key: String,
    pub(crate) ended: Option<Ended>,
    /// How often it was begun. Where it has not ended, nobody knows whether it did its work.
    pub(crate) begun: u32,
    /// What the call is named that a person was asked for, and that has not begun.
    pub(crate) asked: Option<ToolCallId>,
    pub(crate) answer: Option<ResolveApproval>,
}

impl Past {
    /// Reads what the journal has of the call with this key.
    pub fn of(journal: &Journal, key: String) -> Self {
        let id = |kind| read::<Named>(journal.get(&key, kind)).map(|named| named.tool_call_id);
        let ended = read::<Ended>(journal.get(&key, JournalKind::ToolEnded));
        let entry = journal.get(&key, JournalKind::ToolBegun);
        let begun = id(JournalKind::ToolBegun);
        // A consent is for one call: once that has begun, it is used up.
        let asked = id(JournalKind::Asked).filter(|asked| begun != Some(*asked));
        let answer = asked.and_then(|_| read::<Answered>(journal.get(&key, JournalKind::Answered)));
        Self {
            ended,
            begun: entry.map_or(0, times_begun),
            asked,
            answer: answer.map(|answered| answered.answer),
            key,
        }
    }
}

impl Past {
    /// Whether it was begun, and nobody knows whether it did its work.
    pub(crate) const fn is_unknown(&self) -> bool {
        self.begun > 0
    }

    /// Whether a person has said no.
    pub(crate) fn is_refused(&self) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|answer| answer.decision == Decision::Deny)
    }

    /// The arguments that a person has put in place of those asked for.
    pub(crate) fn edited(&self) -> Option<Value> {
        let answer = self.answer.as_ref()?;
        (answer.decision == Decision::Approve).then(|| answer.arguments.clone())?
    }
}

/// Which call a run's journal says was begun (`ToolBegun`).
pub fn call_begun(recorded: &Recorded) -> Option<ToolCallId> {
    read::<Named>(Some(recorded)).map(|named| named.tool_call_id)
}

/// What the journal has of a call (`ToolEnded`) that got its end from elsewhere.
pub fn call_closed(id: ToolCallId, tool: &str, failure: &Failure) -> Value {
    json!(Ended {
        tool_call_id: id,
        tool_name: tool.to_owned(),
        result: None,
        error: Some(failure.clone()),
        ends_run: false,
    })
}

fn read<T: DeserializeOwned>(recorded: Option<&Recorded>) -> Option<T> {
    T::deserialize(&recorded?.value).ok()
}

/// That a call of this tool was begun, and how often so far.
pub(crate) fn begun(id: ToolCallId, tool: &str, times: u32) -> Value {
    json!({ "tool_call_id": id, "tool_name": tool, "times": times })
}

/// How often the call was begun: a call that is made again takes the place of the earlier one in the journal.
fn times_begun(recorded: &Recorded) -> u32 {
    let times = recorded.value["times"].as_u64();
    times.map_or(1, |times| u32::try_from(times).unwrap_or(u32::MAX))
}
