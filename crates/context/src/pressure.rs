//! Whether those who wait for a turn wait so long, and for so long already, that whoever can come back later should be
//! told so at once. It knows no queue and no clock: it is told who was served, and when.
//!
//! The question is CoDel's: not how many wait, nor how long one of them did, but whether there is a time without an
//! end in which everybody does. Nobody is thrown out of the queue for it, because what waits may be a part of a run.

use std::time::{Duration, Instant};

/// How long is too long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long somebody may wait for a turn before that is too long.
    pub target: Duration,
    /// How long it has to stay so before anybody is refused for it.
    pub patience: Duration,
    /// How long after that there is no patience: those who were refused come back, and would all be let in together.
    pub memory: Duration,
}

/// What of those is known who waited.
#[derive(Debug)]
pub struct Pressure {
    bounds: Bounds,
    /// Since when everybody who was served had waited too long.
    over_since: Option<Instant>,
    /// When the last was served, while others wait or a turn lasts.
    moved_at: Option<Instant>,
    /// When it was last seen to be high.
    high_at: Option<Instant>,
}

impl Pressure {
    /// Of nobody yet.
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            over_since: None,
            moved_at: None,
            high_at: None,
        }
    }

    /// Somebody begins to wait, or a turn to last.
    pub fn began(&mut self, now: Instant) {
        self.moved_at.get_or_insert(now);
    }

    /// It was the turn of somebody who had waited this long; the next one's is not over before this one's is.
    pub fn served(&mut self, waited: Duration, now: Instant) {
        let was_high = self.is_high(now);
        self.moved_at = Some(now);
        if waited > self.bounds.target {
            self.over_since.get_or_insert(now);
        } else {
            self.over_since = None;
        }
        if was_high || self.is_high(now) {
            self.high_at = Some(now);
        }
    }

    /// Nobody waits just now, which says nothing of how long the next one will.
    pub fn paused(&mut self) {
        self.moved_at = None;
    }

    /// Nobody waits, and so nobody would.
    pub fn rested(&mut self) {
        *self = Self::new(self.bounds);
    }

    /// Whether whoever came now would wait too long.
    pub fn is_high(&self, now: Instant) -> bool {
        let patience = self.patience(now);
        self.over_since
            .is_some_and(|over| since(over, now) >= patience)
            || self
                .moved_at
                .is_some_and(|moved| since(moved, now) >= self.bounds.target + patience)
    }

    fn patience(&self, now: Instant) -> Duration {
        let remembers = |at| since(at, now) < self.bounds.memory;
        if self.high_at.is_some_and(remembers) {
            Duration::ZERO
        } else {
            self.bounds.patience
        }
    }
}

fn since(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TARGET: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_millis(450);
    const BOUNDS: Bounds = Bounds {
        target: TARGET,
        patience: PATIENCE,
        memory: Duration::ZERO,
    };

    /// Serves one after the other, each after this many milliseconds and with this wait, and tells at which of them
    /// the pressure was high.
    fn high_at(turns: impl IntoIterator<Item = (u32, u32)>) -> Vec<usize> {
        let (mut pressure, mut now) = (Pressure::new(BOUNDS), Instant::now());
        pressure.began(now);
        let turns = turns.into_iter().enumerate();
        let high = turns.filter_map(|(number, (after, waited))| {
            now += MS * after;
            pressure.served(MS * waited, now);
            pressure.is_high(now).then_some(number)
        });
        high.collect()
    }

    #[test]
    fn a_queue_in_which_everybody_waits_too_long_is_high_after_its_time_and_until_one_does_not() {
        let slow = std::iter::repeat_n((50, 51), 12);
        assert_eq!(high_at(slow.clone()), [9, 10, 11]);
        assert_eq!(high_at(slow.chain([(50, 50), (50, 51)])), [9, 10, 11]);
    }

    #[test]
    fn one_short_wait_in_time_says_that_the_queue_becomes_empty() {
        let bursts = (0..100).map(|number| (50, if number % 9 == 8 { 5 } else { 400 }));
        assert_eq!(high_at(bursts), [0; 0]);
    }

    #[test]
    fn who_is_not_served_at_all_is_seen_without_being_served() {
        let (mut pressure, start) = (Pressure::new(BOUNDS), Instant::now());
        assert!(!pressure.is_high(start + 1_000 * MS), "nobody waits");
        pressure.began(start);
        pressure.began(start + 400 * MS);
        assert!(!pressure.is_high(start + 499 * MS));
        assert!(pressure.is_high(start + 500 * MS));
        pressure.served(MS, start + 600 * MS);
        assert!(!pressure.is_high(start + 600 * MS));
        assert!(pressure.is_high(start + 1_100 * MS), "the turn lasts");
        pressure.rested();
        assert!(!pressure.is_high(start + 9_000 * MS));
    }

    /// A server of which more is asked than it can do, by clients that come back after a second: what is let in waits
    /// within a bound, and what is refused is refused because that is so.
    #[test]
    fn under_twice_the_load_waits_stay_within_a_bound() {
        let start = Instant::now();
        let (mut pressure, mut queue) = (Pressure::new(BOUNDS), std::collections::VecDeque::new());
        let (mut longest, mut refused, mut served) = (Duration::ZERO, 0, 0);
        for tick in 0..60_000_u32 {
            let now = start + MS * tick;
            // Two come in each millisecond, and one can be served.
            for _ in 0..2 {
                if pressure.is_high(now) {
                    refused += 1;
                } else {
                    queue.push_back(now);
                    pressure.began(now);
                }
            }
            if let Some(came) = queue.pop_front() {
                longest = longest.max(now - came);
                pressure.served(now - came, now);
                served += 1;
            }
            if queue.is_empty() {
                pressure.rested();
            }
        }
        assert!(longest <= 2 * (TARGET + PATIENCE), "{longest:?}");
        assert!((59_000..=60_000).contains(&served), "{served}");
        assert!(refused > 50_000, "{refused}");
    }
}
