//! What a run has done so far, so that a later attempt need not do it again.

use std::collections::HashMap;

use netra_context::{Right, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::id::{RunId, UserId};
use netra_protocol::run::Run;

use crate::Store;
use crate::error::Error;
use crate::handle::Readable;
use crate::json;
use crate::owner::require;
use crate::sql::Connection;
use crate::transaction::Tx;

/// What kind of thing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JournalKind {
    /// A sub-agent began; the value has the hash of its version.
    AgentStarted,
    /// A sub-agent ended; the value is its result or failure.
    AgentCompleted,
    /// A tool call was begun. Without `ToolEnded` nobody knows whether it did its work.
    ToolBegun,
    /// A tool call ended or was denied; the value has its result or failure.
    ToolEnded,
    /// A model answered; the value is its answer.
    ModelCall,
    /// An agent behind an endpoint ended a turn; the value is what it wanted, or its result.
    Turn,
    /// What a script keeps from run to run in its thread. Its key is the agent's name, and it stays when
    /// the rest of the journal goes.
    State,
    /// The user was told a thought.
    Thought,
    /// A person was asked; the value names the approval.
    Asked,
    /// The person's answer.
    Answered,
    /// A tool of the run was given a secret; the value is its name.
    SecretGiven,
    /// The run's place in its trace, where somebody is told of it.
    Trace,
}

impl JournalKind {
    const ALL: [Self; 12] = [
        Self::AgentStarted,
        Self::AgentCompleted,
        Self::ToolBegun,
        Self::ToolEnded,
        Self::ModelCall,
        Self::Turn,
        Self::State,
        Self::Thought,
        Self::Asked,
        Self::Answered,
        Self::SecretGiven,
        Self::Trace,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AgentStarted => "agent_started",
            Self::AgentCompleted => "agent_completed",
            Self::ToolBegun => "tool_begun",
            Self::ToolEnded => "tool_ended",
            Self::ModelCall => "model_call",
            Self::Turn => "turn",
            Self::State => "state",
            Self::Thought => "thought",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::SecretGiven => "secret_given",
            Self::Trace => "trace",
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| Error::corrupt("journal entry's kind"))
    }
}

/// Something that was done. A later entry of the same key and kind takes the place of an earlier.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// The path of the operation in the run: the same in each attempt.
    pub key: String,
    /// What was done.
    pub kind: JournalKind,
    /// The step of the run, from 1.
    pub step: u32,
    /// What it gave.
    pub value: serde_json::Value,
}

/// An entry that was written by an earlier attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The step of the run, from 1.
    pub step: u32,
    /// What it gave.
    pub value: serde_json::Value,
    /// When it was written.
    pub at: Timestamp,
}

/// What earlier attempts of a run have done. Empty for a first attempt.
#[derive(Debug, Clone, Default)]
pub struct Journal(HashMap<String, Vec<(JournalKind, Recorded)>>);

impl Journal {
    /// What was recorded of this operation.
    pub fn get(&self, key: &str, kind: JournalKind) -> Option<&Recorded> {
        let entries = self.0.get(key)?;
        let (_, recorded) = entries.iter().find(|(of, _)| *of == kind)?;
        Some(recorded)
    }

    /// Every entry of a kind, in no order.
    pub fn of_kind(&self, kind: JournalKind) -> impl Iterator<Item = &Recorded> {
        self.keys_of_kind(kind).map(|(_, recorded)| recorded)
    }

    /// Every entry of a kind with its key, in no order.
    pub fn keys_of_kind(&self, kind: JournalKind) -> impl Iterator<Item = (&str, &Recorded)> {
        let of_kind = move |(key, of, recorded)| (of == kind).then_some((key, recorded));
        self.iter().filter_map(of_kind)
    }

    /// The step in which this operation was begun; none where nothing of it was recorded.
    pub fn step_of(&self, key: &str) -> Option<u32> {
        let entries = self.0.get(key)?;
        entries.iter().map(|(_, recorded)| recorded.step).min()
    }

    /// The last step that was taken; 0 where there was none.
    pub fn last_step(&self) -> u32 {
        self.iter()
            .map(|(.., recorded)| recorded.step)
            .max()
            .unwrap_or(0)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, JournalKind, &Recorded)> {
        self.0.iter().flat_map(|(key, entries)| {
            let entries = entries.iter();
            entries.map(|(kind, recorded)| (key.as_str(), *kind, recorded))
        })
    }

