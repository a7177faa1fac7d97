//! What must hold of the slots, told by a plain list of runs: the limiter is held against it after
//! each move.

use std::collections::HashSet;

use super::*;

/// One thing that can happen. Places are places in the list of all runs that are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    Enter(Entering),
    /// Whatever it does. It leaves twice, and the second time changes nothing.
    Leave(usize),
    /// From its slot, to wait for a person.
    Park(usize),
    /// From waiting for a person.
    Rejoin(usize),
    /// As at a start of the server.
    EnterParked {
        user: usize,
        thread: usize,
        allowed: u32,
    },
    /// Nobody begins any more, or everybody again.
    Close(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entering {
    pub(super) user: usize,
    pub(super) thread: usize,
    pub(super) allowed: u32,
    pub(super) on_limit: OnLimit,
    pub(super) on_busy: OnBusy,
}

/// A run that is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) ticket: Ticket,
    pub(super) user: usize,
    pub(super) thread: usize,
    pub(super) state: State,
    /// Whether it has waited for a person.
    is_back: bool,
}

impl Known {
    fn holds(&self, user: usize, thread: usize) -> bool {
        self.state != State::Queued && (self.user, self.thread) == (user, thread)
    }
}

/// A rule that was broken.
pub(super) type Broken = String;

fn rule(holds: bool, what: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The limiter, and the list of runs that it is held against.
#[derive(Clone)]
pub(super) struct Book {
    pub(super) slots: Slots,
    /// In the order in which they are served, of each user.
    pub(super) runs: Vec<Known>,
    engines: usize,
    queue: usize,
    pub(super) closed: bool,
    allowed: Vec<usize>,
    /// How many runs of the second user have started while the first had one that only the node's
    /// limit held up.
    overtaken: Vec<Vec<usize>>,
}

fn user_id(user: usize) -> UserId {
    UserId::from_parts(1, user as u128)
}

fn thread_id(user: usize, thread: usize) -> ThreadId {
    ThreadId::from_parts(1, (user * 100 + thread) as u128)
}

impl Book {
    pub(super) fn new(users: usize, engines: usize, queue: usize) -> Self {
        Self {
            slots: Slots::new(engines),
            runs: Vec::new(),
            engines,
            queue,
            closed: false,
            allowed: vec![0; users],
            overtaken: vec![vec![0; users]; users],
        }
    }

    /// Makes the move, and says which rule that has broken.
    pub(super) fn make(&mut self, movement: Move) -> Result<(), Broken> {
        let mut started = Vec::new();
        match movement {
            Move::Enter(entering) => {
                let allowed = entering.allowed as usize;
                if self.runs.iter().any(|run| run.user == entering.user) {
                    self.allowed[entering.user] = allowed;
                }
                // What the new limit lets start comes before the decision.
                let entered = self.slots.enter(&self.wish(entering));
                let before = self.slots.take_started();
                self.note(&before)?;
                let expected = self.refusal(&entering);
                rule(entered.err() == expected, "refused otherwise than due")?;
                if let Ok((ticket, standing)) = entered {
                    self.allowed[entering.user] = allowed;
                    let Entering { user, thread, .. } = entering;
                    self.know(ticket, (user, thread), State::Queued);
                    self.stands(ticket, standing, &mut started)?;
                    if started.is_empty() {
                        let waits = self.count(user, State::Queued);
                        rule(waits <= self.queue, "a queue is longer than allowed")?;
                    }
                }
            }
            Move::Leave(at) => {
                let left = self.runs.remove(at);
                self.slots.leave(left.ticket);
                self.slots.leave(left.ticket);
            }
            Move::Park(at) => {
                self.slots.park(self.runs[at].ticket);
                self.runs[at].state = State::Parked;
            }
            Move::Rejoin(at) => {
                let mut run = self.runs.remove(at);
                let standing = self.slots.rejoin(run.ticket);
                (run.state, run.is_back) = (State::Queued, true);
                // Behind those that came back earlier, before all others of its user.
                let back = |other: &Known| other.is_back && other.state == State::Queued;
                let place = self.runs.iter().rposition(back).map_or(0, |last| last + 1);
                self.runs.insert(place, run);
                self.stands(run.ticket, standing, &mut started)?;
            }
            Move::Close(closed) => {
                self.slots.close(closed);
                self.closed = closed;
            }
            Move::EnterParked {
                user,
                thread,
                allowed,
            } => {
                self.allowed[user] = allowed as usize;
                let (id, on) = (user_id(user), thread_id(user, thread));
                let ticket = self.slots.enter_parked(id, on, allowed);
                self.know(ticket, (user, thread), State::Parked);
            }
        }
        started.extend(self.slots.take_started());
        self.note(&started)?;
        self.check()
    }

    fn know(&mut self, ticket: Ticket, (user, thread): (usize, usize), state: State) {
        self.runs.push(Known {
            ticket,
            user,
            thread,
            state,
            is_back: false,
        });
    }

    fn wish(&self, entering: Entering) -> Wish {
        Wish {
            user: user_id(entering.user),
            thread: thread_id(entering.user, entering.thread),
            allowed: entering.allowed,
            queue: u32::try_from(self.queue).unwrap(),
            on_limit: entering.on_limit,
            on_busy: entering.on_busy,
            had_begun: false,
        }
    }

    fn count(&self, user: usize, state: State) -> usize {
        let is = |run: &&Known| run.user == user && run.state == state;
        self.runs.iter().filter(is).count()
    }

    fn working(&self) -> usize {
        let works = |run: &&Known| run.state == State::Running;
        self.runs.iter().filter(works).count()
    }

    fn is_held(&self, user: usize, thread: usize) -> bool {
        self.runs.iter().any(|run| run.holds(user, thread))
    }

    /// The user's first run that waits and whose thread is free.
    fn first_free(&self, user: usize) -> Option<Ticket> {
        let free = |run: &&Known| {
            run.user == user && run.state == State::Queued && !self.is_held(user, run.thread)
        };
        self.runs.iter().find(free).map(|run| run.ticket)
    }

    /// Whether nothing but the node's limit holds up a run of this user.
    fn is_ready(&self, user: usize) -> bool {
        self.count(user, State::Running) < self.allowed[user] && self.first_free(user).is_some()
    }

    fn refusal(&self, entering: &Entering) -> Option<Refusal> {
        let Entering { user, thread, .. } = *entering;
        let here = |run: &&Known| (run.user, run.thread) == (user, thread);
        let busy = self.runs.iter().any(|run| here(&run));
        let at_work = |run: Known| run.state == State::Running && here(&&run);
        let takes_over =
            entering.on_busy == OnBusy::Interrupt && self.runs.iter().any(|run| at_work(*run));
        let wants_now = entering.on_limit == OnLimit::Reject && !takes_over;
        let full = self.count(user, State::Running) >= entering.allowed as usize;
        let node_full = self.closed || self.working() >= self.engines;
        let queue_full = self.count(user, State::Queued) >= self.queue;
        if busy && entering.on_busy == OnBusy::Reject {
            Some(Refusal::ThreadBusy)
        } else if full && wants_now {
            Some(Refusal::SlotsExhausted)
        } else if node_full && wants_now {
            Some(Refusal::Overloaded)
        } else if (busy || full || node_full) && queue_full {
            Some(Refusal::QueueFull)
        } else {
            None
        }
    }

    /// Holds what a run was told against the list.
    fn stands(
        &self,
        ticket: Ticket,
        standing: Standing,
        started: &mut Vec<Ticket>,
    ) -> Result<(), Broken> {
        let Standing::Queued { position, reason } = standing else {
            started.push(ticket);
            return Ok(());
        };
        let at = self.runs.iter().position(|run| run.ticket == ticket);
        let at = at.ok_or("an unknown run stands somewhere")?;
        let Known { user, thread, .. } = self.runs[at];
        let earlier = |run: &&Known| run.user == user && run.state == State::Queued;
        let before = self.runs[..at].iter().filter(earlier);
        let due = before.clone().count() + 1;
        rule(position as usize == due, "told a wrong position")?;
        let waits_for = if self.is_held(user, thread) || before.clone().any(|b| b.thread == thread)
        {
            QueueReason::ThreadBusy
        } else if self.count(user, State::Running) >= self.allowed[user] {
            QueueReason::Slots
        } else {
            QueueReason::Engines
        };
        rule(reason == waits_for, "told a wrong reason")
    }

    /// Notes what has started, in order, and holds each start against the rules.
    fn note(&mut self, started: &[Ticket]) -> Result<(), Broken> {
        for ticket in started {
            let at = self.runs.iter().position(|run| run.ticket == *ticket);
            let at = at.ok_or("a run was started that has left")?;
            let user = self.runs[at].user;
            let waits = self.runs[at].state == State::Queued;
            rule(waits, "a run was started twice, or without being in line")?;
            let first = self.first_free(user) == Some(*ticket);
            rule(
                first,
                "an earlier run of the user or its thread was passed over",
            )?;
            self.runs[at].state = State::Running;
            let works = self.count(user, State::Running);
            rule(works <= self.allowed[user], "a user has more than allowed")?;
            rule(self.working() <= self.engines, "the node has too many")?;
            rule(!self.closed, "a run began on a closed node")?;
            for other in (0..self.allowed.len()).filter(|other| *other != user) {
                if self.is_ready(other) {
                    let turns = &mut self.overtaken[other][user];
                    *turns += 1;
                    rule(*turns <= 1, "a user was served twice before another's turn")?;
                }
            }
            self.overtaken[user].fill(0);
        }
        for user in 0..self.allowed.len() {
            if !self.is_ready(user) {
                self.overtaken[user].fill(0);
            }
        }
        Ok(())
    }

    /// What must hold between moves.
    fn check(&self) -> Result<(), Broken> {
        let mut total = Count::default();
        for user in 0..self.allowed.len() {
            let count = Count {
                running: self.count(user, State::Running),
                queued: self.count(user, State::Queued),
                parked: self.count(user, State::Parked),
            };
            let told = self.slots.count(user_id(user));
            rule(told == count, "a user's runs are counted wrongly")?;
            total.running += count.running;
            total.queued += count.queued;
            total.parked += count.parked;
            let own = self.runs.iter().filter(|run| run.user == user);
            let held = own.clone().filter(|run| run.state != State::Queued);
            let threads: HashSet<usize> = held.clone().map(|run| run.thread).collect();
            rule(threads.len() == held.count(), "two runs hold one thread")?;
            let waiting = own.filter(|run| run.state == State::Queued);
            for (index, run) in waiting.enumerate() {
                let place = self.slots.position(run.ticket).map(|place| place as usize);
                rule(place == Some(index + 1), "a wrong position")?;
            }
            let open = !self.closed && self.working() < self.engines;
            let idle = open && self.is_ready(user);
            rule(!idle, "a run waits although it could execute")?;
        }
        rule(
            self.slots.total() == total,
            "the node's runs are counted wrongly",
        )?;
        let holders = self.runs.iter().filter(|run| run.state != State::Queued);
        let nowhere = |run: &Known| self.slots.position(run.ticket).is_none();
        rule(
            holders.clone().all(nowhere),
            "a run has a slot and a place in a queue",
        )
    }

    /// What tells this state from others, whatever the tickets are.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(u8::from(self.closed));
        for user in 0..self.allowed.len() {
            bytes.extend(
                self.runs
                    .iter()
                    .filter(|run| run.user == user)
                    .flat_map(|run| {
                        let is_back = run.is_back && run.state == State::Queued;
                        [run.thread as u8, run.state as u8, u8::from(is_back)]
                    }),
            );
            let owner = self.slots.owners.get(&user_id(user));
            bytes.extend([
                u8::MAX,
                owner.map_or(0, |owner| owner.allowed as u8),
                u8::from(owner.is_some_and(|owner| owner.in_ring)),
            ]);
            bytes.extend(self.overtaken[user].iter().map(|turns| *turns as u8));
        }
        let turn = |id: &UserId| (0..self.allowed.len()).position(|user| user_id(user) == *id);
        bytes.extend(
            self.slots
                .ring
                .iter()
                .filter_map(turn)
                .map(|user| user as u8),
        );
        bytes
    }

    /// Lets everybody leave: nothing may be kept.
    pub(super) fn empty(mut self) -> Result<(), Broken> {
        // What an idle user of a closed node leaves behind goes when it opens.
        self.make(Move::Close(false))?;
        while !self.runs.is_empty() {
            self.make(Move::Leave(0))?;
        }
        let kept = !self.slots.owners.is_empty()
            || !self.slots.seats.is_empty()
            || !self.slots.ring.is_empty();
        rule(!kept, "something was kept")
    }
}
