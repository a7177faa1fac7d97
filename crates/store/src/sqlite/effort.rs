//! What a piece of work costs its thread. Times of day would charge a user with what others did meanwhile: a thread that
//! had to wait for a processor during somebody's write of 20 µs would have them wait for milliseconds of other people's
//! writes in return.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The processor time of this thread at some moment.
#[derive(Clone, Copy)]
pub(super) struct Effort(Duration);

impl Effort {
    pub(super) fn now() -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(Duration::new(seconds, nanos))
    }

    /// Processor time since then, which becomes now.
    pub(super) fn lap(&mut self) -> Duration {
        let before = std::mem::replace(self, Self::now());
        self.0.saturating_sub(before.0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_costs_nothing_and_work_does() {
        let (mut effort, start) = (Effort::now(), Instant::now());
        let (_open, never) = std::sync::mpsc::sync_channel::<()>(1);
        let wait = Duration::from_millis(50);
        assert!(never.recv_timeout(wait).is_err());
        let waited = start.elapsed();
        let cost = effort.lap();
        assert!(cost < waited / 2, "{cost:?} of {waited:?}");
        while effort.0 + Duration::from_millis(5) > Effort::now().0 {
            std::hint::spin_loop();
        }
        assert!(effort.lap() >= Duration::from_millis(5));
    }
}
