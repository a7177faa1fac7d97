//! What a piece of work costs. Where this process does it, that is processor time. Times of day would charge a user with
//! what others did meanwhile: a thread that had to wait for a processor during somebody's write of 20 µs would have them
//! wait for milliseconds of other people's writes in return.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What was used up to some moment.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    clock: ClockId,
    used: Duration,
}

impl Effort {
    /// Of this thread's processor time.
    pub(crate) fn of_processor() -> Self {
        Self::by(ClockId::ThreadCPUTime)
    }

    /// Of the time that this thread has a connection, over which another process does the work.
    pub(crate) fn of_connection() -> Self {
        Self::by(ClockId::Monotonic)
    }

    fn by(clock: ClockId) -> Self {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        let used = Duration::new(seconds, nanos);
        Self { clock, used }
    }

    /// What was used since then, which becomes now.
    pub(crate) fn lap(&mut self) -> Duration {
        let before = self.used;
        *self = Self::by(self.clock);
        self.used.saturating_sub(before)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_costs_nothing_and_work_does() {
        let (mut effort, start) = (Effort::of_processor(), Instant::now());
        let (_open, never) = std::sync::mpsc::sync_channel::<()>(0);
        let wait = Duration::from_millis(50);
        assert!(never.recv_timeout(wait).is_err());
        let waited = start.elapsed();
        let cost = effort.lap();
        assert!(cost < waited / 2, "{cost:?} of {waited:?}");
        let enough = effort.used + Duration::from_millis(5);
        while Effort::of_processor().used < enough {
            std::hint::spin_loop();
        }
        assert!(effort.lap() >= Duration::from_millis(5));
    }

    #[test]
    fn who_waits_for_another_process_uses_the_connection() {
        let mut effort = Effort::of_connection();
        let (_open, never) = std::sync::mpsc::sync_channel::<()>(0);
        let wait = Duration::from_millis(5);
        assert!(never.recv_timeout(wait).is_err());
        assert!(effort.lap() >= wait);
    }
}
