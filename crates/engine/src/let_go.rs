//! What was begun for an agent and will have no end of its own: it is closed in the log and in the journal,
//! while the agent goes on.

use netra_protocol::error::Failure;
use netra_protocol::id::ToolCallId;
use netra_store::{Changes, Journal, JournalEntry, JournalKind};
use netra_tools::{call_begun, call_closed};

use crate::closing::{self, Open};
use crate::execution::{Fault, Frame, is_within, unwritten};
use crate::sub_agent::Ended;

impl Frame<'_> {
    /// Closes what is open of these operations and within them, innermost first: they have failed with this, and
    /// fail with it again where the run is taken up.
    pub(crate) async fn end_within(
        &self,
        operations: &[String],
        failure: &Failure,
    ) -> Result<(), Fault> {
        let (store, emitter) = (&self.execution.infra.store, &self.execution.emitter);
        let found = async {
            let open = closing::open_in_log(self.ctx, store, emitter).await?;
            let run = emitter.run().as_readable();
            Ok((open, store.journal(self.ctx, run).await?))
        };
        let found = found.await;
        let (mut open, journal) = found.map_err(|error: netra_store::Error| unwritten(&error))?;
        let mut begun = Begun::within(&journal, operations);
        open.retain(&begun.agents, |id| {
            begun.calls.iter().any(|(_, of)| *of == id)
        });
        let mut entries = ended_agents(&journal, operations, failure);
        begun
            .calls
            .retain(|(key, _)| operations.iter().any(|operation| operation == key));
        entries.extend(ended_calls(&journal, &open, &begun.calls, failure));
        let last = open.close(emitter, self.ctx.runtime().now(), failure);
        let changes = Changes {
            journal: entries,
            audit: last.audit,
            ..Changes::default()
        };
        self.execution.custody.release_within(operations);
        self.commit(changes, last.emissions).await
    }
}

/// What a run has begun within some operations, ended or not.
struct Begun {
    /// The first steps of agents.
    agents: Vec<u32>,
    /// Calls of tools, with their keys.
    calls: Vec<(String, ToolCallId)>,
}

impl Begun {
    fn within(journal: &Journal, operations: &[String]) -> Self {
        let within = |key: &str| operations.iter().any(|outer| is_within(key, outer));
        let of_kind = |kind| journal.keys_of_kind(kind).filter(|(key, _)| within(key));
        let agents = of_kind(JournalKind::AgentStarted);
        let calls = of_kind(JournalKind::ToolBegun);
        Self {
            agents: agents.map(|(_, recorded)| recorded.step).collect(),
            calls: calls
                .filter_map(|(key, recorded)| Some((key.to_owned(), call_begun(recorded)?)))
                .collect(),
        }
    }
}

fn ended_agents(journal: &Journal, operations: &[String], failure: &Failure) -> Vec<JournalEntry> {
    let ended = |key: &String| {
        let began = journal.get(key, JournalKind::AgentStarted)?;
        let is_open = journal.get(key, JournalKind::AgentCompleted).is_none();
        is_open.then(|| Ended::failed(failure).entry(key.clone(), began.step))
    };
    operations.iter().filter_map(ended).collect()
}

fn ended_calls(
    journal: &Journal,
    open: &Open,
    calls: &[(String, ToolCallId)],
    failure: &Failure,
) -> Vec<JournalEntry> {
    let ended = |(key, id): &(String, ToolCallId)| {
        let tool = open.tool_of(*id)?;
        let begun = journal.get(key, JournalKind::ToolBegun)?;
        Some(JournalEntry {
            key: key.clone(),
            kind: JournalKind::ToolEnded,
            step: begun.step,
            value: call_closed(*id, tool, failure),
        })
    };
    calls.iter().filter_map(ended).collect()
}
