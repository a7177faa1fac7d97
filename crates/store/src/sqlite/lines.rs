//! Those who wait, each owner's in a line of its own, and the owners in turn: who has many waiting is behind itself,
//! not others behind it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

pub(super) struct Lines<O, T> {
    /// Whose turn it is, and after it, and since when each waits for it. Every owner of a line stands here once.
    turns: VecDeque<(O, Instant)>,
    /// None is empty.
    lines: HashMap<O, VecDeque<T>>,
    waiting: usize,
}

impl<O, T> Default for Lines<O, T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            lines: HashMap::new(),
            waiting: 0,
        }
    }
}

impl<O: Copy + Eq + Hash, T> Lines<O, T> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Puts something that was asked for then behind what its owner has waiting.
    pub(super) fn push(&mut self, owner: O, item: T, asked: Instant) {
        self.waiting += 1;
        match self.lines.entry(owner) {
            Entry::Occupied(line) => line.into_mut().push_back(item),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.turns.push_back((owner, asked));
            }
        }
    }

    /// The first in the line of the owner whose turn it is, and how long the owner had to wait for that turn: not for
    /// what the owner had in front of it.
    pub(super) fn next(&mut self, now: Instant) -> Option<(T, Duration)> {
        let (owner, since) = self.turns.pop_front()?;
        let Entry::Occupied(mut line) = self.lines.entry(owner) else {
            return None;
        };
        let item = line.get_mut().pop_front()?;
        if line.get().is_empty() {
            line.remove();
        } else {
            self.turns.push_back((owner, now));
        }
        self.waiting -= 1;
        Some((item, now.saturating_duration_since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take<T>(lines: &mut Lines<impl Copy + Eq + Hash, T>) -> Option<T> {
        lines.next(Instant::now()).map(|(item, _)| item)
    }

    #[test]
    fn who_has_one_waiting_is_behind_one_of_another_not_behind_all() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        for number in 0..100 {
            lines.push("a", number, now);
        }
        lines.push("b", 1_000, now);
        lines.push("b", 1_001, now);
        let taken: Vec<i32> = (0..5).filter_map(|_| take(&mut lines)).collect();
        assert_eq!(taken, [0, 1_000, 1, 1_001, 2]);
    }

    #[test]
    fn a_wait_is_for_the_turn_and_not_for_what_an_owner_has_in_front() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        lines.push("a", 1, at(0));
        lines.push("a", 2, at(0));
        lines.push("b", 3, at(5));
        let mut next = |ms| {
            let (item, waited) = lines.next(at(ms)).unwrap();
            (item, waited.as_millis())
        };
        assert_eq!(next(10), (1, 10));
        assert_eq!(next(20), (3, 15));
        assert_eq!(next(30), (2, 20), "since its first was taken");
    }

    #[test]
    fn each_owner_is_served_in_the_order_of_asking_and_nobody_is_lost() {
        let mut lines = Lines::default();
        let (mut asked, mut taken) = (0, Vec::new());
        // Pushes and takes in a fixed pattern that empties lines now and then.
        for round in 0..1_000_usize {
            for owner in 0..round % 4 {
                lines.push(owner % 3, (owner % 3, asked), Instant::now());
                asked += 1;
            }
            taken.extend((0..(round * 7) % 3).filter_map(|_| take(&mut lines)));
        }
        taken.extend(std::iter::from_fn(|| take(&mut lines)));
        assert!(lines.is_empty());
        assert_eq!(taken.len(), asked);
        for owner in 0..3 {
            let of_owner = taken.iter().filter(|(whose, _)| *whose == owner);
            assert!(of_owner.is_sorted());
        }
    }
}
