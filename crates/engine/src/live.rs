//! The runs that are on this node now, and how each is told to stop.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use netra_memory::{Account, External};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_worker::Meter;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admission::Ticket;
use crate::ending::Ending;

/// Beyond the limit by more than one part in as many, and growing, memory that is on its way back is not waited for.
const MOST_BEYOND: u64 = 20;
/// One part in as many of the limit is no growth.
const GROWTH: u64 = 100;

/// Why a run has to stop before its agent is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A person wants it.
    Cancelled,
    /// An admin wants it.
    CancelledByAdmin,
    /// Its user was disabled.
    UserDisabled,
    /// A new run takes the thread.
    Replaced,
    /// The server stops: the run is let go, and goes on at the next start.
    Drained,
    /// The user holds more memory than allowed, and this run the most of it.
    Memory { used: u64, limit: u64 },
    /// The node is short of memory, and this run holds the most of the user who holds the most.
    NodeMemory,
}

impl StopReason {
    /// How the run ends; none when it is let go, to go on later.
    pub(crate) fn ending(self) -> Option<Ending> {
        Some(match self {
            Self::Drained => return None,
            Self::Cancelled => cancelled("the run was cancelled"),
            Self::CancelledByAdmin => cancelled("the run was cancelled by an admin"),
            Self::UserDisabled => cancelled("the run was cancelled because its user was disabled"),
            Self::Replaced => cancelled("the run was cancelled by a new run on its thread"),
            Self::Memory { used, limit } => {
                let words = format!("{used} bytes of memory are in use, {limit} are allowed");
                let details = json!({ "used_bytes": used, "limit_bytes": limit });
                let failure = Failure::new(ErrorCode::MemoryLimitExceeded, words);
                Ending::Failed(failure.with_details(details))
            }
            Self::NodeMemory => {
                let words = "the server is short of memory, and this was the largest run";
                let details = json!({ "limit": "node_memory_mib" });
                let failure = Failure::new(ErrorCode::MemoryLimitExceeded, words);
                Ending::Failed(failure.with_details(details))
            }
        })
    }
}

fn cancelled(words: &str) -> Ending {
    Ending::Cancelled(Failure::new(ErrorCode::Cancelled, words))
}

/// Tells one run to stop. The first reason holds.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    reason: OnceLock<StopReason>,
}

impl Stop {
    pub(crate) fn stop(&self, reason: StopReason) {
        self.reason.get_or_init(|| reason);
        self.token.cancel();
    }

    /// Waits until the run has to stop.
    pub(crate) async fn stopped(&self) -> StopReason {
        self.token.cancelled().await;
        self.reason().unwrap_or(StopReason::Cancelled)
    }

    /// Why the run has to stop, where it has to.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }
}

/// A run on this node, from before it is stored until its end is.
pub(crate) struct Live {
    pub(crate) run_id: RunId,
    pub(crate) user_id: UserId,
    pub(crate) thread_id: ThreadId,
    pub(crate) ticket: Ticket,
    pub(crate) stop: Stop,
    /// Set when its engine is made.
    pub(crate) held: OnceLock<Held>,
}

/// What a run holds: its account, and the worker processes that are counted there.
pub(crate) struct Held {
    pub(crate) account: Arc<Account>,
    pub(crate) workers: Workers,
    pub(crate) counted: External,
}

/// The worker processes of one run, which come and go. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Workers(Arc<Mutex<Vec<Meter>>>);

impl Workers {
    pub(crate) fn add(&self, meter: Meter) {
        self.0.lock().push(meter);
    }

    /// How many processes there are now.
    pub(crate) fn at_work(&self) -> usize {
        let meters = self.0.lock();
        let at_work = |meter: &&Meter| meter.process_id().is_some();
        meters.iter().filter(at_work).count()
    }

    fn bytes(&self) -> u64 {
        self.0.lock().iter().map(Meter::bytes).sum()
    }
}

impl Held {
    pub(crate) fn new(account: Arc<Account>, workers: Workers) -> Self {
        let counted = account.add_external();
        Self {
            account,
            workers,
            counted,
        }
    }
}

impl Live {
    /// What the run holds now, in bytes.
    fn bytes(&self) -> u64 {
        let held = self.held.get();
        held.map_or(0, |held| held.account.current_bytes())
    }

    /// Whether the run is on its way out because of memory.
    fn is_giving_back(&self) -> bool {
        matches!(
            self.stop.reason(),
            Some(StopReason::Memory { .. } | StopReason::NodeMemory)
        )
    }
}

#[derive(Default)]
struct Shared {
    runs: Mutex<HashMap<RunId, Arc<Live>>>,
    changed: Notify,
}

/// The runs on this node.
#[derive(Clone, Default)]
pub(crate) struct LiveRuns(Arc<Shared>);

/// Takes its run off the list when dropped.
pub(crate) struct Listed {
    runs: LiveRuns,
    pub(crate) live: Arc<Live>,
}

impl LiveRuns {
    /// Lists the run that `enter` lets in. Both are one step for everybody else, so whoever looks
    /// at the list finds every run with an earlier ticket.
    pub(crate) fn list<T, E>(
        &self,
        enter: impl FnOnce() -> Result<(T, Live), E>,
    ) -> Result<(T, Listed), E> {
        let mut runs = self.0.runs.lock();
        let (entered, live) = enter()?;
        let live = Arc::new(live);
        runs.insert(live.run_id, Arc::clone(&live));
        drop(runs);
        let runs = self.clone();
        Ok((entered, Listed { runs, live }))
    }

