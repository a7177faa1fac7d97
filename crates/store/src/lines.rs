//! Those who wait, each owner's in a line of its own. Whoever has used the least comes first, so who asks for much is
//! behind itself, not others behind it.
//!
//! This is start-time fair queueing (Goyal, Vin and Cheng, 1996) with costs that are known afterwards: an owner's
//! clock goes on by what its items cost, and one that was away does not save up turns.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

/// Owners without an item that are remembered at the most, before those that have nothing to make up for are
/// forgotten.
const REMEMBERED: usize = 64;
/// What the costs before count for in their mean, of this many parts, at each further one.
const FADES: u32 = 64;

pub(crate) struct Lines<O, T> {
    /// Owners who have items, whose turn it is first; the number tells those apart who have used the same.
    turns: BTreeMap<(Duration, u64), O>,
    owners: HashMap<O, Owner<T>>,
    /// What the owner had used whose item was last taken.
    clock: Duration,
    came: u64,
    waiting: usize,
    in_the_way: Duration,
    /// What of one owner's items stands in everybody's way at the most: whoever comes is served beside the rest, not
    /// after it.
    share: Duration,
    /// What an item has cost of late.
    mean: Duration,
}

struct Owner<T> {
    items: VecDeque<T>,
    used: Duration,
    /// Its place among those who have used the same.
    number: u64,
    /// What its last item cost by itself.
    last: Duration,
    /// What of it stands in everybody's way.
    in_the_way: Duration,
}

impl<T> Owner<T> {
    /// Reckons anew what stands in everybody's way, and the sum over all owners. An owner of whom nothing has been
    /// carried out yet is likely to ask for what others do.
    fn stand(&mut self, mean: Duration, share: Duration, of_all: &mut Duration) {
        let each = if self.last.is_zero() { mean } else { self.last };
        let number = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        let now = each.saturating_mul(number).min(share);
        *of_all = *of_all + now - self.in_the_way;
        self.in_the_way = now;
    }
}

impl<O, T> Default for Lines<O, T> {
    fn default() -> Self {
        Self::of_share(Duration::ZERO)
    }
}

