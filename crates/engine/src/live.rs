//! The runs that are on this node now, and how each is told to stop.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netra_context::programs::{Charged, Shortage};
use netra_context::{Limit, Runtime};
use netra_memory::{Account, External, OverLimit};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_worker::Meter;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::Ticket;
use crate::ending::Ending;

/// Beyond the limit by more than one part in as many, and growing, memory that is on its way back is not waited for.
const MOST_BEYOND: u64 = 20;
/// One part in as many of the limit is no growth.
const GROWTH: u64 = 100;
/// How long after one run of a user was ended for memory the next one is, where what is held does not grow: what gives
/// nothing back is not ended all at once, however often anybody looks.
pub(crate) const RELIEVE_EVERY: Duration = Duration::from_millis(40);

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
    /// Another node has taken the run: nothing more is written of it here.
    Taken,
    /// The user holds more memory than allowed, and this run the most of it.
    Memory { used: u64, limit: u64 },
    /// The node is short of memory, and this run holds the most of the user who holds the most.
    NodeMemory,
}

impl StopReason {
    /// How the run ends; none when it is let go, to go on later.
    pub(crate) fn ending(self) -> Option<Ending> {
        Some(match self {
            Self::Drained | Self::Taken => return None,
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
    /// Under which fence its engine writes.
    pub(crate) fence: u64,
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
    pub(crate) fn new(account: Arc<Account>, workers: Workers, fence: u64) -> Self {
        let counted = account.add_external();
        Self {
            account,
            workers,
            counted,
            fence,
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

struct Shared {
    runs: Mutex<HashMap<RunId, Arc<Live>>>,
    changed: Notify,
    /// When something of a user was last ended because that user holds too much.
    relieved: Mutex<HashMap<UserId, Instant>>,
    /// Runs that were let go without a word in the database, which was away.
    lost: Mutex<HashSet<RunId>>,
    /// Knows the programs that hold memory beside the runs.
    runtime: Runtime,
}

/// The runs on this node.
#[derive(Clone)]
pub(crate) struct LiveRuns(Arc<Shared>);

/// What a user has that holds the most.
enum Largest<'a> {
    Run(&'a Live),
    Program(Arc<Charged>),
}

/// What came of ending what holds the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// One more was ended.
    Another,
    /// What is on its way out gives back as much as is wanted.
    Enough,
    /// There is nothing that could be ended.
    Nothing,
}

/// Takes its run off the list when dropped.
pub(crate) struct Listed {
    runs: LiveRuns,
    pub(crate) live: Arc<Live>,
}

impl LiveRuns {
    pub(crate) fn new(runtime: &Runtime) -> Self {
        Self(Arc::new(Shared {
            runs: Mutex::default(),
            changed: Notify::new(),
            relieved: Mutex::default(),
            lost: Mutex::default(),
            runtime: runtime.clone(),
        }))
    }

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

    /// The database was away when something of the run was to be written: whether it was, and how it goes on, is what the
    /// database says when it is back.
    pub(crate) fn lose(&self, run: RunId) {
        self.0.lost.lock().insert(run);
    }

    /// Whether the run was lost so.
    pub(crate) fn is_lost(&self, run: RunId) -> bool {
        self.0.lost.lock().contains(&run)
    }

    /// Forgets of the lost runs all but these.
    pub(crate) fn keep_lost(&self, is_wanted: impl Fn(&RunId) -> bool) {
        self.0.lost.lock().retain(is_wanted);
    }

    /// Tells the run to stop, if it is listed still. Who takes it off the list knows afterwards whether it was told: a
    /// run that was found here and told later might have looked already.
    #[must_use = "a run that is not listed is not told"]
    pub(crate) fn tell(&self, id: RunId, reason: StopReason) -> bool {
        let runs = self.0.runs.lock();
        let live = runs.get(&id);
        live.inspect(|live| live.stop.stop(reason)).is_some()
    }

    /// The runs that have engines now, with the fences under which those write.
    pub(crate) fn engines(&self) -> Vec<(Arc<Live>, u64)> {
        let runs = self.0.runs.lock();
        let with_fence = |live: &Arc<Live>| Some((Arc::clone(live), live.held.get()?.fence));
        runs.values().filter_map(with_fence).collect()
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

    /// Whether the user has anything that the watch over memory ends where the user holds too much.
    pub(crate) fn can_relieve(&self, user: UserId) -> bool {
        let runs = self.0.runs.lock();
        let mut own = runs.values().filter(|live| live.user_id == user);
        let gives_back = |live: &Arc<Live>| {
            live.held.get().is_some() && (!live.is_giving_back() || live.bytes() > 0)
        };
        let by_run = own.any(gives_back);
        drop(runs);
        by_run || self.programs_of(Some(user)).any(|one| one.bytes() > 0)
    }

    /// Ends what holds the most of a user who holds more than allowed, and where that is not enough in time the next.
    pub(crate) fn relieve(&self, user: UserId, account: &Account) {
        let (used, limit) = (account.current_bytes(), account.limit());
        // What was over when the caller looked may have been given back since. An account that counts nothing, for want
        // of a line, has no limit either, and is always over.
        if used <= limit && limit > 0 {
            return;
        }
        let grows = self
            .used_at_last_stop(user)
            .is_some_and(|before| used > before.saturating_add(limit / GROWTH));
        let mut relieved = self.0.relieved.lock();
        relieved.retain(|_, at| at.elapsed() < RELIEVE_EVERY);
        let excess = match used.saturating_sub(limit) {
            // What comes back does not come soon enough for this.
            beyond if grows && beyond > limit / MOST_BEYOND => u64::MAX,
            _ if relieved.contains_key(&user) => return,
            beyond => beyond,
        };
        let reason = StopReason::Memory { used, limit };
        if self.stop_largest(Some(user), excess, reason) == Stopped::Another {
            relieved.insert(user, Instant::now());
        }
    }

    /// What the user held when something was last ended for it that is still on its way out.
    fn used_at_last_stop(&self, user: UserId) -> Option<u64> {
        let by_program = self
            .programs_of(Some(user))
            .filter(|one| one.bytes() > 0)
            .filter_map(|one| match one.ended() {
                Some(Shortage::OfUser(over)) => Some(over.used),
                _ => None,
            })
            .max();
        let runs = self.0.runs.lock();
        let own = runs.values().filter(|live| live.user_id == user);
        let by_run = own.filter_map(|live| match live.stop.reason() {
            Some(StopReason::Memory { used, .. }) => Some(used),
            _ => None,
        });
        by_run.max().max(by_program)
    }

    /// The programs of this user, or those that serve everybody.
    fn programs_of(&self, user: Option<UserId>) -> impl Iterator<Item = Arc<Charged>> {
        let all = self.0.runtime.programs().into_iter();
        all.filter(move |one| one.user() == user)
    }

    /// Ends the run or the program of this owner that holds the most memory, unless the end of those that were ended
    /// before gives back the `excess`. Nobody owns the programs that serve everybody.
    pub(crate) fn stop_largest(
        &self,
        owner: Option<UserId>,
        excess: u64,
        reason: StopReason,
    ) -> Stopped {
        let programs: Vec<_> = self.programs_of(owner).collect();
        let (leaving, staying): (Vec<_>, Vec<_>) =
            programs.into_iter().partition(|one| one.ended().is_some());
        let runs = self.0.runs.lock();
        let own = || {
            runs.values()
                .filter(|live| Some(live.user_id) == owner && live.held.get().is_some())
        };
        let coming: u64 = own()
            .filter(|live| live.is_giving_back())
            .map(|live| live.bytes())
            .chain(leaving.iter().map(|one| one.bytes()))
            .sum();
        if coming > 0 && coming >= excess {
            return Stopped::Enough;
        }
        let others = own().filter(|live| !live.is_giving_back());
        let run = others.max_by_key(|live| live.bytes());
        let program = staying
            .into_iter()
            .filter(|one| one.bytes() > run.map_or(0, |run| run.bytes()))
            .max_by_key(|one| one.bytes());
        let largest = program
            .map(Largest::Program)
            .or(run.map(|run| Largest::Run(run)));
        match largest {
            Some(largest) => {
                self.stop(&largest, owner, reason);
                Stopped::Another
            }
            None if coming > 0 => Stopped::Enough,
            None => Stopped::Nothing,
        }
    }

    fn stop(&self, largest: &Largest<'_>, owner: Option<UserId>, reason: StopReason) {
        let (of, limit, why) = match reason {
            StopReason::Memory { used, limit } => {
                let over = OverLimit { used, limit };
                ("user", Limit::Memory, Shortage::OfUser(over))
            }
            _ => ("node", Limit::NodeMemory, Shortage::OfNode),
        };
        match largest {
            Largest::Run(run) => {
                metrics::counter!("netra_memory_runs_ended_total", "limit" => of).increment(1);
                run.stop.stop(reason);
            }
            Largest::Program(program) => {
                metrics::counter!("netra_memory_programs_ended_total", "limit" => of).increment(1);
                if let Some(owner) = owner {
                    self.0.runtime.limit_hit(owner, limit);
                }
                program.end(why);
            }
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
