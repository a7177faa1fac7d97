//! Who executes now and who waits: a state machine without I/O, clock or tasks.
//!
//! A user has at most `allowed` runs at once and a queue in order of arrival; a run whose thread is
//! in use is passed over until the thread is free, so each thread is served in order too. The node
//! has at most `engines` runs at once; users who could start one take turns, so a user with a full
//! queue delays each other user by one run at most.

use std::collections::{HashMap, HashSet, VecDeque};

use netra_protocol::event::QueueReason;
use netra_protocol::id::{ThreadId, UserId};
use netra_protocol::run::{OnBusy, OnLimit};

/// Names one place, from request to release; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Ticket(u64);

/// What a run asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) user: UserId,
    pub(crate) thread: ThreadId,
    /// The user's limit of concurrent runs.
    pub(crate) allowed: u32,
    /// The user's limit of queued runs.
    pub(crate) queue: u32,
    pub(crate) on_limit: OnLimit,
    pub(crate) on_busy: OnBusy,
    /// It was let in before, here or elsewhere, and has begun. It stands before those that are new: what they wait for
    /// may be its own slot or thread.
    pub(crate) had_begun: bool,
}

/// Where a run stands that was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may execute.
    Started,
    /// It waits.
    Queued {
        /// From 1.
        position: u32,
        /// For what.
        reason: QueueReason,
    },
}

/// Why a run is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// All slots of the user are in use, and the run does not want to wait.
    SlotsExhausted,
    /// The user's queue is full.
    QueueFull,
    /// The thread has an active run, and this one does not want to wait.
    ThreadBusy,
    /// The node has as many engines as it may have, and the run does not want to wait.
    Overloaded,
}

/// By what a thread is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    Running,
    /// Nothing of it executes, but it has a queue, or a person is asked.
    Waiting,
}

#[cfg_attr(test, derive(Clone))]
struct Seat {
    user: UserId,
    thread: ThreadId,
    state: State,
    /// It came back, from waiting for a person or from a node that is gone; in a queue it stands before those that are
    /// new.
    is_back: bool,
    /// In a queue, it lets others pass: what its user has on other nodes is in its way.
    is_aside: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running,
    /// Waits for a person: it has no slot, and still has its thread.
    Parked,
}

#[derive(Default)]
#[cfg_attr(test, derive(Clone))]
struct Owner {
    allowed: usize,
    running: usize,
    parked: usize,
    busy: HashSet<ThreadId>,
    queue: VecDeque<Ticket>,
    in_ring: bool,
}

/// How many runs of a user execute and wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) running: usize,
    pub(crate) queued: usize,
    /// For a person.
    pub(crate) parked: usize,
}

#[cfg_attr(test, derive(Clone))]
pub(crate) struct Slots {
    engines: usize,
    /// Nobody begins, however many engines there are.
    closed: bool,
    running: usize,
    parked: usize,
    last: u64,
    seats: HashMap<Ticket, Seat>,
    owners: HashMap<UserId, Owner>,
    /// Users who may be able to start a run, in the order of their turns.
    ring: VecDeque<UserId>,
    started: Vec<Ticket>,
}

impl Slots {
    pub(crate) fn new(engines: usize) -> Self {
        Self {
            engines: engines.max(1),
            closed: false,
            running: 0,
            parked: 0,
            last: 0,
            seats: HashMap::new(),
            owners: HashMap::new(),
            ring: VecDeque::new(),
            started: Vec::new(),
        }
    }

