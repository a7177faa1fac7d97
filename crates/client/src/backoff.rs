//! How long to wait before the next attempt.

use std::time::Duration;

use crate::error::Error;

/// Exponential waits with full jitter, so that clients of a restarted server do not come at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    patience: Duration,
    attempt: u32,
    waited: Duration,
}

impl Default for Backoff {
    /// From at most 100 ms up to at most 10 s, for two minutes in all.
    fn default() -> Self {
        Self::new(
            Duration::from_millis(100),
            Duration::from_secs(10),
            Duration::from_secs(120),
        )
    }
}

impl Backoff {
    /// Waits of at most `first`, doubled each time up to `longest`; gives up when the waits come
    /// to `patience`.
    pub fn new(first: Duration, longest: Duration, patience: Duration) -> Self {
        Self {
            first,
            longest,
            patience,
            attempt: 0,
            waited: Duration::ZERO,
        }
    }

    /// The next wait, on top of what was `asked` for, so that all who were asked do not come at once; none when patience is at its end.
    pub fn next_wait(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let jitter: f64 = rand::random();
        self.next_wait_with(asked, jitter)
    }

    /// Waits before the next attempt; gives the error back when patience is at its end.
    pub async fn pause(&mut self, error: Error) -> Result<(), Error> {
        match self.next_wait(error.retry_after()) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    /// To be called after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.waited = Duration::ZERO;
    }

    /// Something went well for so long. Where nothing happens for hours, no event says so.
    pub(crate) fn lasted(&mut self, time: Duration) {
        if time >= self.longest {
            self.reset();
        }
    }

    fn next_wait_with(&mut self, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        if self.waited >= self.patience {
            return None;
        }
        let ceiling = self
            .first
            .saturating_mul(1 << self.attempt.min(20))
            .min(self.longest);
        self.attempt += 1;
        // Never nothing: a server that refuses at once must not be asked in a tight loop.
        let wait = ceiling
            .mul_f64(jitter.clamp(0.05, 1.0))
            .saturating_add(asked.unwrap_or_default());
        self.waited += wait;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds() -> Backoff {
        Backoff::new(
            Duration::from_secs(1),
            Duration::from_secs(8),
            Duration::from_secs(30),
        )
    }

    #[test]
    fn waits_double_up_to_the_longest_and_then_patience_ends() {
        let mut backoff = seconds();
        let mut waits = Vec::new();
        while let Some(wait) = backoff.next_wait_with(None, 1.0) {
            waits.push(wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn jitter_shortens_but_never_to_nothing() {
        assert_eq!(
            seconds().next_wait_with(None, 0.5),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            seconds().next_wait_with(None, 0.0),
            Some(Duration::from_millis(50))
        );
    }

    #[test]
    fn what_the_server_asks_for_is_waited_and_not_by_all_alike() {
        let asked = Some(Duration::from_secs(5));
        let wait = |jitter| seconds().next_wait_with(asked, jitter).unwrap().as_millis();
        assert_eq!([wait(0.1), wait(0.9)], [5_100, 5_900]);
    }

    #[test]
    fn a_connection_that_lasted_starts_over_and_a_short_one_does_not() {
        let mut backoff = seconds();
        while backoff.next_wait_with(None, 1.0).is_some() {}
        backoff.lasted(Duration::from_secs(7));
        assert_eq!(backoff.next_wait_with(None, 1.0), None);
        backoff.lasted(Duration::from_secs(8));
        assert_eq!(
            backoff.next_wait_with(None, 1.0),
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = seconds();
        backoff.next_wait_with(None, 1.0);
        backoff.next_wait_with(None, 1.0);
        backoff.reset();
        assert_eq!(
            backoff.next_wait_with(None, 1.0),
            Some(Duration::from_secs(1))
        );
    }
}
