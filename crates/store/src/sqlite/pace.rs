//! How fast the writer is, and so how long whoever comes now waits for it. In a fair queue nobody's own wait says that:
//! who has used little is served at once, however many others are behind.

use std::time::Duration;

use super::writer::{BATCH, BATCH_TIME};

/// What the batches before count for, at each further one.
const FADES: f64 = 0.9;

/// Sums over batches, each of which counts for less the longer ago it was.
#[derive(Default)]
pub(super) struct Pace {
    batches: f64,
    works: f64,
    carried_out_s: f64,
    committed_s: f64,
}

impl Pace {
    /// A batch of so many works has taken so long, and its commit so long.
    pub(super) fn batch(&mut self, works: usize, carried_out: Duration, committed: Duration) {
        for (sum, more) in [
            (&mut self.batches, 1.0),
            (&mut self.works, works as f64),
            (&mut self.carried_out_s, carried_out.as_secs_f64()),
            (&mut self.committed_s, committed.as_secs_f64()),
        ] {
            *sum = *sum * FADES + more;
        }
    }

    /// How long whoever comes behind so many works waits for full batches of them. The batch that is its own, and the
    /// one that is being committed, are the price of sharing commits and no wait, however long the disk takes.
    pub(super) fn wait_behind(&self, works: usize) -> Duration {
        if self.works == 0.0 {
            return Duration::ZERO;
        }
        let each_s = self.carried_out_s / self.works;
        let in_a_batch = (BATCH_TIME.as_secs_f64() / each_s).clamp(1.0, BATCH as f64);
        let batches = (works as f64 / in_a_batch).floor();
        let commit_s = self.committed_s / self.batches;
        Duration::from_secs_f64(batches * in_a_batch.mul_add(each_s, commit_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn what_fits_into_the_next_batch_is_no_wait_however_slow_the_disk() {
        let mut pace = Pace::default();
        assert_eq!(
            pace.wait_behind(1_000_000),
            Duration::ZERO,
            "nothing is known"
        );
        pace.batch(40, 800 * US, 300_000 * US);
        assert_eq!(pace.wait_behind(BATCH / 2), Duration::ZERO);
        assert!(pace.wait_behind(BATCH) > 300_000 * US);
    }

    #[test]
    fn who_is_behind_many_waits_for_their_batches_and_commits() {
        let mut pace = Pace::default();
        // Whoever was alone before says nothing of how fast many are.
        pace.batch(1, 20 * US, 2_000 * US);
        for _ in 0..100 {
            pace.batch(100, 2_000 * US, 2_000 * US);
        }
        let wait = pace.wait_behind(1_500).as_secs_f64();
        // 150 of 20 µs are a batch: ten of 3 ms, and their commits.
        assert!((wait - 0.05).abs() < 1e-3, "{wait}");
    }

    #[test]
    fn a_work_that_takes_longer_than_a_batch_is_a_batch() {
        let mut pace = Pace::default();
        pace.batch(1, 10_000 * US, 5_000 * US);
        assert_eq!(pace.wait_behind(2), 30_000 * US);
    }
}