impl<O, T> Lines<O, T> {
    /// Of whose items of one owner this much stands in everybody's way at the most.
    pub(crate) fn of_share(share: Duration) -> Self {
        Self {
            turns: BTreeMap::new(),
            owners: HashMap::new(),
            clock: Duration::ZERO,
            came: 0,
            waiting: 0,
            in_the_way: Duration::ZERO,
            share,
            mean: Duration::ZERO,
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

    /// What is likely to be carried out before the item of somebody who comes now and has as many waiting as others do.
    pub(crate) fn in_the_way(&self) -> Duration {
        self.in_the_way
    }

    /// Puts something behind what its owner has waiting.
    pub(crate) fn push(&mut self, owner: O, item: T) {
        self.waiting += 1;
        self.came += 1;
        let (clock, number) = (self.clock, self.came);
        let line = self.owners.entry(owner).or_insert_with(|| Owner {
            items: VecDeque::new(),
            used: clock,
            number,
            last: Duration::ZERO,
            in_the_way: Duration::ZERO,
        });
        if line.items.is_empty() {
            line.used = line.used.max(clock);
            line.number = number;
            self.turns.insert((line.used, number), owner);
        }
        line.items.push_back(item);
        line.stand(self.mean, self.share, &mut self.in_the_way);
    }

    /// The first item of the owner who has used the least, of those who are not passed over.
    pub(crate) fn next(&mut self, passed_over: &HashSet<O>) -> Option<(O, T)> {
        let (turn, owner) = self.turn(passed_over)?;
        self.turns.remove(&turn);
        let line = self.owners.get_mut(&owner)?;
        let item = line.items.pop_front()?;
        self.waiting -= 1;
        line.stand(self.mean, self.share, &mut self.in_the_way);
        self.clock = self.clock.max(line.used);
        if !line.items.is_empty() {
            self.came += 1;
            line.number = self.came;
            self.turns.insert((line.used, line.number), owner);
        }
        Some((owner, item))
    }

    /// Whose turn it is, and what its next item is likely to cost: what the last one did, 0 where there was none.
    pub(crate) fn expected(&self, passed_over: &HashSet<O>) -> Option<(O, Duration)> {
        let (_, owner) = self.turn(passed_over)?;
        Some((owner, self.owners.get(&owner)?.last))
    }

    fn turn(&self, passed_over: &HashSet<O>) -> Option<((Duration, u64), O)> {
        let is_wanted = |(_, owner): &(_, &O)| !passed_over.contains(*owner);
        let (turn, owner) = self.turns.iter().find(is_wanted)?;
        Some((*turn, *owner))
    }

    /// An item of the owner has cost so much by itself.
    pub(crate) fn took(&mut self, owner: O, cost: Duration) {
        self.charge(owner, cost);
        self.mean = if self.mean.is_zero() {
            cost
        } else {
            (self.mean * (FADES - 1) + cost) / FADES
        };
        if let Some(line) = self.owners.get_mut(&owner) {
            line.last = cost;
            line.stand(self.mean, self.share, &mut self.in_the_way);
        }
    }

    /// The owner has used so much.
    pub(crate) fn charge(&mut self, owner: O, cost: Duration) {
        let Some(line) = self.owners.get_mut(&owner) else {
            return;
        };
        let waits = self.turns.remove(&(line.used, line.number)).is_some();
        line.used += cost;
        if waits {
            self.turns.insert((line.used, line.number), owner);
        }
    }

    /// Forgets those who have nothing waiting and nothing to make up for, where there are many.
    pub(crate) fn forget(&mut self) {
        if self.owners.len() > REMEMBERED + self.turns.len() {
            let clock = self.clock;
            self.owners
                .retain(|_, line| !line.items.is_empty() || line.used > clock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Duration = Duration::from_micros(100);
    const SHARE: Duration = Duration::from_millis(1);

    fn take<T>(lines: &mut Lines<&'static str, T>, cost: impl Fn(&str) -> Duration) -> Option<T> {
        let (owner, item) = lines.next(&HashSet::new())?;
        lines.took(owner, cost(owner));
        Some(item)
    }

    #[test]
    fn who_has_one_waiting_is_behind_one_of_another_not_behind_all() {
        let mut lines = Lines::of_share(SHARE);
        for number in 0..100 {
            lines.push("a", number);
        }
        lines.push("b", 1_000);
        lines.push("b", 1_001);
        let taken: Vec<i32> = (0..5).filter_map(|_| take(&mut lines, |_| EACH)).collect();
        assert_eq!(taken, [0, 1_000, 1, 1_001, 2]);
    }

    #[test]
    fn who_asks_for_costly_things_waits_for_as_much_of_others() {
        let mut lines = Lines::of_share(SHARE);
        for number in 0..10 {
            lines.push("heavy", number);
            lines.push("light", 100 + number);
        }
        let cost = |owner: &str| if owner == "heavy" { EACH * 4 } else { EACH };
        let taken: Vec<i32> = (0..7).filter_map(|_| take(&mut lines, cost)).collect();
        assert_eq!(taken, [0, 100, 101, 102, 103, 1, 104]);
    }

    #[test]
    fn who_was_away_has_saved_up_nothing() {
        let mut lines = Lines::of_share(SHARE);
        lines.push("a", 0);
        lines.push("b", 1_000);
        for number in 1..100 {
            lines.push("a", number);
        }
        for _ in 0..90 {
            take(&mut lines, |_| EACH);
        }
        for number in 1_001..1_010 {
            lines.push("b", number);
        }
        let taken: Vec<i32> = (0..4).filter_map(|_| take(&mut lines, |_| EACH)).collect();
        let of_b = taken.iter().filter(|number| **number >= 1_000).count();
        assert_eq!(of_b, 2, "{taken:?}");
    }

    #[test]
    fn what_one_owner_has_beyond_its_share_is_in_nobodys_way_but_its_own() {
        let mut lines = Lines::of_share(SHARE);
        lines.push("first", 0);
        take(&mut lines, |_| EACH);
        for number in 0..100 {
            lines.push("a", number);
            lines.push("b", 1_000 + number);
        }
        lines.push("c", 2_000);
        // Nothing is known of them but what was so of others.
        assert_eq!(lines.in_the_way(), SHARE * 2 + EACH);
        while take(&mut lines, |_| EACH * 3).is_some() {}
        assert_eq!((lines.len(), lines.in_the_way()), (0, Duration::ZERO));
        lines.push("c", 2_001);
        assert_eq!(lines.in_the_way(), EACH * 3);
    }

    #[test]
    fn who_is_passed_over_keeps_its_place() {
        let mut lines = Lines::of_share(SHARE);
        lines.push("a", 1);
        lines.push("b", 2);
        let passed = HashSet::from(["a"]);
        assert_eq!(lines.expected(&passed), Some(("b", Duration::ZERO)));
        assert_eq!(lines.next(&passed), Some(("b", 2)));
        assert_eq!(lines.next(&passed), None);
        assert_eq!(lines.next(&HashSet::new()), Some(("a", 1)));
    }

    #[test]
    fn each_owner_is_served_in_the_order_of_asking_and_nobody_is_lost() {
        let mut lines = Lines::of_share(SHARE);
        let (mut asked, mut taken) = (0, Vec::new());
        // Pushes and takes in a fixed pattern that empties lines now and then.
        for round in 0..1_000_usize {
            for owner in 0..round % 4 {
                lines.push(owner % 3, (owner % 3, asked));
                asked += 1;
            }
            for take in 0..(round * 7) % 3 {
                let passed = HashSet::from([(round + take) % 5]);
                if let Some((owner, item)) = lines.next(&passed) {
                    let cost = EACH * u32::try_from(round % 3).unwrap();
                    lines.took(owner, cost);
                    taken.push(item);
                }
            }
        }
        taken.extend(std::iter::from_fn(|| lines.next(&HashSet::new())).map(|(_, item)| item));
        assert!(lines.is_empty());
        assert_eq!(taken.len(), asked);
        for owner in 0..3 {
            let of_owner = taken.iter().filter(|(whose, _)| *whose == owner);
            assert!(of_owner.is_sorted());
        }
    }

    #[test]
    fn owners_who_have_nothing_to_make_up_for_are_forgotten() {
        let mut lines = Lines::of_share(SHARE);
        for owner in 0..10_000_u32 {
            lines.push(owner, ());
            lines.next(&HashSet::new());
            lines.took(owner, Duration::ZERO);
            lines.forget();
        }
        assert!(
            lines.owners.len() <= REMEMBERED + 1,
            "{}",
            lines.owners.len()
        );
    }
}
