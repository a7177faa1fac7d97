//! Those who wait, each owner's in a line of its own, and the owners in turn: who has many waiting is behind itself,
//! not others behind it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

pub(crate) struct Lines<O, T> {
    /// Whose turn it is, and after it. Every owner of a line stands here once, except while one of theirs is at work.
    turns: VecDeque<O>,
    /// One is empty only while its owner's last is at work.
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
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn push(&mut self, owner: O, item: T) {
        self.waiting += 1;
        match self.lines.entry(owner) {
            Entry::Occupied(line) => line.into_mut().push_back(item),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.turns.push_back(owner);
            }
        }
    }

    /// The first in the line of the owner whose turn it is.
    pub(crate) fn next(&mut self) -> Option<T> {
        let (owner, item) = self.begin()?;
        self.end(owner);
        Some(item)
    }

    /// The same, and until its [`Lines::end`] nothing else of its owner is taken.
    pub(crate) fn begin(&mut self) -> Option<(O, T)> {
        let owner = self.turns.pop_front()?;
        let item = self.lines.get_mut(&owner)?.pop_front()?;
        self.waiting -= 1;
        Some((owner, item))
    }

    pub(crate) fn end(&mut self, owner: O) {
        if let Entry::Occupied(line) = self.lines.entry(owner) {
            if line.get().is_empty() {
                line.remove();
            } else {
                self.turns.push_back(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn who_has_one_waiting_is_behind_one_of_another_not_behind_all() {
        let mut lines = Lines::default();
        for number in 0..100 {
            lines.push("a", number);
        }
        lines.push("b", 1_000);
        lines.push("b", 1_001);
        let taken: Vec<i32> = (0..5).filter_map(|_| lines.next()).collect();
        assert_eq!(taken, [0, 1_000, 1, 1_001, 2]);
    }

    #[test]
    fn while_one_of_an_owner_is_at_work_the_others_have_their_turn() {
        let mut lines = Lines::default();
        for item in [("a", 1), ("a", 2), ("b", 3)] {
            lines.push(item.0, item);
        }
        let (a, _) = lines.begin().unwrap();
        assert_eq!(lines.begin(), Some(("b", ("b", 3))));
        assert_eq!(lines.begin(), None);
        lines.push("b", ("b", 4));
        assert_eq!(lines.begin(), None);
        lines.end("b");
        assert_eq!(lines.begin(), Some(("b", ("b", 4))));
        lines.end(a);
        assert_eq!(lines.begin(), Some(("a", ("a", 2))));
        lines.end("a");
        lines.end("b");
        assert!(lines.lines.is_empty() && lines.is_empty());
    }

    #[test]
    fn each_owner_is_served_in_the_order_of_asking_and_nobody_is_lost() {
        let mut lines = Lines::default();
        let (mut asked, mut taken) = (0, Vec::new());
        // Pushes and takes in a fixed pattern that empties lines now and then.
        for round in 0..1_000_usize {
            for owner in 0..round % 4 {
                lines.push(owner % 3, (owner % 3, asked));
                asked += 1;
            }
            taken.extend((0..(round * 7) % 3).filter_map(|_| lines.next()));
        }
        taken.extend(std::iter::from_fn(|| lines.next()));
        assert!(lines.is_empty());
        assert_eq!(taken.len(), asked);
        for owner in 0..3 {
            let of_owner = taken.iter().filter(|(whose, _)| *whose == owner);
            assert!(of_owner.is_sorted());
        }
    }
}