    pub(crate) fn get(&self, id: RunId) -> Option<Arc<Live>> {
        self.0.runs.lock().get(&id).cloned()
    }

    /// Looks at the runs of this moment; nobody is let in or taken off meanwhile.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&mut dyn Iterator<Item = &Live>) -> T) -> T {
        let runs = self.0.runs.lock();
        at(&mut runs.values().map(|live| &**live))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.runs.lock().len()
    }

    /// Stops the runs that were let in on the same thread before this one.
    pub(crate) fn stop_earlier(&self, than: &Live) {
        let earlier =
            |live: &&Arc<Live>| live.thread_id == than.thread_id && live.ticket < than.ticket;
        for live in self.0.runs.lock().values().filter(earlier) {
            live.stop.stop(StopReason::Replaced);
        }
    }

    /// Stops every run of a user.
    pub(crate) fn stop_all_of(&self, user: UserId, reason: StopReason) {
        let runs = self.0.runs.lock();
        for live in runs.values().filter(|live| live.user_id == user) {
            live.stop.stop(reason);
        }
    }

    /// Stops every run.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for live in self.0.runs.lock().values() {
            live.stop.stop(reason);
        }
    }

    /// Brings the count of the workers' memory up to date, for the runs that have any, and says whose
    /// those are.
    pub(crate) fn count_workers(&self) -> HashSet<UserId> {
        let counts = |live: &&Arc<Live>| {
            live.held
                .get()
                .is_some_and(|held| held.counted.bytes() > 0 || held.workers.at_work() > 0)
        };
        // Asking the system takes a while, and nobody is to wait for it.
        let counted: Vec<_> = self
            .0
            .runs
            .lock()
            .values()
            .filter(counts)
            .cloned()
            .collect();
        for live in &counted {
            if let Some(held) = live.held.get() {
                let bytes = held.workers.bytes();
                // Of a run that has left meanwhile nothing is counted any more.
                let runs = self.0.runs.lock();
                if runs
                    .get(&live.run_id)
                    .is_some_and(|listed| Arc::ptr_eq(listed, live))
                {
                    held.counted.set(bytes);
                }
            }
        }
        counted.iter().map(|live| live.user_id).collect()
    }

    /// What all workers held when they were last counted.
    pub(crate) fn worker_bytes(&self) -> u64 {
        let runs = self.0.runs.lock();
        let held = runs.values().filter_map(|live| live.held.get());
        held.map(|held| held.counted.bytes()).sum()
    }

    /// Ends the largest run of a user who holds more than allowed, and where that is not enough in
    /// time another. False where the user has none.
    pub(crate) fn relieve(&self, user: UserId, account: &Account) -> bool {
        let (used, limit) = (account.current_bytes(), account.limit());
        let grows = self
            .used_at_last_stop(user)
            .is_some_and(|before| used > before.saturating_add(limit / GROWTH));
        let excess = match used.saturating_sub(limit) {
            // What comes back does not come soon enough for this.
            beyond if grows && beyond > limit / MOST_BEYOND => u64::MAX,
            beyond => beyond,
        };
        self.stop_largest(user, excess, StopReason::Memory { used, limit })
    }

    /// What the user held when a run was last stopped for it that is still on its way out.
    fn used_at_last_stop(&self, user: UserId) -> Option<u64> {
        let runs = self.0.runs.lock();
        let own = runs.values().filter(|live| live.user_id == user);
        own.filter_map(|live| match live.stop.reason() {
            Some(StopReason::Memory { used, .. }) => Some(used),
            _ => None,
        })
        .max()
    }

    /// Stops the run of the user that holds the most memory, unless the end of those that were
    /// stopped before gives back the `excess`. False where the user has no run that holds any.
    pub(crate) fn stop_largest(&self, user: UserId, excess: u64, reason: StopReason) -> bool {
        let runs = self.0.runs.lock();
        let own = || {
            runs.values()
                .filter(|live| live.user_id == user && live.held.get().is_some())
        };
        let coming: u64 = own()
            .filter(|live| live.is_giving_back())
            .map(|live| live.bytes())
            .sum();
        if coming > 0 && coming >= excess {
            return true;
        }
        let others = own().filter(|live| !live.is_giving_back());
        match others.max_by_key(|live| live.bytes()) {
            Some(largest) => {
                let of = match reason {
                    StopReason::NodeMemory => "node",
                    _ => "user",
                };
                metrics::counter!("netra_memory_runs_ended_total", "limit" => of).increment(1);
                largest.stop.stop(reason);
                true
            }
            None => coming > 0,
        }
    }

    /// Waits until no run is left.
    pub(crate) async fn gone(&self) {
        self.none_left(|_| true).await;
    }

    /// Waits until no run of the user is left.
    pub(crate) async fn gone_of(&self, user: UserId) {
        self.none_left(|live| live.user_id == user).await;
    }

    async fn none_left(&self, wanted: impl Fn(&Live) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.look(|runs| runs.filter(|live| wanted(live)).count()) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut runs = self.runs.0.runs.lock();
        // A run that was answered at once may be listed anew already.
        if let Entry::Occupied(listed) = runs.entry(self.live.run_id)
            && Arc::ptr_eq(listed.get(), &self.live)
        {
            listed.remove();
        }
        // Its workers are killed; whoever still looks at the run holds no memory of theirs.
        if let Some(held) = self.live.held.get() {
            held.counted.set(0);
        }
        drop(runs);
        self.runs.0.changed.notify_waiters();
    }
}
