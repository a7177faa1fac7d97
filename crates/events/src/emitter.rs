//! What one run emits with: everything goes through the store's commit, in the run's order.

use std::time::Duration;

use netra_context::{Runtime, UserExecutionContext};
use netra_protocol::Event;
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId};
use netra_protocol::run::Run;
use netra_store::{Changes, Error, Store, Writable};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long a piece of a message may wait to be joined with the next.
pub(crate) const COALESCE: Duration = Duration::from_millis(40);
/// A piece of a message that is this large waits no longer, in bytes.
const LARGE_DELTA: usize = 16 * 1024;
/// The most text of one `message_delta`, in bytes: its JSON stays below the largest event even
/// where every byte is escaped.
const MAX_DELTA: usize = 32 * 1024;

/// Something that happened, before it has an id and a time.
#[derive(Debug, Clone)]
pub struct Emission {
    /// The agent that acts; none for the run itself.
    pub agent: Option<String>,
    /// The step in which it acts; none for the run itself.
    pub step: Option<u32>,
    /// What happened.
    pub kind: EventKind,
}

impl Emission {
    /// Something that happened to the run itself.
    pub fn of_run(kind: EventKind) -> Self {
        Self {
            agent: None,
            step: None,
            kind,
        }
    }

    /// Something that an agent did in a step.
    pub fn of_agent(agent: &str, step: u32, kind: EventKind) -> Self {
        Self {
            agent: Some(agent.to_owned()),
            step: Some(step),
            kind,
        }
    }
}

struct Piece {
    agent: String,
    step: u32,
    message_id: MessageId,
    text: String,
}

#[derive(Default)]
struct Pending {
    pieces: Vec<Piece>,
    since: Option<Instant>,
    /// The database was away in the middle of the run: what was written last is not known here, so nothing follows it.
    is_torn: bool,
}

/// Emits the events of one run to its user. Owned by the run's engine; shared by `&` among its
/// parts, whose commits it puts in order.
pub struct UserWebSocketEmitter {
    runtime: Runtime,
    store: Store,
    run: Writable<Run>,
    pending: Mutex<Pending>,
}

impl UserWebSocketEmitter {
    pub(crate) fn new(runtime: Runtime, store: Store, run: Writable<Run>) -> Self {
        metrics::counter!("netra_bridge_emitters_created_total").increment(1);
        metrics::gauge!("netra_bridge_emitters_active").increment(1.0);
        Self {
            runtime,
            store,
            run,
            pending: Mutex::default(),
        }
    }

    /// The run.
    pub fn run(&self) -> &Writable<Run> {
        &self.run
    }

