//! The state machine by example; every state of a small one is in [`explore`].

mod book;
mod explore;

use proptest::prelude::*;

use super::*;

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
        had_begun: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

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
fn a_run_that_stands_aside_lets_others_pass_but_none_of_its_thread() {
    let mut slots = Slots::new(1);
    let (first, standing) = slots.enter(&wish(0, 0)).unwrap();
    assert_eq!(standing, Standing::Started);
    let (behind, _) = slots.enter(&wish(0, 0)).unwrap();
    let (other, _) = slots.enter(&wish(0, 1)).unwrap();
    slots.stand_aside(first);
    assert_eq!(slots.take_started(), [other]);
    assert_eq!(slots.position(first), Some(1));
    assert_eq!(slots.position(behind), Some(2));
    slots.leave(other);
    assert_eq!(slots.take_started(), []);
    // What had the thread on a node that is gone finds it free here.
    let (taken, standing) = slots
        .enter(&Wish {
            had_begun: true,
            ..wish(0, 0)
        })
        .unwrap();
    assert_eq!(standing, Standing::Started);
    let standing = slots.step_back_in(first);
    assert_eq!(
        standing,
        Standing::Queued {
            position: 1,
            reason: QueueReason::ThreadBusy
        }
    );
    slots.leave(taken);
    assert_eq!(slots.take_started(), [first]);
    slots.leave(first);
    assert_eq!(slots.take_started(), [behind]);
    slots.leave(behind);
    assert_eq!(slots.total(), Count::default());
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
fn who_does_not_want_to_wait_does_not_stand_behind_those_that_a_raised_limit_starts() {
    let mut slots = Slots::new(10);
    let tickets: Vec<Ticket> = (0..3)
        .map(|n| slots.enter(&wish(0, n)).unwrap().0)
        .collect();
    let hasty = Wish {
        allowed: 3,
        on_limit: OnLimit::Reject,
        ..wish(0, 3)
    };
    assert_eq!(slots.enter(&hasty).map(drop), Err(Refusal::SlotsExhausted));
    assert_eq!(slots.take_started(), [tickets[2]]);
}

#[test]
fn runs_that_were_answered_go_on_in_the_order_of_the_answers_before_new_ones() {
    let mut slots = Slots::new(10);
    let mut parked = Vec::new();
    for n in 0..3 {
        let (ticket, _) = slots.enter(&wish(0, n)).unwrap();
        slots.park(ticket);
        parked.push(ticket);
    }
    let busy = [3, 4].map(|n| slots.enter(&wish(0, n)).unwrap().0);
    let (new, _) = slots.enter(&wish(0, 5)).unwrap();
    let answered = [parked[1], parked[2], parked[0]];
    for (before, ticket) in answered.iter().enumerate() {
        let position = u32::try_from(before + 1).unwrap();
        let reason = QueueReason::Slots;
        let waits = Standing::Queued { position, reason };
        assert_eq!(slots.rejoin(*ticket), waits, "with the user's own limit");
    }
    let mut started = Vec::new();
    for ticket in busy.into_iter().chain(answered) {
        slots.leave(ticket);
        started.extend(slots.take_started());
    }
    assert_eq!(started, [answered[0], answered[1], answered[2], new]);
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
