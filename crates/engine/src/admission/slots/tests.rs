//! The state machine against a naive model, over random histories.

use proptest::prelude::*;

use super::*;

const USERS: u64 = 4;
const THREADS: u64 = 3;

fn user(n: u64) -> UserId {
    UserId::from_parts(1, u128::from(n))
}

fn thread(owner: u64, n: u64) -> ThreadId {
    ThreadId::from_parts(1, u128::from(owner * 100 + n))
}

fn wish(owner: u64, on: u64) -> Wish {
    Wish {
        user: user(owner),
        thread: thread(owner, on),
        allowed: 2,
        queue: 6,
        on_limit: OnLimit::Queue,
        on_busy: OnBusy::Queue,
    }
}

#[derive(Debug, Clone)]
enum Move {
    Enter {
        user: u64,
        thread: u64,
        on_limit: OnLimit,
        on_busy: OnBusy,
    },
    /// The place in the list of all that are in, modulo its length.
    Leave(usize),
    LeaveTwice(usize),
    /// Of those that execute, to wait for a person.
    Park(usize),
    /// Of those that wait for a person, to go on.
    Rejoin(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let on_limit = prop_oneof![3 => Just(OnLimit::Queue), 1 => Just(OnLimit::Reject)];
    let on_busy = prop_oneof![
        3 => Just(OnBusy::Queue), 1 => Just(OnBusy::Reject), 1 => Just(OnBusy::Interrupt)
    ];
    let enter =
        (0..USERS, 0..THREADS, on_limit, on_busy).prop_map(|(user, thread, on_limit, on_busy)| {
            Move::Enter {
                user,
                thread,
                on_limit,
                on_busy,
            }
        });
    let any = prop_oneof![
        3 => enter,
        2 => any::<usize>().prop_map(Move::Leave),
        1 => any::<usize>().prop_map(Move::LeaveTwice),
        1 => any::<usize>().prop_map(Move::Park),
        1 => any::<usize>().prop_map(Move::Rejoin),
    ];
    proptest::collection::vec(any, 1..120)
}

/// One run in the naive model, in order of arrival.
#[derive(Debug, Clone)]
struct Known {
    ticket: Ticket,
    user: u64,
    thread: u64,
    state: State,
}

impl Known {
    fn is(&self, state: State) -> bool {
        self.state == state
    }
}

/// What must hold after each move, computed from the plain list of runs.
fn check(slots: &Slots, known: &[Known], engines: usize) -> Result<(), TestCaseError> {
    let running = |k: &&Known| k.is(State::Running);
    let all_running = known.iter().filter(running).count();
    prop_assert!(all_running <= engines);
    prop_assert_eq!(slots.total().running, all_running);
    for owner in 0..USERS {
        let own: Vec<&Known> = known.iter().filter(|k| k.user == owner).collect();
        let active: Vec<&&Known> = own.iter().filter(|k| k.is(State::Running)).collect();
        prop_assert!(active.len() <= 2, "a user has more than the allowed runs");
        let waiting: Vec<&&Known> = own.iter().filter(|k| k.is(State::Queued)).collect();
        let parked: Vec<&&Known> = own.iter().filter(|k| k.is(State::Parked)).collect();
        for one in &parked {
            prop_assert!(
                !active.iter().any(|a| a.thread == one.thread),
                "a run took the thread of one that waits for a person"
            );
        }
        let count = slots.count(user(owner));
        prop_assert_eq!((count.running, count.queued), (active.len(), waiting.len()));
        for on in 0..THREADS {
            let here: Vec<&&&Known> = active.iter().filter(|k| k.thread == on).collect();
            prop_assert!(here.len() <= 1, "two active runs on one thread");
            // First in, first out on each thread: whoever runs came before whoever waits.
            if let Some(active) = here.first() {
                let earlier = |k: &&&Known| k.thread == on && k.ticket < active.ticket;
                prop_assert!(!waiting.iter().any(earlier));
            }
        }
        for (index, waits) in waiting.iter().enumerate() {
            prop_assert_eq!(slots.position(waits.ticket), u32::try_from(index + 1).ok());
        }
        // Nothing waits that could execute: no wake-up is ever lost.
        let could = waiting.iter().any(|w| {
            let mut holders = active.iter().chain(&parked);
            !holders.any(|holder| holder.thread == w.thread)
        });
        prop_assert!(
            !(could && active.len() < 2 && all_running < engines),
            "a wake-up was lost"
        );
    }
    Ok(())
}

fn expected_refusal(known: &[Known], engines: usize, movement: &Move) -> Option<Refusal> {
    let Move::Enter {
        user,
        thread,
        on_limit,
        on_busy,
    } = movement
    else {
        return None;
    };
    let own = known.iter().filter(|k| k.user == *user);
    let busy = own.clone().any(|k| k.thread == *thread);
    let works = |k: &Known| k.thread == *thread && k.is(State::Running);
    let takes_over = *on_busy == OnBusy::Interrupt && own.clone().any(works);
    let wants_now = *on_limit == OnLimit::Reject && !takes_over;
    let full = own.clone().filter(|k| k.is(State::Running)).count() >= 2;
    let node_full = known.iter().filter(|k| k.is(State::Running)).count() >= engines;
    let queue_full = own.filter(|k| k.is(State::Queued)).count() >= 6;
    if busy && *on_busy == OnBusy::Reject {
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

fn state_of(standing: Standing) -> State {
    match standing {
        Standing::Started => State::Running,
        Standing::Queued { .. } => State::Queued,
    }
}

/// One of those in this state, modulo their number.
fn pick(known: &[Known], state: State, index: usize) -> Option<usize> {
    let places: Vec<usize> = (0..known.len()).filter(|at| known[*at].is(state)).collect();
    places.get(index % places.len().max(1)).copied()
}

fn note_started(slots: &mut Slots, known: &mut [Known]) {
    for ticket in slots.take_started() {
        for run in known.iter_mut().filter(|k| k.ticket == ticket) {
            run.state = State::Running;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules(history in moves(), engines in 1_usize..7) {
        let mut slots = Slots::new(engines);
        let mut known: Vec<Known> = Vec::new();
        for movement in history {
            let refusal = expected_refusal(&known, engines, &movement);
            match movement {
                Move::Enter { user, thread, on_limit, on_busy } => {
                    let entered = slots.enter(&Wish { on_limit, on_busy, ..wish(user, thread) });
                    prop_assert_eq!(entered.err(), refusal);
                    if let Ok((ticket, standing)) = entered {
                        let state = state_of(standing);
                        known.push(Known { ticket, user, thread, state });
                    }
                }
                Move::Leave(index) | Move::LeaveTwice(index) if !known.is_empty() => {
                    let left = known.remove(index % known.len());
                    slots.leave(left.ticket);
                    if matches!(movement, Move::LeaveTwice(_)) {
                        slots.leave(left.ticket);
                    }
                }
                Move::Leave(_) | Move::LeaveTwice(_) => {}
                Move::Park(index) => {
                    if let Some(at) = pick(&known, State::Running, index) {
                        slots.park(known[at].ticket);
                        known[at].state = State::Parked;
                    }
                }
                Move::Rejoin(index) => {
                    if let Some(at) = pick(&known, State::Parked, index) {
                        let mut run = known.remove(at);
                        run.state = state_of(slots.rejoin(run.ticket, 2));
                        // Before all others of its user.
                        known.insert(0, run);
                    }
                }
            }
            note_started(&mut slots, &mut known);
            check(&slots, &known, engines)?;
        }
        for run in known {
            slots.leave(run.ticket);
        }
        prop_assert_eq!(slots.total(), Count::default());
        prop_assert!(slots.owners.is_empty() && slots.seats.is_empty(), "something was kept");
    }

    /// With a full queue of one user, another user's run waits for one start of it at most.
    #[test]
    fn users_take_turns(engines in 1_usize..5, greedy in 1_u64..60) {
        let mut slots = Slots::new(engines);
        let wide = |owner: u64, on: u64| Wish { allowed: 100, queue: 1000, ..wish(owner, on) };
        let mut running: VecDeque<Ticket> = VecDeque::new();
        for n in 0..(engines as u64 + greedy) {
            let (ticket, standing) = slots.enter(&wide(0, n)).unwrap();
            if standing == Standing::Started {
                running.push_back(ticket);
            }
        }
        let (polite, standing) = slots.enter(&wide(1, 0)).unwrap();
        prop_assert_eq!(standing, Standing::Queued { position: 1, reason: QueueReason::Engines });
        let mut turns = 0;
        loop {
            slots.leave(running.pop_front().unwrap());
            let started = slots.take_started();
            if started.contains(&polite) {
                break;
            }
            turns += 1;
            prop_assert!(turns <= 1, "another user's queue was served first");
            running.extend(started);
        }
    }
}

#[test]
fn a_run_behind_a_busy_thread_is_passed_over_and_keeps_its_place_in_the_thread() {
    let mut slots = Slots::new(10);
    let (first, _) = slots.enter(&wish(0, 0)).unwrap();
    let (behind, standing) = slots.enter(&wish(0, 0)).unwrap();
    assert_eq!(
        standing,
        Standing::Queued {
            position: 1,
            reason: QueueReason::ThreadBusy
        }
    );
    let (other, standing) = slots.enter(&wish(0, 1)).unwrap();
    assert_eq!(standing, Standing::Started);
    let (third, standing) = slots.enter(&wish(0, 2)).unwrap();
    assert_eq!(
        standing,
        Standing::Queued {
            position: 2,
            reason: QueueReason::Slots
        }
    );
    slots.leave(other);
    assert_eq!(slots.take_started(), [third]);
    slots.leave(first);
    assert_eq!(slots.take_started(), [behind]);
}

#[test]
fn a_raised_limit_starts_what_waits() {
    let mut slots = Slots::new(10);
    let tickets: Vec<Ticket> = (0..3)
        .map(|n| slots.enter(&wish(0, n)).unwrap().0)
        .collect();
    let (_, standing) = slots
        .enter(&Wish {
            allowed: 4,
            ..wish(0, 3)
        })
        .unwrap();
    assert_eq!(standing, Standing::Started);
    assert_eq!(slots.take_started(), [tickets[2]]);
}

#[test]
fn who_does_not_want_to_wait_for_a_slot_is_refused_although_the_thread_has_a_queue() {
    let mut slots = Slots::new(10);
    for n in 0..3 {
        slots.enter(&wish(0, n)).unwrap();
    }
    // Two execute, on threads 0 and 1; the third waits on thread 2.
    let mut reject = |on: u64, on_busy: OnBusy| {
        let wish = Wish {
            on_limit: OnLimit::Reject,
            on_busy,
            ..wish(0, on)
        };
        slots.enter(&wish).map(drop)
    };
    for on_busy in [OnBusy::Queue, OnBusy::Interrupt] {
        assert_eq!(reject(2, on_busy), Err(Refusal::SlotsExhausted));
    }
    assert_eq!(reject(2, OnBusy::Reject), Err(Refusal::ThreadBusy));
    assert_eq!(reject(0, OnBusy::Queue), Err(Refusal::SlotsExhausted));
    // The run that it interrupts leaves it a slot.
    assert_eq!(reject(0, OnBusy::Interrupt), Ok(()));
}
