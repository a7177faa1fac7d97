//! A user's starts come one after the other.
//!
//! Each is a chain of tasks, a place in admission and a part of a commit. Of a user who asks for a hundred at once all
//! that would be ready in the same moment, in front of everybody else's. And a repeat with the idempotency key of one
//! that is on its way finds its answer stored.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whoever of one user has or awaits the turn.
struct Line {
    members: usize,
    turn: Arc<Semaphore>,
}

/// The users whose starts are on their way on this node.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<UserId, Line>>>);

/// A place in the line of a user. Given up when dropped, whether its turn had come or not.
struct Member {
    turns: Turns,
    user: UserId,
}

/// The turn of one start. The next one's comes when this is dropped.
pub(crate) struct Turn {
    // The turn is passed on before the place is given up, so that a line that somebody waits in is
    // never taken away.
    _permit: Option<OwnedSemaphorePermit>,
    _member: Member,
}

impl Turns {
    /// Waits for the turn of one more start of this user, in order of arrival.
    pub(crate) async fn take(&self, user: UserId) -> Turn {
        let (member, turn) = self.join(user);
        // It fails for a closed semaphore only, and nobody closes one.
        let permit = turn.acquire_owned().await.ok();
        Turn {
            _permit: permit,
            _member: member,
        }
    }

    fn join(&self, user: UserId) -> (Member, Arc<Semaphore>) {
        let mut lines = self.0.lock();
        let line = lines.entry(user).or_insert_with(|| Line {
            members: 0,
            turn: Arc::new(Semaphore::new(1)),
        });
        line.members += 1;
        let turn = Arc::clone(&line.turn);
        drop(lines);
        let turns = self.clone();
        (Member { turns, user }, turn)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut lines = self.turns.0.lock();
        if let Entry::Occupied(mut line) = lines.entry(self.user) {
            line.get_mut().members -= 1;
            if line.get().members == 0 {
                line.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_same_user_waits_another_does_not_and_nothing_is_kept() {
        let turns = Turns::default();
        let (user, other) = (UserId::from_parts(1, 1), UserId::from_parts(1, 2));
        let first = turns.take(user).await;
        let mut gone = Box::pin(turns.take(user));
        let mut second = Box::pin(turns.take(user));
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(turns.take(other).now_or_never().is_some());
        drop(gone);
        drop(first);
        drop(second.now_or_never().unwrap());
        assert!(turns.0.lock().is_empty());
    }
}
