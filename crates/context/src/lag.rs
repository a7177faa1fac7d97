//! How late this process gets to its tasks: whether its processors are asked for more than they can do, which no queue
//! of the server's own shows.
//!
//! A thread that is none of the runtime's asks for a turn again and again, as the database does with each of its
//! answers, and then for another one behind all that waits beside that one, as a request does that has just come. What
//! both take together is what everybody waits at each step.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::pressure::{Bounds, Pressure};
use crate::runtime::{Runtime, TaskKind};

/// Between two turns.
const PAUSE: Duration = Duration::from_millis(10);

/// How late the process is, as far as is known. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Lag(Arc<Mutex<Waits>>);

/// What is asked for is small or it is work, and work is refused first, so that there is room for the other.
struct Waits {
    work: Pressure,
    all: Pressure,
}

impl Lag {
    /// Late is who waits longer than this for a turn. Nobody looks yet.
    pub fn new(target: Duration) -> Self {
        let of_work = Bounds {
            target,
            // A stall of the machine is no overload.
            patience: Duration::from_millis(100),
            memory: Duration::from_secs(5),
        };
        let of_all = Bounds {
            target: target * 5 / 2,
            patience: Duration::from_millis(450),
            memory: Duration::ZERO,
        };
        Self(Arc::new(Mutex::new(Waits {
            work: Pressure::new(of_work),
            all: Pressure::new(of_all),
        })))
    }

    /// Whether whoever came now, with work or with something small, would wait too long.
    pub fn is_high(&self, with_work: bool) -> bool {
        let (waits, now) = (self.0.lock(), Instant::now());
        waits.all.is_high(now) || (with_work && waits.work.is_high(now))
    }

    /// Somebody waits for a turn since then.
    pub fn asked(&self, since: Instant) {
        let mut waits = self.0.lock();
        waits.work.began(since);
        waits.all.began(since);
    }

    /// They had it, and nobody waits any more.
    pub fn served(&self, since: Instant, now: Instant) {
        let waited = now.saturating_duration_since(since);
        let waits = &mut *self.0.lock();
        for pressure in [&mut waits.work, &mut waits.all] {
            pressure.served(waited, now);
            pressure.paused();
        }
    }

