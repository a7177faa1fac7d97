//! Turns at work: who may have a worker computing now, and who waits for that.

mod line;

use std::collections::HashMap;
use std::sync::Arc;

use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use line::{Line, Ticket};

/// Whose turn it is. Work of the server's own is nobody's, and takes turns like a user's.
pub(crate) type Owner = Option<UserId>;

#[derive(Debug)]
struct State {
    line: Line<Owner>,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when a turn has ended, or somebody would lend its own.
    changed: Notify,
}

/// The turns of one pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Shared>);

/// The right to have one worker at work. Dropping it gives it to whoever is next.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    owner: Owner,
    ticket: Ticket,
}

/// A place in line. Dropping it gives up the place, or the turn that has come meanwhile.
#[derive(Debug)]
pub(crate) struct Waiting {
    turn: Turn,
    granted: oneshot::Receiver<()>,
}

impl Turns {
    /// As many turns at once as this, at least one.
    pub(crate) fn new(count: usize) -> Turns {
        let state = State {
            line: Line::new(count),
            waiting: HashMap::new(),
        };
        Turns(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        }))
    }

    /// Gets in line.
    pub(crate) fn enter(&self, owner: Owner) -> Waiting {
        let (grant, granted) = oneshot::channel();
        let mut state = self.0.state.lock();
        let ticket = state.line.enter(owner);
        state.waiting.insert(ticket, grant);
        state.wake();
        drop(state);
        let turns = self.clone();
        Waiting {
            turn: Turn {
                turns,
                owner,
                ticket,
            },
            granted,
        }
    }

    /// Whether one more free turn might be for this owner, as far as those of others go.
    pub(crate) fn would_start(&self, owner: Owner) -> bool {
        self.0.state.lock().line.would_start(&owner)
    }

    /// Wakes up when the turns have changed after this was made.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Somebody would lend its turn.
    pub(crate) fn lends(&self) {
        self.0.changed.notify_waiters();
    }
}

impl State {
    fn wake(&mut self) {
        for ticket in self.line.take_started() {
            if let Some(grant) = self.waiting.remove(&ticket) {
                // Whoever no longer listens drops its turn, which passes it on.
                grant.send(()).ok();
            }
        }
    }
}

impl Waiting {
    /// Whether the turn has come; asked again after that, it has not.
    pub(crate) fn has_come(&mut self) -> bool {
        self.granted.try_recv().is_ok()
    }

    /// Waits for the turn. Dropping the future keeps the place.
    pub(crate) async fn come(&mut self) {
        // The sender is dropped only together with the turn, which is held here.
        (&mut self.granted).await.ok();
    }

    /// The turn, after it has come.
    pub(crate) fn taken(self) -> Turn {
        self.turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.0.state.lock();
        state.waiting.remove(&self.ticket);
        state.line.leave(&self.owner, self.ticket);
        state.wake();
        drop(state);
        self.turns.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u128) -> Owner {
        Some(UserId::from_parts(1, n))
    }

    #[test]
    fn who_goes_away_while_its_turn_is_on_the_way_passes_it_on() {
        let turns = Turns::new(1);
        let mut first = turns.enter(user(1));
        assert!(first.has_come());
        let (second, mut third) = (turns.enter(user(1)), turns.enter(user(2)));
        drop(first.taken());
        assert!(!third.has_come(), "the second came earlier");
        drop(second);
        assert!(third.has_come());
        drop(third);
        let state = turns.0.state.lock();
        assert!(state.waiting.is_empty() && state.line.is_empty());
    }

    #[tokio::test]
    async fn whoever_looks_for_a_turn_to_borrow_hears_of_each_that_ends_or_is_lent() {
        let turns = Turns::new(1);
        let held = turns.enter(user(1)).taken();
        let (ended, lent) = (turns.changed(), turns.clone());
        drop(held);
        ended.await;
        let changed = lent.changed();
        turns.lends();
        changed.await;
    }
}
