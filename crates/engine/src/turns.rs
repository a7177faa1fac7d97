//! Requests with the same idempotency key take turns: the second looks for the first one's answer
//! when that is stored, and not while it is on its way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Key = (UserId, String);

/// Whoever has or awaits the turn of one key.
struct Line {
    members: usize,
    turn: Arc<Semaphore>,
}

/// The keys of the requests that are on their way on this node.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<Key, Line>>>);

/// A place in the line of a key. Given up when dropped, whether its turn had come or not.
struct Member {
    turns: Turns,
    key: Key,
}

/// The turn of one request. The next one's comes when this is dropped.
pub(crate) struct Turn {
    // The turn is passed on before the place is given up, so that a line that somebody waits in is
    // never taken away.
    _permit: Option<OwnedSemaphorePermit>,
    _member: Member,
}

impl Turns {
    /// Waits for the turn of this user's key, in order of arrival.
    pub(crate) async fn take(&self, user: UserId, key: &str) -> Turn {
        let (member, turn) = self.join((user, key.to_owned()));
        // It fails for a closed semaphore only, and nobody closes one.
        let permit = turn.acquire_owned().await.ok();
        Turn {
            _permit: permit,
            _member: member,
        }
    }

    fn join(&self, key: Key) -> (Member, Arc<Semaphore>) {
        let mut lines = self.0.lock();
        let line = lines.entry(key.clone()).or_insert_with(|| Line {
            members: 0,
            turn: Arc::new(Semaphore::new(1)),
        });
        line.members += 1;
        let turn = Arc::clone(&line.turn);
        drop(lines);
        let turns = self.clone();
        (Member { turns, key }, turn)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut lines = self.turns.0.lock();
        if let Entry::Occupied(mut line) = lines.entry(self.key.clone()) {
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
    async fn the_same_key_waits_another_does_not_and_nothing_is_kept() {
        let turns = Turns::default();
        let (user, other) = (UserId::from_parts(1, 1), UserId::from_parts(1, 2));
        let first = turns.take(user, "k").await;
        let mut gone = Box::pin(turns.take(user, "k"));
        let mut second = Box::pin(turns.take(user, "k"));
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(turns.take(user, "another").now_or_never().is_some());
        assert!(turns.take(other, "k").now_or_never().is_some());
        drop(gone);
        drop(first);
        drop(second.now_or_never().unwrap());
        assert!(turns.0.lock().is_empty());
    }
}
