//! The way to the readers' connections: so many at once, and whoever has read the least comes first. Many reads of one
//! user do not stand before another's one.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::lines::Lines;

pub(crate) struct Door<O: Copy + Eq + Hash>(Mutex<Inside<O>>);

struct Inside<O: Copy + Eq + Hash> {
    free: usize,
    /// Nobody, while there is room.
    outside: Lines<O, oneshot::Sender<Permit<O>>>,
}

impl<O: Copy + Eq + Hash> Door<O> {
    pub(crate) fn new(room: usize) -> Arc<Self> {
        let outside = Lines::default();
        Arc::new(Self(Mutex::new(Inside {
            free: room,
            outside,
        })))
    }

    /// A permit at once, or where to wait for it.
    pub(crate) fn knock(
        self: &Arc<Self>,
        owner: O,
    ) -> Result<Permit<O>, oneshot::Receiver<Permit<O>>> {
        let mut inside = self.0.lock();
        if inside.free > 0 {
            inside.free -= 1;
            return Ok(Permit::new(self, owner));
        }
        let (called, waits) = oneshot::channel();
        inside.outside.push(owner, called);
        Err(waits)
    }

    /// The next one's turn, whom it is; nobody's, where nobody waits.
    fn next(&self) -> Option<(O, oneshot::Sender<Permit<O>>)> {
        let mut inside = self.0.lock();
        let next = inside.outside.next(&HashSet::new());
        if next.is_none() {
            inside.free += 1;
            inside.outside.forget();
        }
        next
    }

    /// Calls in the first of those who still wait.
    fn call(self: &Arc<Self>) {
        while let Some((owner, called)) = self.next() {
            match called.send(Permit::new(self, owner)) {
                Ok(()) => return,
                // Nobody waits there any more; the room is for the next.
                Err(mut permit) => permit.door = None,
            }
        }
    }
}

/// A place inside, until it is dropped.
pub(crate) struct Permit<O: Copy + Eq + Hash> {
    door: Option<Arc<Door<O>>>,
    owner: O,
    cost: Duration,
}

impl<O: Copy + Eq + Hash> Permit<O> {
    fn new(door: &Arc<Door<O>>, owner: O) -> Self {
        Self {
            door: Some(Arc::clone(door)),
            owner,
            cost: Duration::ZERO,
        }
    }

    /// What its owner is charged with.
    pub(crate) fn costs(&mut self, cost: Duration) {
        self.cost += cost;
    }
}

impl<O: Copy + Eq + Hash> Drop for Permit<O> {
    fn drop(&mut self) {
        let Some(door) = self.door.take() else {
            return;
        };
        door.0.lock().outside.took(self.owner, self.cost);
        door.call();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_users_many_reads_do_not_stand_before_anothers_one() {
        let door = Door::new(1);
        let mut busy = door
            .knock("many")
            .unwrap_or_else(|_| panic!("there is room"));
        let mut many: Vec<_> = (0..100)
            .map(|_| door.knock("many").err().unwrap())
            .collect();
        let mut one = door.knock("one").err().unwrap();
        assert!(one.try_recv().is_err());
        busy.costs(Duration::from_millis(1));
        drop(busy);
        let called = one.try_recv();
        assert!(called.is_ok(), "who has read nothing comes before who has");
        drop(called);
        assert!(many.remove(0).try_recv().is_ok());
    }

    #[test]
    fn who_does_not_wait_any_more_holds_nobody_up() {
        let door = Door::new(2);
        let (a, b) = (door.knock(1).ok().unwrap(), door.knock(1).ok().unwrap());
        let gone: Vec<_> = (0..10_000)
            .map(|owner| door.knock(owner).err().unwrap())
            .collect();
        let mut last = door.knock(2).err().unwrap();
        drop(gone);
        drop(a);
        let called = last.try_recv();
        assert!(called.is_ok());
        drop((b, called));
        let (c, d) = (door.knock(1), door.knock(1));
        assert!(c.is_ok() && d.is_ok() && door.knock(1).is_err());
    }

    #[test]
    fn a_permit_that_nobody_takes_out_of_its_channel_is_given_on() {
        let door = Door::new(1);
        let inside = door.knock(1).ok().unwrap();
        let (called, mut next) = (door.knock(2).err().unwrap(), door.knock(3).err().unwrap());
        drop(inside);
        assert!(next.try_recv().is_err());
        drop(called);
        assert!(next.try_recv().is_ok());
    }
}
