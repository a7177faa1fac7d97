//! Clock, randomness and tracked spawning: the only place that starts tasks.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use netra_memory::{Account, Scope, Scoped};
use netra_protocol::Timestamp;
use netra_protocol::id::UserId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::Accounts;
use crate::limit_hits::{Limit, LimitHits};
use crate::programs::{Charged, Owner, Program, Programs};
use crate::trace::Tracer;
use crate::turn::{InTurn, Lines};

/// Tells the time. A trait, so that tests and replay can give times of their own.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
    }
}

/// What a task is for, and so what happens to it on shutdown and on error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Drives a run. On shutdown: told to end, waited for. On panic: logged, its run fails.
    Run,
    /// Serves one socket. On shutdown: closes by itself, waited for. On panic: logged.
    Socket,
    /// A part of a run or request that ends with it. On shutdown: waited for. On panic: logged.
    Part,
    /// Recurring work of the server. On shutdown: ends at its next turn. On panic: logged.
    Sweep,
    /// Keeps worker processes ready. On shutdown: ends at its next turn. On panic: logged.
    Pool,
    /// Accepts connections. On shutdown: stops accepting. On panic: logged.
    Listener,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Run,
        Self::Socket,
        Self::Part,
        Self::Sweep,
        Self::Pool,
        Self::Listener,
    ];

    /// For logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Socket => "socket",
            Self::Part => "part",
            Self::Sweep => "sweep",
            Self::Pool => "pool",
            Self::Listener => "listener",
        }
    }

    /// On whose account the task works: that of whoever starts it, unless it is the server's own.
    fn scope(self) -> Scope {
        match self {
            Self::Run | Self::Socket | Self::Part => Scope::current(),
            Self::Sweep | Self::Pool | Self::Listener => Scope::system(),
        }
    }
}

struct Shared {
    clock: Box<dyn Clock>,
    tasks: TaskTracker,
    live: Arc<LiveTasks>,
    shutdown: CancellationToken,
    accounts: Accounts,
    lines: Lines,
    programs: Programs,
    limit_hits: LimitHits,
    tracer: Option<Arc<dyn Tracer>>,
}

/// How many tasks of each kind have not ended.
#[derive(Default)]
struct LiveTasks([AtomicUsize; TaskKind::ALL.len()]);

/// Counts one task until it is dropped, however it ends.
struct LiveTask(Arc<LiveTasks>, TaskKind);

impl LiveTask {
    fn new(live: &Arc<LiveTasks>, kind: TaskKind) -> Self {
        live.0[kind as usize].fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live), kind)
    }
}

