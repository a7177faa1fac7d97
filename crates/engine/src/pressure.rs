//! The watch over memory: users who hold more than they may, and a node that runs short.
//!
//! A run's own engine looks after each poll; this looks at everybody, whatever they do, every
//! [`LOOK_EVERY`], and so finds what grows elsewhere: worker processes, requests, sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_memory::Account;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::factory::ExecutionEngineFactory;
use crate::live::StopReason;

/// How often everybody's memory is looked at. Two looks and the end of a run fit into 100 ms.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// From which part of the node's limit no run is let in any more.
const CLOSE_AT: f64 = 0.8;
/// From which part of it the largest user's largest run ends.
const SHED_AT: f64 = 0.9;
/// How long after a run was shed the system may take to have its memory back.
const SETTLE: Duration = Duration::from_secs(1);

/// How much memory the node may use, and how it is told what it uses.
#[derive(Clone)]
pub struct NodeMemory {
    limit_bytes: u64,
    used: Arc<dyn Fn(u64) -> u64 + Send + Sync>,
}

impl NodeMemory {
    /// A limit for this process and its workers: whatever is larger of what the accounts say and
    /// what the system says of them.
    pub fn of_process(limit_bytes: u64) -> Self {
        Self::measured(limit_bytes, |workers| {
            let resident = netra_memory::resident_bytes().unwrap_or(0);
            netra_memory::node_bytes().max(resident.saturating_add(workers))
        })
    }

    /// A limit for what `used` says, given the bytes of the workers.
    pub fn measured(limit_bytes: u64, used: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Self {
        Self {
            limit_bytes,
            used: Arc::new(used),
        }
    }
}

impl Default for NodeMemory {
    /// Without a limit.
    fn default() -> Self {
        Self::measured(u64::MAX, |_| 0)
    }
}

impl std::fmt::Debug for NodeMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeMemory")
            .field("limit_bytes", &self.limit_bytes)
            .finish_non_exhaustive()
    }
}

/// Where the node stands.
#[derive(Default)]
pub(crate) struct Pressure {
    short: AtomicBool,
    shed: Mutex<Option<Instant>>,
}

impl ExecutionEngineFactory {
    /// Looks at everybody's memory as long as the server runs.
    pub(crate) fn watch_memory(&self) {
        let (engine, shutdown) = (self.clone(), self.infra().runtime.shutdown().clone());
        self.infra().runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval(LOOK_EVERY);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = turns.tick() => engine.look_at_memory(),
                }
            }
        });
    }

    /// Whether the node has so little memory left that no run is let in.
    pub fn is_short_of_memory(&self) -> bool {
        self.0.pressure.short.load(Ordering::Acquire)
    }

    /// Ends the largest run of a user who holds more than allowed. False where the user has none,
    /// so that what is held is held by requests and sockets.
    pub fn relieve(&self, user: UserId, account: &Account) -> bool {
        let (used, limit) = (account.current_bytes(), account.limit());
        let reason = StopReason::Memory { used, limit };
        let excess = used.saturating_sub(limit);
        self.0.runs.stop_largest(user, excess, reason)
    }

    pub(crate) fn look_at_memory(&self) {
        self.0.runs.count_workers();
        let accounts = self.infra().runtime.open_accounts();
        for (user, account) in &accounts {
            if account.is_over() {
                self.relieve(*user, account);
            }
        }
        self.look_at_node(&accounts);
    }

    fn look_at_node(&self, accounts: &[(UserId, Arc<Account>)]) {
        let node = &self.infra().config.node_memory;
        let used = (node.used)(self.0.runs.worker_bytes());
        let part = |part: f64| (node.limit_bytes as f64 * part) as u64;
        metrics::gauge!("netra_memory_bytes", "of" => "node").set(used as f64);
        metrics::gauge!("netra_memory_bytes", "of" => "system")
            .set(netra_memory::system_bytes() as f64);
        if node.limit_bytes < u64::MAX {
            metrics::gauge!("netra_memory_limit_bytes").set(node.limit_bytes as f64);
        }
        let short = used > part(CLOSE_AT);
        if self.0.pressure.short.swap(short, Ordering::AcqRel) != short {
            if short {
                tracing::warn!(
                    memory.used = used,
                    memory.limit = node.limit_bytes,
                    "the node is short of memory: no run is let in",
                );
            } else {
                tracing::info!(memory.used = used, "runs are let in again");
            }
            self.0.admission.close(short);
        }
        if used > part(SHED_AT) {
            self.shed(used - part(SHED_AT), accounts);
        }
    }

    /// Ends the largest run of the user who holds the most and has one.
    fn shed(&self, excess: u64, accounts: &[(UserId, Arc<Account>)]) {
        let mut shed = self.0.pressure.shed.lock();
        if shed.is_some_and(|at| at.elapsed() < SETTLE) {
            return;
        }
        let mut by_bytes: Vec<_> = accounts
            .iter()
            .map(|(user, account)| (account.current_bytes(), *user))
            .collect();
        by_bytes.sort_unstable_by(|a, b| b.cmp(a));
        let stop = |(_, user): &(u64, UserId)| {
            self.0
                .runs
                .stop_largest(*user, excess, StopReason::NodeMemory)
        };
        if by_bytes.iter().any(stop) {
            *shed = Some(Instant::now());
        }
    }
}