    /// Looks as long as the runtime has not been told to end. Where the system gives no thread, nobody looks, and the
    /// log says so.
    pub fn watch(&self, runtime: &Runtime) {
        let (ask, mut asked) = mpsc::channel::<Instant>(1);
        let (serve, served) = sync_channel(1);
        let (lag, own) = (self.clone(), runtime.clone());
        runtime.spawn(TaskKind::Sweep, async move {
            let ends = own.shutdown().clone();
            while let Some(Some(since)) = ends.run_until_cancelled(asked.recv()).await {
                let Some(now) = behind_the_others(&own).await else {
                    break;
                };
                lag.served(since, now);
                metrics::histogram!("netra_turn_wait_seconds")
                    .record(now.saturating_duration_since(since));
                if serve.send(()).is_err() {
                    break;
                }
            }
        });
        let lag = self.clone();
        let watch = move || {
            loop {
                let now = Instant::now();
                lag.asked(now);
                // Neither is there any more when the server ends.
                if ask.blocking_send(now).is_err() || served.recv().is_err() {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        };
        let name = "netra-lag".to_owned();
        if let Err(error) = std::thread::Builder::new().name(name).spawn(watch) {
            tracing::error!(%error, "nobody looks how late the server gets to its tasks");
        }
    }
}

/// When a task has its turn that waits behind all others of this thread. A thread takes up the task that was started
/// last before all others, so there is one more after it.
async fn behind_the_others(runtime: &Runtime) -> Option<Instant> {
    let turn = runtime.spawn(TaskKind::Part, async { Instant::now() });
    runtime.spawn(TaskKind::Part, async {});
    turn.await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_runtime_that_gets_to_nothing_is_late_until_it_does_again() {
        let (runtime, lag) = (Runtime::new(), Lag::new(20 * MS));
        lag.watch(&runtime);
        // This test's thread is the runtime's only one, and is busy with this.
        while !lag.is_high(true) {
            std::hint::spin_loop();
        }
        assert!(!lag.is_high(false), "there is room for what is small");
        while !lag.is_high(false) {
            std::hint::spin_loop();
        }
        while lag.is_high(true) || lag.is_high(false) {
            tokio::task::yield_now().await;
        }
        assert_eq!(runtime.drain(Duration::from_secs(10)).await, 0);
    }

    /// Has a turn at this time that took so long, and says who is refused then: work, and all.
    fn had(lag: &Lag, start: Instant, (at, waited): (u32, u32)) -> (bool, bool) {
        let (since, now) = (start + MS * (at - waited), start + MS * at);
        lag.asked(since);
        lag.served(since, now);
        let waits = lag.0.lock();
        (waits.work.is_high(now), waits.all.is_high(now))
    }

    #[test]
    fn a_stall_is_no_overload_and_a_longer_one_is_for_those_with_work_alone() {
        let start = Instant::now();
        for (turns, expected) in [
            (&[(200, 119)][..], (false, false)),
            (&[(200, 20)], (false, false)),
            (&[(200, 119), (300, 20)], (false, false)),
            (&[(200, 119), (300, 21)], (true, false)),
            (&[(200, 120)], (true, false)),
            (&[(500, 499)], (true, false)),
            (&[(200, 119), (649, 51)], (true, false)),
            (&[(200, 119), (650, 51)], (true, true)),
            (&[(200, 119), (650, 50)], (true, false)),
        ] {
            let lag = Lag::new(20 * MS);
            let all: Vec<_> = turns.iter().map(|turn| had(&lag, start, *turn)).collect();
            assert_eq!(all.last(), Some(&expected), "{turns:?}");
        }
    }

    #[test]
    fn who_was_late_a_moment_ago_is_so_at_the_first_sign_and_no_longer_when_it_was_long_ago() {
        let (lag, start) = (Lag::new(20 * MS), Instant::now());
        let work = |at, waited| had(&lag, start, (at, waited)).0;
        assert!(work(500, 120));
        assert!(!work(520, 20), "in time again");
        assert!(work(600, 21), "a sign");
        assert!(!work(700, 1));
        assert!(work(5_599, 21), "and that was another one");
        assert!(!work(5_610, 1));
        assert!(!work(10_610, 60), "forgotten");
    }

    /// A server with one processor. Answering takes a millisecond, refusing a fiftieth of it, and a thousand clients
    /// come together, and again a second after they were refused.
    #[test]
    fn whoever_comes_back_in_a_crowd_is_told_within_its_time() {
        let lag = Lag::new(20 * MS);
        let is_high = |now| lag.0.lock().work.is_high(now);
        let start = Instant::now() + 1_000 * MS;
        let (mut now, mut next_look) = (start, start);
        let mut queue = VecDeque::from(vec![(start, false); 1_000]);
        let mut crowd = VecDeque::new();
        let (mut longest, mut answered) = (Duration::ZERO, 0);
        while now < start + 10_000 * MS {
            while crowd.front().is_some_and(|back| *back <= now) {
                queue.extend(crowd.pop_front().map(|back| (back, false)));
            }
            if next_look <= now {
                queue.push_back((now, true));
                lag.asked(now);
                next_look = now + 100_000 * MS;
            }
            match queue.pop_front() {
                None => now += MS / 10,
                Some((since, true)) => {
                    lag.served(since, now);
                    next_look = now + PAUSE;
                }
                Some((since, false)) if is_high(now) => {
                    now += MS / 50;
                    if since > start + 900 * MS {
                        longest = longest.max(now - since);
                    }
                    crowd.push_back(now + 1_000 * MS);
                }
                Some((_, false)) => {
                    now += MS;
                    answered += 1;
                    crowd.push_back(now + 1_000 * MS);
                }
            }
        }
        assert!(longest > 20 * MS, "somebody was refused: {longest:?}");
        assert!(longest <= 50 * MS, "{longest:?}");
        assert!(answered > 2_000, "{answered}");
    }
}