    /// Commits events, after the pieces of messages that wait. Returns the events' numbers.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn emit(
        &self,
        ctx: &UserExecutionContext,
        emissions: Vec<Emission>,
    ) -> Result<Vec<u64>, Error> {
        self.commit(ctx, Changes::default(), emissions).await
    }

    /// Commits changes and events in one transaction, after the pieces of messages that wait.
    ///
    /// # Errors
    /// As [`Store::commit`]. Where several nodes share the database, everything after an `Unavailable` is refused as it
    /// was: the run is another engine's, which reads what was written.
    pub async fn commit(
        &self,
        ctx: &UserExecutionContext,
        changes: Changes,
        emissions: Vec<Emission>,
    ) -> Result<Vec<u64>, Error> {
        // Held over the commit, so that what two parts of a run emit keeps its order.
        let mut pending = self.pending.lock().await;
        let mut events: Vec<Event> = self.take(&mut pending);
        // What may be refused is written apart, so that no piece of a message is lost with it.
        if changes.rated.is_some() && !events.is_empty() {
            let pieces = std::mem::take(&mut events);
            self.write(&mut pending, ctx, Changes::default(), pieces)
                .await?;
        }
        events.extend(emissions.into_iter().map(|emission| self.event(emission)));
        self.write(&mut pending, ctx, changes, events).await
    }

    async fn write(
        &self,
        pending: &mut Pending,
        ctx: &UserExecutionContext,
        changes: Changes,
        events: Vec<Event>,
    ) -> Result<Vec<u64>, Error> {
        if pending.is_torn {
            let words = "what the run wrote last may be lost: its next engine finds out";
            return Err(Error::Unavailable(words.into()));
        }
        let count = events.len() as u64;
        // On the heap for as long as it takes: what waits for anything else need not have room for it.
        let written = Box::pin(self.store.commit(ctx, &self.run, changes, events)).await;
        // Where one node works alone the run ends here, as soon as that can be written.
        pending.is_torn = matches!(written, Err(Error::Unavailable(_))) && self.store.is_shared();
        // What a run emits after its end, or after another node has taken it, and calls beyond a rate, are refused on
        // purpose.
        let on_purpose = |error| {
            matches!(
                error,
                &Error::RunEnded | &Error::Fenced | &Error::RateExceeded { .. }
            )
        };
        if written.as_ref().is_err_and(|error| !on_purpose(error)) {
            metrics::counter!("netra_bridge_events_failed_total").increment(count);
        }
        written
    }

    /// Adds text to a message. It is committed with the run's next event, or when
    /// [`flush_due`](Self::flush_due) says so.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn delta(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        step: u32,
        message_id: MessageId,
        text: &str,
    ) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let mut pending = self.pending.lock().await;
        match pending
            .pieces
            .iter_mut()
            .find(|piece| piece.message_id == message_id)
        {
            Some(piece) => piece.text.push_str(text),
            None => pending.pieces.push(Piece {
                agent: agent.to_owned(),
                step,
                message_id,
                text: text.to_owned(),
            }),
        }
        let since = *pending.since.get_or_insert_with(Instant::now);
        let large = pending
            .pieces
            .iter()
            .any(|piece| piece.text.len() >= LARGE_DELTA);
        if large || since.elapsed() >= COALESCE {
            let events = self.take(&mut pending);
            self.write(&mut pending, ctx, Changes::default(), events)
                .await?;
        }
        Ok(())
    }

    /// Resolves when pieces of messages have waited long enough; never while none wait. Call
    /// [`flush`](Self::flush) then, and this anew after each delta.
    pub async fn flush_due(&self) {
        let since = self.pending.lock().await.since;
        match since {
            Some(since) => tokio::time::sleep_until(since + COALESCE).await,
            None => std::future::pending().await,
        }
    }

    /// Commits the pieces of messages that wait.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn flush(&self, ctx: &UserExecutionContext) -> Result<(), Error> {
        let mut pending = self.pending.lock().await;
        let events = self.take(&mut pending);
        if !events.is_empty() {
            self.write(&mut pending, ctx, Changes::default(), events)
                .await?;
        }
        Ok(())
    }

    fn take(&self, pending: &mut Pending) -> Vec<Event> {
        pending.since = None;
        let pieces = std::mem::take(&mut pending.pieces);
        let events = pieces.iter().flat_map(|piece| {
            split(&piece.text).into_iter().map(|text| {
                let delta = text.to_owned();
                let kind = EventKind::MessageDelta {
                    message_id: piece.message_id,
                    delta,
                };
                self.event(Emission::of_agent(&piece.agent, piece.step, kind))
            })
        });
        events.collect()
    }

    fn event(&self, emission: Emission) -> Event {
        Event {
            event_id: self.runtime.new_id(EventId::from_parts),
            ts: self.runtime.now(),
            thread_id: self.run.thread_id,
            run_id: self.run.id,
            agent: emission.agent,
            step: emission.step,
            kind: emission.kind,
        }
    }
}

impl Drop for UserWebSocketEmitter {
    fn drop(&mut self) {
        metrics::gauge!("netra_bridge_emitters_active").decrement(1.0);
        metrics::counter!("netra_bridge_emitters_cleaned_total").increment(1);
    }
}

/// Cuts a text into parts of at most [`MAX_DELTA`] bytes, between characters.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while rest.len() > MAX_DELTA {
        let (part, next) = rest.split_at(rest.floor_char_boundary(MAX_DELTA));
        parts.push(part);
        rest = next;
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_nothing_is_lost() {
        let text = "ä€😀x".repeat(20_000);
        let parts = split(&text);
        assert!(parts.len() > 5);
        assert!(parts.iter().all(|part| part.len() <= MAX_DELTA));
        assert_eq!(parts.concat(), text);
    }
}