    fn insert(&mut self, key: String, kind: JournalKind, recorded: Recorded) {
        self.0.entry(key).or_default().push((kind, recorded));
    }
}

pub(crate) fn write(
    tx: &Tx<'_>,
    run: RunId,
    user: UserId,
    entry: &JournalEntry,
) -> Result<(), Error> {
    tx.put(
        "INSERT INTO journal (run_id, user_id, key, kind, step, value, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (run_id, key, kind) DO UPDATE
         SET step = excluded.step, value = excluded.value, created_at = excluded.created_at",
        (
            run.to_bytes(),
            user.to_bytes(),
            &entry.key,
            entry.kind.as_str(),
            entry.step,
            serde_json::to_string(&entry.value)?,
            tx.now().as_micros(),
        ),
    )?;
    Ok(())
}

impl Store {
    /// What earlier attempts of the run have done.
    ///
    /// # Errors
    /// `Forbidden` without the right to read; `Unavailable`.
    pub async fn journal(
        &self,
        ctx: &UserExecutionContext,
        run: &Readable<Run>,
    ) -> Result<Journal, Error> {
        let user = require(ctx, Right::Read)?;
        let id = run.id;
        let sql = "SELECT key, kind, step, value, created_at FROM journal
                   WHERE run_id = ?1 AND user_id = ?2";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query((id.to_bytes(), user.to_bytes()))?;
            let mut journal = Journal::default();
            while let Some(row) = rows.next()? {
                let kind = JournalKind::parse(&row.get::<_, String>(1)?)?;
                let recorded = Recorded {
                    step: row.get(2)?,
                    value: json::read(&row.get::<_, String>(3)?)?,
                    at: Timestamp::from_micros(row.get(4)?),
                };
                journal.insert(row.get(0)?, kind, recorded);
            }
            Ok(journal)
        };
        self.0.db.of(user).read(read).await
    }
}

/// What agents keep in threads is not what runs have done: of an ended run everything else goes, and so
/// does what its own later state has taken the place of. A run that has not completed keeps nothing.
pub(crate) fn fold(tx: &Tx<'_>, run: &[u8]) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM journal WHERE run_id = ?1 AND (kind <> 'state'
         OR (SELECT status FROM runs WHERE id = ?1) <> 'completed')",
        [run],
    )?;
    tx.execute(
        "DELETE FROM journal WHERE kind = 'state'
         AND key IN (SELECT key FROM journal WHERE run_id = ?1 AND kind = 'state')
         AND run_id IN (SELECT earlier.id FROM runs AS own JOIN runs AS earlier
                        ON earlier.thread_id = own.thread_id AND earlier.id < own.id
                        WHERE own.id = ?1)",
        [run],
    )?;
    Ok(())
}

impl Store {
    /// What the agent of this name has kept in the run's thread: in this run, or else in the last one before it
    /// that has completed. None where it has kept nothing yet.
    ///
    /// # Errors
    /// `Forbidden` without the right to read; `Unavailable`.
    pub async fn agent_state(
        &self,
        ctx: &UserExecutionContext,
        run: &Readable<Run>,
        agent: &str,
    ) -> Result<Option<serde_json::Value>, Error> {
        let user = require(ctx, Right::Read)?;
        let (run, thread, agent) = (run.id, run.thread_id, agent.to_owned());
        let sql = "SELECT journal.value FROM runs JOIN journal ON journal.run_id = runs.id
                   AND journal.key = ?4 AND journal.kind = 'state'
                   WHERE runs.thread_id = ?1 AND runs.user_id = ?2
                   AND (runs.id = ?3 OR (runs.id < ?3 AND runs.status = 'completed'))
                   ORDER BY runs.id DESC LIMIT 1";
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let names = (thread.to_bytes(), user.to_bytes(), run.to_bytes(), agent);
            let mut rows = statement.query(names)?;
            match rows.next()? {
                None => Ok(None),
                Some(row) => Ok(Some(json::read(&row.get::<_, String>(0)?)?)),
            }
        };
        self.0.db.of(user).read(read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        for kind in JournalKind::ALL {
            assert_eq!(JournalKind::parse(kind.as_str()).unwrap(), kind);
        }
        assert!(JournalKind::parse("nonsense").is_err());
    }
}
