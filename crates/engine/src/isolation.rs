//! Who holds what on this node, to be looked at, and what must be nothing there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netra_context::runtime::TaskKind;
use netra_protocol::id::UserId;

use crate::factory::ExecutionEngineFactory;

/// What the runs of one user hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Runs that have a slot.
    pub running: usize,
    /// Runs that wait for one.
    pub queued: usize,
    /// Runs that wait for a person.
    pub waiting: usize,
    /// Worker processes.
    pub workers: usize,
    /// Their memory, when it was last counted.
    pub worker_bytes: u64,
}

/// The runs of this node and what they hold, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// The users who hold anything.
    pub users: HashMap<UserId, Holdings>,
    /// The most engines that there may be.
    pub engines_allowed: usize,
    /// Engines made since the start.
    pub engines_created: u64,
    /// Engines released since the start.
    pub engines_cleaned: u64,
    /// Engines that a run on the list has now.
    pub engines_active: u64,
    /// Slots and places in queues without a run on the list.
    pub seats_without_run: u64,
    /// Tasks that drive a run, without a run on the list.
    pub tasks_without_run: u64,
    /// Worker processes that the system has, and that are neither ready for a run nor known to one.
    pub workers_without_run: u64,
}

impl Census {
    /// Engines that were made and not released, and that no run has.
    pub fn engines_lost(&self) -> u64 {
        (self.engines_created - self.engines_cleaned).saturating_sub(self.engines_active)
    }
}

/// How many engines were made and released.
#[derive(Default)]
pub(crate) struct Engines(Arc<Tally>);

#[derive(Default)]
struct Tally {
    created: AtomicU64,
    cleaned: AtomicU64,
    most: AtomicU64,
}

/// Counts an engine as active while it exists.
pub(crate) struct Active(Arc<Tally>);

impl Engines {
    pub(crate) fn begin(&self) -> Active {
        let tally = &self.0;
        let created = tally.created.fetch_add(1, Ordering::AcqRel) + 1;
        let active = created.saturating_sub(tally.cleaned.load(Ordering::Acquire));
        let most = tally.most.fetch_max(active, Ordering::AcqRel).max(active);
        metrics::counter!("netra_engine_created_total").increment(1);
        metrics::gauge!("netra_engine_active").increment(1.0);
        metrics::gauge!("netra_engine_concurrent_peak").set(most as f64);
        Active(Arc::clone(tally))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.cleaned.fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("netra_engine_active").decrement(1.0);
        metrics::counter!("netra_engine_cleaned_total").increment(1);
    }
}

impl ExecutionEngineFactory {
    /// Looks at all runs of this node. Runs come and go meanwhile, so what must be nothing may be
    /// more for a moment; what stays is a defect.
    pub fn census(&self) -> Census {
        let (tally, infra) = (&self.0.engines.0, self.infra());
        // First, so that one that begins meanwhile counts nowhere.
        let living = infra.scripts.living_workers() + infra.tools.living_workers();
        // Released is read first, and tasks after the runs: so a run that comes counts nowhere.
        let engines_cleaned = tally.cleaned.load(Ordering::Acquire);
        let mut census = Census {
            engines_allowed: infra.config.engines,
            engines_cleaned,
            ..Census::default()
        };
        let (seats, runs) = self.0.runs.look(|runs| {
            let mut listed = 0;
            for live in runs {
                listed += 1;
                if let Some(held) = live.held.get() {
                    census.engines_active += 1;
                    let user = census.users.entry(live.user_id).or_default();
                    user.workers += held.workers.at_work();
                    user.worker_bytes += held.counted.bytes();
                }
            }
            (self.0.admission.users(), listed)
        });
        census.engines_created = tally.created.load(Ordering::Acquire);
        for (id, count) in seats {
            let user = census.users.entry(id).or_default();
            user.running = count.running;
            user.queued = count.queued;
            user.waiting = count.parked;
        }
        let seated = |user: &Holdings| (user.running + user.queued) as u64;
        let seats: u64 = census.users.values().map(seated).sum();
        let parked: usize = census.users.values().map(|user| user.waiting).sum();
        let waiting = self.0.waiting.len();
        census.seats_without_run =
            seats.saturating_sub(runs) + parked.saturating_sub(waiting) as u64;
        let tasks = infra.runtime.live_tasks_of(TaskKind::Run) as u64;
        census.tasks_without_run = tasks.saturating_sub(runs);
        let known: usize = census.users.values().map(|user| user.workers).sum();
        let known = known + infra.scripts.warm_workers();
        census.workers_without_run = living.saturating_sub(known) as u64;
        census
    }
}