impl Drop for LiveTask {
    fn drop(&mut self) {
        self.0.0[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Clock, randomness and tasks of one server. Cheap to clone; two servers in one process (as in
/// tests) have two.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

impl Default for Runtime {
    fn default() -> Self {
        Self::new()
    }
}

impl Runtime {
    /// With the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Box::new(SystemClock))
    }

    /// With another clock.
    pub fn with_clock(clock: Box<dyn Clock>) -> Self {
        Self::made(clock, None)
    }

    /// With somebody who is told of spans.
    pub fn traced(tracer: Arc<dyn Tracer>) -> Self {
        Self::made(Box::new(SystemClock), Some(tracer))
    }

    fn made(clock: Box<dyn Clock>, tracer: Option<Arc<dyn Tracer>>) -> Self {
        Self(Arc::new(Shared {
            clock,
            tasks: TaskTracker::new(),
            live: Arc::default(),
            shutdown: CancellationToken::new(),
            accounts: Accounts::default(),
            lines: Lines::default(),
            programs: Programs::default(),
            limit_hits: LimitHits::default(),
            tracer,
        }))
    }

    /// Who is told of spans, where anybody is.
    pub fn tracer(&self) -> Option<&Arc<dyn Tracer>> {
        self.0.tracer.as_ref()
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A new id of any kind: `runtime.new_id(RunId::from_parts)`.
    pub fn new_id<T>(&self, from_parts: impl FnOnce(u64, u128) -> T) -> T {
        from_parts(self.now().as_millis(), rand::random())
    }

    /// `N` random bytes that nobody can guess.
    pub fn secret_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        rand::fill(&mut bytes[..]);
        bytes
    }

    /// Fires when the server begins to stop.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// The memory account of a user, with this limit from now on. It stays open while anybody
    /// holds it.
    pub fn account_of(&self, user: UserId, limit_mib: u64) -> Arc<Account> {
        self.0.accounts.of(user, limit_mib)
    }

    /// The users' memory accounts that are open now.
    pub fn open_accounts(&self) -> Vec<(UserId, Arc<Account>)> {
        self.0.accounts.open()
    }

    /// Counts a program that goes on when runs have ended, and that can hold so many bytes at the most, on its owner's
    /// account; on nobody's where it serves everybody.
    pub fn charge_program(
        &self,
        owner: Option<Owner>,
        most: u64,
        program: Box<dyn Program>,
    ) -> Arc<Charged> {
        self.0.programs.charge(owner, most, program)
    }

    /// The programs that are counted now.
    pub fn programs(&self) -> Vec<Arc<Charged>> {
        self.0.programs.all()
    }

    /// Notes that a limit has refused the user something or ended a run of theirs.
    pub fn limit_hit(&self, user: UserId, limit: Limit) {
        self.0.limit_hits.count(user, limit);
    }

    /// The limits that the user has reached since the start, and how often each.
    pub fn limits_hit(&self, user: UserId) -> Vec<(Limit, u64)> {
        self.0.limit_hits.of(user)
    }

    /// The users who have reached any.
    pub fn users_at_limits(&self) -> Vec<UserId> {
        self.0.limit_hits.users()
    }

    /// Starts a task that the server's shutdown waits for. A panic in it is logged and ends this
    /// task only; the handle then yields `None`. What it allocates is charged to the account that
    /// this is called on, or to the system where the task is the server's own. It is polled in turn
    /// with its user's other tasks, so that many of one user do not stand before those of another.
    pub fn spawn<F>(&self, kind: TaskKind, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let live = LiveTask::new(&self.0.live, kind);
        // Not an async block: one that awaits what it was given has room for it twice.
        let guarded = AssertUnwindSafe(future).catch_unwind().map(move |ended| {
            drop(live);
            if ended.is_err() {
                tracing::error!(task.kind = kind.as_str(), "a task panicked");
                metrics::counter!("netra_tasks_panicked_total", "kind" => kind.as_str())
                    .increment(1);
            }
            ended.ok()
        });
        let scope = kind.scope();
        let _entered = scope.enter();
        self.0.tasks.spawn(self.on_account(scope, guarded))
    }

    /// The future on this account, in turn with the tasks of its user: for what is no task of its
    /// own, such as a request on a connection.
    pub fn on_account<F: Future>(&self, scope: Scope, future: F) -> Scoped<InTurn<F>> {
        scope.wrap(self.0.lines.in_turn(scope, future))
    }

    /// Runs blocking work on tokio's blocking threads, tracked like a task, on the account that
    /// this is called on.
    pub fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let work = crate::memory::on_this_account(|()| work());
        self.0.tasks.spawn_blocking(move || work(()))
    }

    /// The number of tasks that have not ended.
    pub fn live_tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// The number of tasks of this kind that have not ended.
    pub fn live_tasks_of(&self, kind: TaskKind) -> usize {
        self.0.live.0[kind as usize].load(Ordering::Relaxed)
    }

    /// Tells every task to end and waits for them, at most `grace`. Returns how many are left.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        // The time-out is an answer too: the number of tasks left says so.
        tokio::time::timeout(grace, self.0.tasks.wait()).await.ok();
        self.0.tasks.len()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("live_tasks", &self.live_tasks())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_its_own_task_only() {
        let runtime = Runtime::new();
        let broken = runtime.spawn(TaskKind::Part, async { panic!("on purpose") });
        let sound = runtime.spawn(TaskKind::Part, async { 7 });
        assert!(broken.await.unwrap().is_none());
        assert_eq!(sound.await.unwrap(), Some(7));
        assert_eq!(runtime.live_tasks_of(TaskKind::Part), 0);
    }

    /// What is set aside stands for what is allocated: this program does not count that.
    #[tokio::test]
    async fn work_is_on_the_account_of_whoever_starts_it_unless_it_is_the_servers_own() {
        let (runtime, account) = (Runtime::new(), Account::user());
        let takes = || Scope::current().reserve(1000).unwrap();
        let entered = account.scope().enter();
        let own = [TaskKind::Run, TaskKind::Socket, TaskKind::Part]
            .map(|kind| runtime.spawn(kind, async move { takes() }));
        let blocking = runtime.spawn_blocking(takes);
        let servers = [TaskKind::Sweep, TaskKind::Pool, TaskKind::Listener]
            .map(|kind| runtime.spawn(kind, async move { takes() }));
        drop(entered);
        let mut taken = vec![blocking.await.unwrap()];
        for task in own.into_iter().chain(servers) {
            taken.push(task.await.unwrap().unwrap());
        }
        assert_eq!(account.current_bytes(), 4000);
        drop(taken);
        assert_eq!(account.current_bytes(), 0);
    }

    #[tokio::test]
    async fn drain_waits_for_tasks_that_listen() {
        let runtime = Runtime::new();
        let token = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Socket, async move { token.cancelled().await });
        assert_eq!(runtime.live_tasks_of(TaskKind::Socket), 1);
        assert_eq!(runtime.drain(Duration::from_secs(10)).await, 0);
    }
}
