//! When a call that failed is made again, and after which pause.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::{Error, ModelRef};

/// The pause after the first failure, before chance shortens it; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// No pause of our own choice is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How often a call is made again. The default is never.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    /// Tries beyond the first.
    pub(crate) most: u32,
    pub(crate) jitter: Jitter,
}

impl Retries {
    /// How long to wait after this try, counted from 1, has failed; none: it is not tried again.
    pub(crate) fn pause(&self, error: &Error, attempt: u32) -> Option<Duration> {
        let again = attempt <= self.most && error.retryable();
        again.then(|| pause(attempt, self.jitter.fraction(), error.retry_after()))
    }
}

/// What the provider asks for is kept to. Chance spreads what many calls do after one failure.
fn pause(attempt: u32, fraction: f64, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    let own = doubled
        .min(LONGEST_PAUSE)
        .mul_f64(fraction.mul_add(0.5, 0.5));
    match asked {
        Some(asked) => own.max(asked + FIRST_PAUSE.mul_f64(fraction)),
        None => own,
    }
}

/// Chance, from a seed (SplitMix64): nothing depends on nobody guessing it.
#[derive(Debug, Default)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// From 0 to 1.
    fn fraction(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut bits = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A call that has failed and is about to be made again.
#[derive(Debug)]
pub struct Retry<'a> {
    /// The model.
    pub model: &'a ModelRef,
    /// Why it failed.
    pub error: &'a Error,
    /// How long is waited before.
    pub pause: Duration,
    /// Which try is next, counted from 1.
    pub attempt: u32,
    /// How many there may be.
    pub of: u32,
}

/// Is told of what happens to a call before its answer begins.
#[async_trait]
pub trait Witness: Send + Sync {
    /// A try begins: from here on the provider may read the request.
    fn begins(&self);

    /// The try that has begun has failed.
    fn failed(&self, error: &Error);

    /// The call failed and is made again after a pause.
    async fn retries(&self, retry: Retry<'_>);
}

/// Nobody is told.
#[async_trait]
impl Witness for () {
    fn begins(&self) {}

    fn failed(&self, _error: &Error) {}

    async fn retries(&self, _retry: Retry<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn pauses_double_up_to_an_end_and_chance_shortens_them_by_half_at_most() {
        let of = |fraction| [1, 2, 3, 9].map(|attempt| pause(attempt, fraction, None));
        assert_eq!(of(1.0), [ms(500), ms(1_000), ms(2_000), ms(20_000)]);
        assert_eq!(of(0.0), [ms(250), ms(500), ms(1_000), ms(10_000)]);
        assert_eq!(pause(u32::MAX, 1.0, None), LONGEST_PAUSE);
    }

    #[test]
    fn what_the_provider_asks_for_is_the_least() {
        assert_eq!(pause(1, 0.0, Some(ms(7_000))), ms(7_000));
        assert_eq!(pause(1, 0.5, Some(ms(7_000))), ms(7_250));
        assert_eq!(pause(3, 0.0, Some(ms(1))), ms(1_000));
    }

    #[test]
    fn the_same_seed_gives_the_same_chance_within_its_range() {
        let drawn = |seed| {
            let jitter = Jitter::seeded(seed);
            (0..1_000).map(|_| jitter.fraction()).collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let sum: f64 = drawn(7).iter().sum();
        assert!(drawn(7).iter().all(|part| (0.0..1.0).contains(part)));
        assert!((450.0..550.0).contains(&sum), "{sum}");
    }
}
