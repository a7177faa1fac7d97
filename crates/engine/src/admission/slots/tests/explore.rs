//! The limiter model-checked: every state that a few users, threads and runs can reach, and in each
//! every move; then one long history by chance.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::book::{Book, Entering, Move};
use super::*;

const USERS: usize = 2;
const THREADS: usize = 2;
const ALLOWED: [u32; 2] = [1, 2];

/// All moves that this state has, with at most `runs` runs in.
fn moves(book: &Book, runs: usize) -> Vec<Move> {
    let mut moves = vec![Move::Close(!book.closed)];
    for (at, run) in book.runs.iter().enumerate() {
        moves.push(Move::Leave(at));
        match run.state {
            State::Running => moves.push(Move::Park(at)),
            State::Parked => moves.push(Move::Rejoin(at)),
            State::Queued => {}
        }
    }
    if book.runs.len() == runs {
        return moves;
    }
    for (user, thread) in (0..USERS).flat_map(|user| (0..THREADS).map(move |t| (user, t))) {
        for allowed in ALLOWED {
            moves.extend(entries(user, thread, allowed));
        }
        // Only a start of the server lets runs in that wait for a person, before all others.
        if book.runs.iter().all(|run| run.state == State::Parked)
            && !book
                .runs
                .iter()
                .any(|run| (run.user, run.thread) == (user, thread))
        {
            moves.push(Move::EnterParked {
                user,
                thread,
                allowed: ALLOWED[user],
            });
        }
    }
    moves
}

fn entries(user: usize, thread: usize, allowed: u32) -> impl Iterator<Item = Move> {
    let on_limit = [OnLimit::Queue, OnLimit::Reject];
    let on_busy = [OnBusy::Queue, OnBusy::Reject, OnBusy::Interrupt];
    let both = on_limit
        .into_iter()
        .flat_map(move |on_limit| on_busy.map(|on_busy| (on_limit, on_busy)));
    both.map(move |(on_limit, on_busy)| {
        Move::Enter(Entering {
            user,
            thread,
            allowed,
            on_limit,
            on_busy,
        })
    })
}

/// The moves that led to a state, for whoever has to understand a broken rule.
fn way(from: &HashMap<Vec<u8>, Option<(Vec<u8>, Move)>>, mut state: Vec<u8>) -> Vec<Move> {
    let mut moves = Vec::new();
    while let Some(Some((before, movement))) = from.get(&state) {
        moves.push(*movement);
        state.clone_from(before);
    }
    moves.reverse();
    moves
}

/// Visits every state, nearest first, so that a broken rule comes with a shortest way to it.
fn explore(engines: usize, queue: usize, runs: usize) -> usize {
    let start = Book::new(USERS, engines, queue);
    let mut from = HashMap::from([(start.fingerprint(), None)]);
    let mut next = VecDeque::from([start]);
    while let Some(book) = next.pop_front() {
        let here = book.fingerprint();
        for movement in moves(&book, runs) {
            let mut after = book.clone();
            if let Err(broken) = after.make(movement) {
                let way = way(&from, here);
                panic!("{broken}, with {engines} engines: {way:#?} and then {movement:?}");
            }
            if let Entry::Vacant(new) = from.entry(after.fingerprint()) {
                new.insert(Some((here.clone(), movement)));
                next.push_back(after);
            }
        }
        if let Err(broken) = book.empty() {
            panic!("{broken}: {:#?} and then all leave", way(&from, here));
        }
    }
    from.len()
}

#[test]
fn no_state_that_one_engine_can_reach_breaks_a_rule() {
    let states = explore(1, 2, 4);
    assert!(states > 1_000, "only {states} states");
}

#[test]
fn no_state_that_two_engines_can_reach_breaks_a_rule() {
    let states = explore(2, 2, 4);
    assert!(states > 1_000, "only {states} states");
}

/// Numbers by chance that are the same each time.
struct Dice(u64);

impl Dice {
    /// Below `sides`, by splitmix64.
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.throw(all.len())]
    }
}

fn by_chance(dice: &mut Dice, book: &Book, users: usize) -> Option<Move> {
    let at = (!book.runs.is_empty()).then(|| dice.throw(book.runs.len()));
    let state = at.map(|at| book.runs[at].state);
    match (dice.throw(9), at, state) {
        (8, _, _) => Some(Move::Close(!book.closed && dice.throw(4) == 0)),
        (0..=3, _, _) => Some(Move::Enter(Entering {
            user: dice.throw(users),
            thread: dice.throw(4),
            allowed: dice.of(&[1, 2, 3, 3, 3]),
            on_limit: dice.of(&[OnLimit::Queue, OnLimit::Queue, OnLimit::Reject]),
            on_busy: dice.of(&[
                OnBusy::Queue,
                OnBusy::Queue,
                OnBusy::Reject,
                OnBusy::Interrupt,
            ]),
        })),
        (4 | 5, Some(at), _) => Some(Move::Leave(at)),
        (6, Some(at), Some(State::Running)) => Some(Move::Park(at)),
        (7, Some(at), Some(State::Parked)) => Some(Move::Rejoin(at)),
        _ => None,
    }
}

#[test]
fn a_long_history_of_many_users_keeps_the_rules() {
    const USERS: usize = 7;
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut book = Book::new(USERS, 1 + dice.throw(6), 5);
        let mut history = Vec::new();
        for _ in 0..10_000 {
            let Some(movement) = by_chance(&mut dice, &book, USERS) else {
                continue;
            };
            history.push(movement);
            if let Err(broken) = book.make(movement) {
                let last = &history[history.len().saturating_sub(20)..];
                panic!(
                    "{broken}, seed {seed}, after {} moves: {last:#?}",
                    history.len()
                );
            }
        }
        book.empty().unwrap();
    }
}
