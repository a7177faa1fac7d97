//! Telling a client that is slow from one that takes nothing.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked whether something was taken, in the time in which something must be.
const LOOKS: u32 = 8;

/// The work's outcome; none when for `allowed` the client has taken no byte meanwhile. `taken`
/// counts the bytes that it has taken.
pub(crate) async fn unless_stalled<T>(
    work: impl Future<Output = T>,
    allowed: Duration,
    taken: impl Fn() -> u64,
) -> Option<T> {
    let mut work = pin!(work);
    let (mut before, mut moved_at) = (taken(), Instant::now());
    loop {
        match tokio::time::timeout(allowed / LOOKS, work.as_mut()).await {
            Ok(outcome) => return Some(outcome),
            Err(_) if taken() != before => (before, moved_at) = (taken(), Instant::now()),
            Err(_) if moved_at.elapsed() >= allowed => return None,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const ALLOWED: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_byte_now_and_then_is_not_stalled() {
        let taken = Cell::new(0);
        let work = async {
            for _ in 0..10 {
                tokio::time::sleep(ALLOWED - Duration::from_secs(1)).await;
                taken.set(taken.get() + 1);
            }
        };
        assert_eq!(
            unless_stalled(work, ALLOWED, || taken.get()).await,
            Some(())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_stalled() {
        let began = tokio::time::Instant::now();
        let never = std::future::pending::<()>();
        assert_eq!(unless_stalled(never, ALLOWED, || 7).await, None);
        assert_eq!(began.elapsed(), ALLOWED);
    }
}
