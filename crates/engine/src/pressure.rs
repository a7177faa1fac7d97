//! The watch over memory: users who hold more than they may, and a node that runs short.
//!
//! A run's own engine looks after each poll; this looks at everybody, whatever they do, every
//! [`LOOK_EVERY`], and so finds what grows elsewhere: worker processes, programs of tool servers, requests, sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netra_context::programs::Charged;
use netra_memory::Account;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::factory::ExecutionEngineFactory;
use crate::live::{RELIEVE_EVERY, StopReason, Stopped};

/// How often everybody's memory is looked at. Two looks and the end of a run fit into 100 ms.
const LOOK_EVERY: Duration = RELIEVE_EVERY;
/// How often while workers are at work whose user has less left than [`CLOSELY_FROM`]: they fill some gigabytes in a
/// second.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_millis(4);
/// What workers may fill between two looks.
const CLOSELY_FROM: u64 = 192 * 1024 * 1024;
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
    /// A limit for this process, its workers and the programs of tool servers: whatever is larger of what the accounts
    /// say and what the system says of them.
    pub fn of_process(limit_bytes: u64) -> Self {
        Self::measured(limit_bytes, |outside| {
            let resident = netra_memory::resident_bytes().unwrap_or(0);
            netra_memory::node_bytes().max(resident.saturating_add(outside))
        })
    }

    /// A limit for what `used` says, given the bytes of the workers and programs.
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
    /// Looks at everybody's memory as long as the server runs: on a thread of its own, so that no task that keeps a
    /// thread of the runtime busy makes it late. Where the system gives no thread, memory is looked at by the runs
    /// alone, and the log says so.
    pub(crate) fn watch_memory(&self) {
        let shutdown = self.infra().runtime.shutdown().clone();
        // Also a server that is just dropped must be gone.
        let engine = Arc::downgrade(&self.0);
        let watch = move || {
            while let Some(engine) = engine.upgrade().filter(|_| !shutdown.is_cancelled()) {
                let closely = Self(engine).look_at_memory();
                std::thread::sleep(if closely {
                    LOOK_CLOSELY_EVERY
                } else {
                    LOOK_EVERY
                });
            }
        };
        let name = "netra-memory".to_owned();
        if let Err(error) = std::thread::Builder::new().name(name).spawn(watch) {
            tracing::error!(%error, "nobody watches over memory");
        }
    }

    /// Whether the node has so little memory left that no run is let in.
    pub fn is_short_of_memory(&self) -> bool {
        self.0.pressure.short.load(Ordering::Acquire)
    }

    /// Whether a user who holds more than allowed has a run or a program that the next look ends for it, if none is
    /// ending already. Where not, what is held is held by requests and sockets.
    pub fn can_relieve(&self, user: UserId) -> bool {
        self.0.runs.can_relieve(user)
    }

    /// True where the next look should come soon.
    pub(crate) fn look_at_memory(&self) -> bool {
        let with_workers = self.0.runs.count_workers();
        let accounts = self.infra().runtime.open_accounts();
        let programs = self.infra().runtime.programs();
        count(&programs, &accounts);
        let (mut closely, mut peak) = (false, 0.0_f64);
        for (user, account) in &accounts {
            if account.is_over() {
                self.0.runs.relieve(*user, account);
            }
            let limit = account.limit();
            let few = limit.saturating_sub(account.current_bytes()) < CLOSELY_FROM;
            closely |= few && with_workers.contains(user);
            peak = peak.max(account.peak_bytes() as f64 / limit as f64);
        }
        metrics::gauge!("netra_memory_user_peak_ratio").set(peak);
        self.look_at_node(&accounts, &programs);
        closely
    }

    fn look_at_node(&self, accounts: &[(UserId, Arc<Account>)], programs: &[Arc<Charged>]) {
        let node = &self.infra().config.node_memory;
        let of_programs: u64 = programs.iter().map(|one| one.bytes()).sum();
        let used = (node.used)(self.0.runs.worker_bytes() + of_programs);
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
            self.shed(used - part(SHED_AT), accounts, programs);
        }
    }

    /// Ends what holds the most of whoever holds the most and has a run or a program. A program that serves everybody
    /// stands for itself.
    fn shed(&self, excess: u64, accounts: &[(UserId, Arc<Account>)], programs: &[Arc<Charged>]) {
        let mut shed = self.0.pressure.shed.lock();
        if shed.is_some_and(|at| at.elapsed() < SETTLE) {
            return;
        }
        let of_users = accounts
            .iter()
            .map(|(user, account)| (account.current_bytes(), Some(*user)));
        let of_all = programs.iter().filter(|one| one.user().is_none());
        let of_all = of_all.map(|one| (one.bytes(), None));
        let mut by_bytes: Vec<_> = of_users.chain(of_all).collect();
        by_bytes.sort_unstable_by(|a, b| b.cmp(a));
        let stop = |(_, owner): &(u64, Option<UserId>)| {
            let runs = &self.0.runs;
            runs.stop_largest(*owner, excess, StopReason::NodeMemory) != Stopped::Nothing
        };
        if by_bytes.iter().any(stop) {
            *shed = Some(Instant::now());
        }
    }
}

/// Brings the counts of programs up to date: at each look where their user would be over the limit if they took all that
/// they may, else once a second.
fn count(programs: &[Arc<Charged>], accounts: &[(UserId, Arc<Account>)]) {
    for program in programs {
        let account = accounts
            .iter()
            .find(|(user, _)| program.user() == Some(*user));
        let closely = account.is_some_and(|(user, account)| {
            let own = programs.iter().filter(|one| one.user() == Some(*user));
            let room: u64 = own.map(|one| one.room()).fold(0, u64::saturating_add);
            account.current_bytes().saturating_add(room) > account.limit()
        });
        program.count(closely);
    }
}