    /// Lets a run in, to execute or to wait, or refuses it. The user's limit is that of the wish from
    /// now on, in either case.
    pub(crate) fn enter(&mut self, wish: &Wish) -> Result<(Ticket, Standing), Refusal> {
        // Before anything is decided: what a raised limit lets start has come earlier.
        self.allow(wish.user, wish.allowed);
        let (thread, limit) = (self.busy_thread(wish), self.full(wish));
        if wish.on_busy == OnBusy::Reject && thread.is_some() {
            return Err(Refusal::ThreadBusy);
        }
        // A run that interrupts one at work takes over what that one has in use.
        let takes_over = wish.on_busy == OnBusy::Interrupt && thread == Some(Busy::Running);
        if let Some(refusal) = limit
            && wish.on_limit == OnLimit::Reject
            && !takes_over
        {
            return Err(refusal);
        }
        let queued = self
            .owners
            .get(&wish.user)
            .map_or(0, |owner| owner.queue.len());
        if (thread.is_some() || limit.is_some()) && queued >= wish.queue as usize {
            return Err(Refusal::QueueFull);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let seat = Seat {
            user: wish.user,
            thread: wish.thread,
            state: State::Queued,
            is_back: wish.had_begun,
            is_aside: false,
        };
        self.seats.insert(ticket, seat);
        let owner = self.owners.entry(wish.user).or_default();
        owner.allowed = wish.allowed as usize;
        self.line_up(wish.user, ticket);
        self.settle(wish.user);
        Ok((ticket, self.standing(ticket)))
    }

    /// Takes a run out, whether it executes or waits. Does nothing the second time.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        let Some(seat) = self.seats.remove(&ticket) else {
            return;
        };
        let Some(owner) = self.owners.get_mut(&seat.user) else {
            return;
        };
        match seat.state {
            State::Running => {
                owner.running -= 1;
                owner.busy.remove(&seat.thread);
                self.running -= 1;
            }
            State::Parked => {
                owner.parked -= 1;
                owner.busy.remove(&seat.thread);
                self.parked -= 1;
            }
            State::Queued => owner.queue.retain(|waiting| *waiting != ticket),
        }
        self.settle(seat.user);
    }

    /// Lets a run in that waits for a person: it takes its thread, and no slot. The user's limit of
    /// concurrent runs is this one from now on.
    pub(crate) fn enter_parked(&mut self, user: UserId, thread: ThreadId, allowed: u32) -> Ticket {
        self.allow(user, allowed);
        self.last += 1;
        let ticket = Ticket(self.last);
        let seat = Seat {
            user,
            thread,
            state: State::Parked,
            is_back: false,
            is_aside: false,
        };
        self.seats.insert(ticket, seat);
        let owner = self.owners.entry(user).or_default();
        owner.allowed = allowed as usize;
        owner.parked += 1;
        owner.busy.insert(thread);
        self.parked += 1;
        ticket
    }

    /// Takes the slot from a run that executes; its thread stays in use.
    pub(crate) fn park(&mut self, ticket: Ticket) {
        let Some(seat) = self.seats.get_mut(&ticket) else {
            return;
        };
        let (user, Some(owner)) = (seat.user, self.owners.get_mut(&seat.user)) else {
            return;
        };
        if seat.state == State::Running {
            seat.state = State::Parked;
            owner.parked += 1;
            owner.running -= 1;
            self.running -= 1;
            self.parked += 1;
            self.settle(user);
        }
    }

    /// Puts a parked run in line for a slot: behind those of the user that came back before it, and
    /// before the others, as its thread waits for it.
    pub(crate) fn rejoin(&mut self, ticket: Ticket) -> Standing {
        let Some((user, thread)) = self
            .seats
            .get_mut(&ticket)
            .filter(|seat| seat.state == State::Parked)
            .map(|seat| {
                seat.state = State::Queued;
                seat.is_back = true;
                (seat.user, seat.thread)
            })
        else {
            return Standing::Started;
        };
        self.line_up(user, ticket);
        if let Some(owner) = self.owners.get_mut(&user) {
            owner.busy.remove(&thread);
            owner.parked -= 1;
            self.parked -= 1;
        }
        self.settle(user);
        self.standing(ticket)
    }

    /// Takes slot and thread from a run that has not begun, as something of its user on another node is in its way.
    /// It keeps its place in line and lets others pass there, but none of its thread that came after it.
    pub(crate) fn stand_aside(&mut self, ticket: Ticket) {
        let Some(seat) = self.seats.get_mut(&ticket) else {
            return;
        };
        if seat.state != State::Running {
            return;
        }
        (seat.state, seat.is_aside) = (State::Queued, true);
        let (user, thread) = (seat.user, seat.thread);
        self.line_up(user, ticket);
        if let Some(owner) = self.owners.get_mut(&user) {
            owner.running -= 1;
            owner.busy.remove(&thread);
            self.running -= 1;
        }
        self.settle(user);
    }

    /// Lets a run that stood aside begin again when its turn comes.
    pub(crate) fn step_back_in(&mut self, ticket: Ticket) -> Standing {
        if let Some(seat) = self.seats.get_mut(&ticket) {
            seat.is_aside = false;
            let user = seat.user;
            self.settle(user);
        }
        self.standing(ticket)
    }

    /// Puts a run in its user's line: one that came back behind those that did so before it, another one by its arrival.
    fn line_up(&mut self, user: UserId, ticket: Ticket) {
        let is_back = self.seats.get(&ticket).is_some_and(|seat| seat.is_back);
        let comes_after = |waiting: &Ticket| {
            let is_new = self.seats.get(waiting).is_none_or(|seat| !seat.is_back);
            is_new && (is_back || *waiting > ticket)
        };
        if let Some(owner) = self.owners.get_mut(&user) {
            let place = owner.queue.iter().position(comes_after);
            let place = place.unwrap_or(owner.queue.len());
            owner.queue.insert(place, ticket);
        }
    }

    /// The runs that were started since this was last asked, in order.
    pub(crate) fn take_started(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.started)
    }

    /// How a run stands that has just come in, or back. What is told here is not told again by
    /// [`take_started`](Self::take_started).
    fn standing(&mut self, ticket: Ticket) -> Standing {
        if let Some(position) = self.position(ticket) {
            let reason = self.reason(ticket);
            return Standing::Queued { position, reason };
        }
        self.started.retain(|started| *started != ticket);
        Standing::Started
    }

    /// What a run waits for: its thread, then a slot of its user, then one of the node.
    fn reason(&self, ticket: Ticket) -> QueueReason {
        let of = |ticket: &Ticket| self.seats.get(ticket);
        let Some(seat) = of(&ticket) else {
            return QueueReason::Engines;
        };
        let Some(owner) = self.owners.get(&seat.user) else {
            return QueueReason::Engines;
        };
        let mut before = owner.queue.iter().take_while(|waiting| **waiting != ticket);
        let same_thread = |waiting| of(waiting).is_some_and(|other| other.thread == seat.thread);
        if owner.busy.contains(&seat.thread) || before.any(same_thread) {
            QueueReason::ThreadBusy
        } else if owner.running >= owner.allowed {
            QueueReason::Slots
        } else {
            QueueReason::Engines
        }
    }

    /// The place in the user's queue, from 1; none for a run that executes or has left.
    pub(crate) fn position(&self, ticket: Ticket) -> Option<u32> {
        let seat = self.seats.get(&ticket)?;
        let owner = self.owners.get(&seat.user)?;
        let index = owner.queue.iter().position(|waiting| *waiting == ticket)?;
        u32::try_from(index + 1).ok()
    }

    pub(crate) fn count(&self, user: UserId) -> Count {
        self.owners
            .get(&user)
            .map_or_else(Count::default, |owner| Count {
                running: owner.running,
                queued: owner.queue.len(),
                parked: owner.parked,
            })
    }

    /// The users who have a run here, in whatever state.
    pub(crate) fn users(&self) -> impl ExactSizeIterator<Item = UserId> {
        self.owners.keys().copied()
    }

    /// All runs that execute and wait on this node.
    pub(crate) fn total(&self) -> Count {
        Count {
            running: self.running,
            queued: self.seats.len() - self.running - self.parked,
            parked: self.parked,
        }
    }

    /// Sets the limit of a user who has a run here.
    fn allow(&mut self, user: UserId, allowed: u32) {
        if let Some(owner) = self.owners.get_mut(&user) {
            owner.allowed = allowed as usize;
            self.settle(user);
        }
    }

    /// By what the run's thread is in use.
    fn busy_thread(&self, wish: &Wish) -> Option<Busy> {
        let owner = self.owners.get(&wish.user)?;
        let waits = |ticket| {
            self.seats
                .get(ticket)
                .is_some_and(|seat| seat.thread == wish.thread)
        };
        let parked = |seat: &Seat| seat.thread == wish.thread && seat.state == State::Parked;
        let is_parked = owner.parked > 0 && self.seats.values().any(parked);
        if owner.busy.contains(&wish.thread) && !is_parked {
            Some(Busy::Running)
        } else if is_parked || owner.queue.iter().any(waits) {
            Some(Busy::Waiting)
        } else {
            None
        }
    }

    /// Which limit of runs at once is reached.
    fn full(&self, wish: &Wish) -> Option<Refusal> {
        if self.count(wish.user).running >= wish.allowed as usize {
            Some(Refusal::SlotsExhausted)
        } else if self.is_full() {
            Some(Refusal::Overloaded)
        } else {
            None
        }
    }

    fn is_full(&self) -> bool {
        self.closed || self.running >= self.engines
    }

    /// Lets nobody begin, or everybody again whose turn it is.
    pub(crate) fn close(&mut self, closed: bool) {
        self.closed = closed;
        self.give_turns();
    }

    /// Restores the rule that nothing waits that could execute, after a change to one user.
    fn settle(&mut self, changed: UserId) {
        self.take_a_turn(changed);
        self.give_turns();
        self.forget_idle(changed);
    }

    fn give_turns(&mut self) {
        while !self.is_full() {
            let Some(user) = self.ring.pop_front() else {
                break;
            };
            if let Some(owner) = self.owners.get_mut(&user) {
                owner.in_ring = false;
            }
            if let Some(ticket) = self.startable(user) {
                self.start(user, ticket);
            }
            self.take_a_turn(user);
            self.forget_idle(user);
        }
    }

    fn forget_idle(&mut self, user: UserId) {
        let idle = |owner: &Owner| {
            owner.running + owner.parked == 0 && owner.queue.is_empty() && !owner.in_ring
        };
        if self.owners.get(&user).is_some_and(idle) {
            self.owners.remove(&user);
        }
    }

    /// Puts the user at the end of the ring, if there is something to start and no turn yet.
    fn take_a_turn(&mut self, user: UserId) {
        if self.startable(user).is_some()
            && let Some(owner) = self.owners.get_mut(&user)
            && !owner.in_ring
        {
            owner.in_ring = true;
            self.ring.push_back(user);
        }
    }

    /// The user's first waiting run whose thread is free, if the user has a free slot.
    fn startable(&self, user: UserId) -> Option<Ticket> {
        let owner = self
            .owners
            .get(&user)
            .filter(|owner| owner.running < owner.allowed)?;
        let mut kept = Vec::new();
        let mut is_free = |ticket: &&Ticket| {
            let Some(seat) = self.seats.get(ticket) else {
                return false;
            };
            if seat.is_aside {
                kept.push(seat.thread);
            }
            !seat.is_aside && !owner.busy.contains(&seat.thread) && !kept.contains(&seat.thread)
        };
        owner.queue.iter().find(|ticket| is_free(ticket)).copied()
    }

    fn start(&mut self, user: UserId, ticket: Ticket) {
        let (Some(owner), Some(seat)) = (self.owners.get_mut(&user), self.seats.get_mut(&ticket))
        else {
            return;
        };
        seat.state = State::Running;
        owner.queue.retain(|waiting| *waiting != ticket);
        owner.running += 1;
        owner.busy.insert(seat.thread);
        self.running += 1;
        self.started.push(ticket);
    }
}

#[cfg(test)]
mod tests;
