//! Who waits for a turn and who has one: a state machine without I/O, clock or tasks.
//!
//! Owners take turns, so one with much to do delays each other by one turn at most. The last turn is
//! only for an owner who has none: so whoever comes new need not wait for one of a busy owner to end.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Names one place, from coming to going; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ticket(u64);

#[derive(Clone, Debug, Default)]
struct Places {
    at_work: usize,
    /// In the order of their coming. An owner for whom something waits stands in the ring, once.
    waiting: VecDeque<Ticket>,
}

/// Owners are remembered as long as they have a turn or wait for one.
#[derive(Clone, Debug)]
pub(super) struct Line<O> {
    free: usize,
    last: u64,
    owners: HashMap<O, Places>,
    /// Owners for whom something waits, in the order of their turns.
    ring: VecDeque<O>,
    started: Vec<Ticket>,
}

impl<O: Clone + Eq + Hash> Line<O> {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: count.max(1),
            last: 0,
            owners: HashMap::new(),
            ring: VecDeque::new(),
            started: Vec::new(),
        }
    }

    /// Gets in line behind what waits for this owner.
    pub(super) fn enter(&mut self, owner: O) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        let places = self.owners.entry(owner.clone()).or_default();
        if places.waiting.is_empty() {
            self.ring.push_back(owner);
        }
        places.waiting.push_back(ticket);
        self.give_turns();
        ticket
    }

    /// Goes, from work or from the line. Must be called once for each ticket.
    pub(super) fn leave(&mut self, owner: &O, ticket: Ticket) {
        let Entry::Occupied(mut entry) = self.owners.entry(owner.clone()) else {
            return;
        };
        let places = entry.get_mut();
        match places.waiting.iter().position(|waits| *waits == ticket) {
            Some(at) => {
                places.waiting.remove(at);
                if places.waiting.is_empty() {
                    self.ring.retain(|waits| waits != owner);
                }
            }
            None => {
                places.at_work -= 1;
                self.free += 1;
            }
        }
        if places.at_work == 0 && places.waiting.is_empty() {
            entry.remove();
        }
        self.give_turns();
    }

    /// What has its turn since this was last asked, in order.
    pub(super) fn take_started(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.started)
    }

    /// Whether something of this owner might start if one more turn were free.
    pub(super) fn would_start(&self, owner: &O) -> bool {
        self.may_have(owner, self.free + 1)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.ring.is_empty() && self.started.is_empty()
    }

    fn may_have(&self, owner: &O, free: usize) -> bool {
        let at_work = self.owners.get(owner).map_or(0, |places| places.at_work);
        free > 1 || (free == 1 && at_work == 0)
    }

    fn give_turns(&mut self) {
        let next = |line: &Self| {
            line.ring
                .iter()
                .position(|owner| line.may_have(owner, line.free))
        };
        while let Some(owner) = next(self).and_then(|at| self.ring.remove(at)) {
            let Some(places) = self.owners.get_mut(&owner) else {
                continue;
            };
            if let Some(ticket) = places.waiting.pop_front() {
                places.at_work += 1;
                self.free -= 1;
                self.started.push(ticket);
            }
            if !places.waiting.is_empty() {
                self.ring.push_back(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests;
