//! Admission: fallible, decided before anything is stored. What it yields is released exactly once.

#[cfg(test)]
mod interleavings;
mod slots;

use std::collections::HashMap;
use std::sync::Arc;

use metrics::Gauge;
use netra_protocol::id::{ThreadId, UserId};
use netra_protocol::usage::SlotUsage;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use slots::Refusal;
pub(crate) use slots::{Count, Standing, Ticket, Wish};

use slots::Slots;

struct State {
    slots: Slots,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    gauges: Gauges,
}

/// What is told of the slots.
struct Gauges {
    users: Gauge,
    queued: Gauge,
    parked: Gauge,
}

impl Gauges {
    /// The handles are kept: they are set with the lock held.
    fn new() -> Self {
        Self {
            users: metrics::gauge!("netra_engine_users"),
            queued: metrics::gauge!("netra_runs_queued"),
            parked: metrics::gauge!("netra_runs_waiting"),
        }
    }
}

/// The slots of this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Mutex<State>>);

/// What ends with its drop: a place in a queue, or a slot.
struct Seat {
    admission: Admission,
    ticket: Ticket,
}

/// A run that was let in: it executes or waits. Dropping it gives the place up.
pub(crate) struct Place {
    seat: Seat,
    standing: Standing,
    granted: Option<oneshot::Receiver<()>>,
}

/// A slot. Dropping it gives the slot back, once, and starts who is next.
pub(crate) struct Permit {
    seat: Seat,
}

/// The place of a run that lets others pass, for what its user has on other nodes. Dropping it gives that up.
pub(crate) struct Aside {
    seat: Seat,
}

/// The place of a run that waits for a person: no slot, but its thread. Dropping it gives that up.
pub(crate) struct Parked {
    seat: Seat,
}

impl Seat {
    /// Gives back what it has, or a part of it, so that others start.
    fn give_back(&self, part: fn(&mut Slots, Ticket)) {
        let mut state = self.admission.0.lock();
        part(&mut state.slots, self.ticket);
        state.wake_started();
    }

    /// Goes back in line for a slot.
    fn go_back(self, line_up: fn(&mut Slots, Ticket) -> Standing) -> Place {
        let mut state = self.admission.0.lock();
        let standing = line_up(&mut state.slots, self.ticket);
        let granted = state.listen(self.ticket, standing);
        state.wake_started();
        drop(state);
        Place {
            seat: self,
            standing,
            granted,
        }
    }
}

impl Permit {
    /// Gives the slot back and keeps the thread.
    pub(crate) fn park(self) -> Parked {
        self.seat.give_back(Slots::park);
        Parked { seat: self.seat }
    }

    /// Gives slot and thread back, and keeps the place in line.
    pub(crate) fn stand_aside(self) -> Aside {
        self.seat.give_back(Slots::stand_aside);
        Aside { seat: self.seat }
    }
}

impl Aside {
    /// Waits for its turn again.
    pub(crate) fn step_back_in(self) -> Place {
        self.seat.go_back(Slots::step_back_in)
    }
}

impl Parked {
    pub(crate) fn ticket(&self) -> Ticket {
        self.seat.ticket
    }

    /// Goes back in line for a slot.
    pub(crate) fn rejoin(self) -> Place {
        self.seat.go_back(Slots::rejoin)
    }
}

