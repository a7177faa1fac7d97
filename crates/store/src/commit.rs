//! State, journal, messages and events of a run change in one transaction.

use std::collections::HashMap;

use netra_context::{Right, UserExecutionContext};
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, UserId};
use netra_protocol::message::{Content, Message};
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::usage::RunUsage;
use netra_protocol::{Event, Failure, Timestamp};

use crate::Store;
use crate::approval::{self, Ask};
use crate::audit::{self, AuditRecord};
use crate::error::Error;
use crate::handle::Writable;
use crate::journal::{self, JournalEntry};
use crate::json;
use crate::log::Encoded;
use crate::owner::require;
use crate::rate::{self, RatedCall};
use crate::reservation::{self, Settlement};
use crate::sql::Connection;
use crate::transaction::Tx;
use crate::usage::{self, EndedCall};
use crate::{message, run, thread};

/// What changes besides the log.
#[derive(Debug, Default)]
pub struct Changes {
    /// The run's new state.
    pub run: Option<RunUpdate>,
    /// Messages to be written, or their later state under the same id.
    pub messages: Vec<Message>,
    /// What was done.
    pub journal: Vec<JournalEntry>,
    /// The call of a tool that all this is about: it begins only where there is room for it.
    pub rated: Option<Box<RatedCall>>,
    /// Calls of models that have ended, to be counted with what they used in place of what was set aside.
    pub settled: Vec<Settlement>,
    /// What a person is asked.
    pub asks: Vec<Ask>,
    /// What is to be remembered of who did what.
    pub audit: Vec<AuditRecord>,
}

/// Whether an engine holds the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An engine has it from now on.
    Taken,
    /// No engine has it from now on; this is not a crash. No node holds it any more, unless it waits for a person.
    Released,
}

/// A run's new state; what is none stays.
#[derive(Debug, Default)]
pub struct RunUpdate {
    /// Where it stands now.
    pub status: Option<RunStatus>,
    /// Whether an engine holds it.
    pub hold: Option<Hold>,
    /// How often it has been tried, from 1.
    pub attempt: Option<u32>,
    /// When its engine began.
    pub started_at: Option<Timestamp>,
    /// When it ends by itself.
    pub deadline: Option<Timestamp>,
    /// What it gave.
    pub result: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// What it used so far.
    pub usage: Option<RunUsage>,
}

impl RunUpdate {
    /// A new status and nothing else.
    pub fn to(status: RunStatus) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    fn ends(&self) -> bool {
        self.status.is_some_and(RunStatus::is_terminal)
    }
}

impl Store {
    /// Writes changes and events of a run in one transaction, and returns the events' numbers.
    /// When it returns, the changes are durable and the events are on their way to the user.
    ///
    /// # Errors
    /// `RunEnded` when the run has ended already: it ends exactly once, and nothing follows. `RateExceeded` when there
    /// is no room for the call; then nothing is written.
    pub async fn commit(
        &self,
        ctx: &UserExecutionContext,
        handle: &Writable<Run>,
        changes: Changes,
        events: Vec<Event>,
    ) -> Result<Vec<u64>, Error> {
        if ctx.user_id() != Some(handle.owner()) {
            return Err(Error::NotFound);
        }
        require(ctx, Right::Run)?;
        let ended_calls: Vec<_> = events.iter().filter_map(EndedCall::of).collect();
        let encoded = events
            .iter()
            .map(Encoded::new)
            .collect::<Result<Vec<_>, _>>()?;
        let (handle, owner) = (handle.clone(), handle.owner());
        let audit = audit::Origin::of(ctx);
        let runtime = self.0.runtime.clone();
        let work = move |tx: &mut Tx<'_>| {
            let status = run::refuse_ended(tx, &handle)?;
            run::refuse_transition(status, changes.run.as_ref())?;
            if let Some(call) = &changes.rated {
                rate::pass(tx, handle.owner(), call)?;
            }
            for settlement in &changes.settled {
                reservation::settle(tx, &handle, settlement)?;
            }
            for message in &changes.messages {
                message::put(tx, handle.owner(), message)?;
            }
            for entry in &changes.journal {
                journal::write(tx, handle.id, handle.owner(), entry)?;
            }
            for ask in &changes.asks {
                approval::insert(tx, &handle, ask)?;
            }
            for record in &changes.audit {
                audit::insert(tx, &audit, handle.owner(), record)?;
            }
            for call in &ended_calls {
                usage::add_call(tx, handle.owner(), call)?;
            }
            let ends = encoded.iter().any(Encoded::is_terminal);
            let mut events = if ends {
                approval::withdraw(tx, &handle, &runtime, &audit)?
            } else {
                Vec::new()
            };
            let withdrawn = events.len();
            events.extend(encoded);
            let mut seqs = tx.append(handle.owner(), events)?;
            seqs.drain(..withdrawn);
            if let Some(update) = &changes.run {
                run::update(
                    tx,
                    &handle,
                    update,
                    ends.then(|| seqs.last().copied()).flatten(),
                )?;
                if update.ends() {
                    thread::touch(tx, handle.owner(), handle.thread_id)?;
                    usage::add_run(tx, handle.owner(), update.usage.as_ref())?;
                    reservation::close_run(tx, &handle)?;
                }
            }
            Ok(seqs)
        };
        self.0.db.of(owner).write(work).await
    }
}

/// Gives messages that are still being written the text that the log holds of them so far.
pub(crate) fn fill_unfinished(
    connection: &Connection,
    user: UserId,
    messages: &mut [Message],
) -> Result<(), Error> {
    let mut open: HashMap<MessageId, &mut Message> = messages
        .iter_mut()
        .filter(|message| !message.complete && message.content.is_empty())
        .map(|message| (message.id, message))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let runs: std::collections::HashSet<_> =
        open.values().filter_map(|message| message.run_id).collect();
    for run_id in runs {
        let mut statement = connection.prepare_cached(
            "SELECT e.body FROM events e JOIN runs r ON r.id = ?2
             WHERE e.user_id = ?1 AND e.seq > r.log_start AND e.run_id = ?2
               AND e.type = 'message_delta' ORDER BY e.seq",
        )?;
        let mut rows = statement.query((user.to_bytes(), run_id.to_bytes()))?;
        while let Some(row) = rows.next()? {
            let body: String = row.get(0)?;
            let event: Event = json::read(&body)?;
            if let EventKind::MessageDelta { message_id, delta } = event.kind
                && let Some(message) = open.get_mut(&message_id)
            {
                add_text(&mut message.content, delta);
            }
        }
    }
    Ok(())
}

fn add_text(content: &mut Vec<Content>, delta: String) {
    match content.last_mut() {
        Some(Content::Text { text }) => text.push_str(&delta),
        _ => content.push(Content::Text { text: delta }),
    }
}
