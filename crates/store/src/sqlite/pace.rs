//! How fast the writer is, and so how long whoever comes now waits for it. In a fair queue nobody's own wait says that:
//! who has used little is served at once, however many others are behind.

use std::time::Duration;

use super::writer::BATCH_TIME;

/// What the batches before count for, at each further one.
const FADES: f64 = 0.9;

/// Sums over batches, each of which counts for less the longer ago it was.
#[derive(Default)]
pub(super) struct Pace {
    batches: f64,
    cost_s: f64,
    carried_out_s: f64,
    committed_s: f64,
}

impl Pace {
    /// The works of a batch have cost so much and taken so long, and its commit so long.
    pub(super) fn batch(&mut self, cost: Duration, carried_out: Duration, committed: Duration) {
        for (sum, more) in [
            (&mut self.batches, 1.0),
            (&mut self.cost_s, cost.as_secs_f64()),
            (&mut self.carried_out_s, carried_out.as_secs_f64()),
            (&mut self.committed_s, committed.as_secs_f64()),
        ] {
            *sum = *sum * FADES + more;
        }
    }

    /// How long whoever comes behind works of this cost waits for full batches of them. The batch that is its own, and
    /// the one that is being committed, are the price of sharing commits and no wait, however long the disk takes.
    pub(super) fn wait_behind(&self, cost: Duration) -> Duration {
        if self.cost_s == 0.0 {
            return Duration::ZERO;
        }
        // A thread that has to wait for its processor takes longer than what it does.
        let takes = (self.carried_out_s / self.cost_s).max(1.0);
        let batches = (cost.as_secs_f64() * takes / BATCH_TIME.as_secs_f64()).floor();
        let commit_s = self.committed_s / self.batches;
        let wait_s = batches * (BATCH_TIME.as_secs_f64() + commit_s);
        Duration::try_from_secs_f64(wait_s).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_fits_into_the_next_batch_is_no_wait_however_slow_the_disk() {
        let mut pace = Pace::default();
        assert_eq!(
            pace.wait_behind(1_000 * MS),
            Duration::ZERO,
            "nothing is known"
        );
        pace.batch(MS, MS, 300 * MS);
        assert_eq!(pace.wait_behind(BATCH_TIME * 9 / 10), Duration::ZERO);
        assert!(pace.wait_behind(BATCH_TIME * 11 / 10) > 300 * MS);
    }

    #[test]
    fn who_is_behind_many_waits_for_their_batches_and_commits() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.batch(MS, 2 * MS, 2 * MS);
        }
        // As slow as the thread has been of late, 15 are ten batches of 3, and there are their commits.
        let wait = pace.wait_behind(MS * 151 / 10).as_secs_f64();
        assert!((wait - 0.05).abs() < 1e-6, "{wait}");
    }

    #[test]
    fn what_cost_nothing_takes_no_time_without_an_end() {
        let mut pace = Pace::default();
        pace.batch(Duration::from_nanos(1), 1_000 * MS, 1_000 * MS);
        assert!(pace.wait_behind(Duration::MAX) > Duration::from_secs(1));
    }
}