impl Admission {
    /// For a node that may have this many engines at once.
    pub(crate) fn new(engines: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            slots: Slots::new(engines),
            waiting: HashMap::new(),
            gauges: Gauges::new(),
        })))
    }

    /// Lets a run in, to execute or to wait, or says why not.
    pub(crate) fn enter(&self, wish: &Wish) -> Result<Place, Refusal> {
        let mut state = self.0.lock();
        let entered = state.slots.enter(wish);
        // A refused run may have brought a higher limit, by which others start.
        state.wake_started();
        let (ticket, standing) = entered?;
        let granted = state.listen(ticket, standing);
        state.tell();
        drop(state);
        let seat = Seat {
            admission: self.clone(),
            ticket,
        };
        Ok(Place {
            seat,
            standing,
            granted,
        })
    }

    /// Lets a run in that waits for a person, of a user with this limit of concurrent runs.
    pub(crate) fn enter_parked(&self, user: UserId, thread: ThreadId, allowed: u32) -> Parked {
        let mut state = self.0.lock();
        let ticket = state.slots.enter_parked(user, thread, allowed);
        state.wake_started();
        drop(state);
        let admission = self.clone();
        Parked {
            seat: Seat { admission, ticket },
        }
    }

    /// Lets nobody begin, or everybody again whose turn it is: those who wait keep their places.
    pub(crate) fn close(&self, closed: bool) {
        let mut state = self.0.lock();
        state.slots.close(closed);
        state.wake_started();
    }

    /// What the user has in use now.
    pub(crate) fn usage(&self, user: UserId, allowed: u32) -> SlotUsage {
        let count = self.0.lock().slots.count(user);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        SlotUsage {
            running: number(count.running),
            queued: number(count.queued),
            allowed,
        }
    }

    /// What each user has here, of this one moment.
    pub(crate) fn users(&self) -> Vec<(UserId, Count)> {
        let state = self.0.lock();
        let slots = &state.slots;
        slots
            .users()
            .map(|user| (user, slots.count(user)))
            .collect()
    }

    /// How many runs execute and wait on this node.
    pub(crate) fn total(&self) -> (usize, usize) {
        let total = self.0.lock().slots.total();
        (total.running, total.queued)
    }
}

impl State {
    fn listen(&mut self, ticket: Ticket, standing: Standing) -> Option<oneshot::Receiver<()>> {
        match standing {
            Standing::Started => None,
            Standing::Queued { .. } => {
                let (grant, granted) = oneshot::channel();
                self.waiting.insert(ticket, grant);
                Some(granted)
            }
        }
    }

    fn tell(&self) {
        let total = self.slots.total();
        self.gauges.users.set(self.slots.users().len() as f64);
        self.gauges.queued.set(total.queued as f64);
        self.gauges.parked.set(total.parked as f64);
    }

    fn wake_started(&mut self) {
        self.tell();
        for ticket in self.slots.take_started() {
            if let Some(grant) = self.waiting.remove(&ticket) {
                // Whoever no longer listens drops its seat, which frees the slot again.
                grant.send(()).ok();
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.admission.0.lock();
        state.waiting.remove(&self.ticket);
        state.slots.leave(self.ticket);
        state.wake_started();
    }
}

impl Place {
    pub(crate) fn ticket(&self) -> Ticket {
        self.seat.ticket
    }

    /// How it stood when it was let in.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Waits for the slot. Dropping the future gives the place up.
    pub(crate) async fn granted(self) -> Permit {
        if let Some(granted) = self.granted {
            // The sender is dropped only together with the seat, which is held here.
            granted.await.ok();
        }
        Permit { seat: self.seat }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use netra_protocol::run::{OnBusy, OnLimit};

    use super::*;

    fn wish(thread: u128) -> Wish {
        Wish {
            user: UserId::from_parts(1, 1),
            thread: ThreadId::from_parts(1, thread),
            allowed: 1,
            queue: 10,
            on_limit: OnLimit::Queue,
            on_busy: OnBusy::Queue,
            had_begun: false,
        }
    }

    #[tokio::test]
    async fn a_dropped_permit_starts_the_next_and_one_only() {
        let admission = Admission::new(10);
        let first = admission.enter(&wish(1)).unwrap().granted().await;
        let mut second = Box::pin(admission.enter(&wish(2)).unwrap().granted());
        let mut third = Box::pin(admission.enter(&wish(3)).unwrap().granted());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let permit = (&mut second).now_or_never().unwrap();
        assert!((&mut third).now_or_never().is_none());
        drop(permit);
        drop(third.await);
        assert_eq!(admission.total(), (0, 0));
    }

    #[tokio::test]
    async fn who_goes_away_while_the_slot_is_on_its_way_gives_it_to_the_next() {
        let admission = Admission::new(10);
        let first = admission.enter(&wish(1)).unwrap().granted().await;
        let mut second = Box::pin(admission.enter(&wish(2)).unwrap().granted());
        assert!((&mut second).now_or_never().is_none());
        let third = admission.enter(&wish(3)).unwrap().granted();
        drop(first);
        drop(second);
        drop(third.now_or_never().unwrap());
        assert_eq!(admission.total(), (0, 0));
    }
}
