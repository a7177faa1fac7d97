//! Several nodes over one database: what of this node's runs others have taken, answered or want ended, and which runs
//! of dead nodes go on here.
//!
//! All of it is read from the store: whenever another node says that there is something, and now and then without that.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use netra_context::runtime::TaskKind;
use netra_context::{Rights, UserExecutionContext};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::{EventId, RunId, UserId};
use netra_protocol::run::RunStatus;
use netra_store::{Error, HeldRun, OverNodes, Slot, StopWish, TakenRun};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Permit, Place, Wish};
use crate::ending::Ending;
use crate::error::Error as Refused;
use crate::factory::ExecutionEngineFactory;
use crate::live::StopReason;
use crate::request::{Begin, Commission};

/// Between two looks at the most: what nobody has said is found this late.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at the least, however much is said.
const PAUSE: Duration = Duration::from_millis(50);
/// Runs of dead nodes that are being taken.
const AT_ONCE: usize = 4;
/// How long a run may be held and not known here: longer than anything takes between the two.
const STRAY: Duration = Duration::from_secs(15);

/// Runs that this node holds and does not know, since when.
type Strays = HashMap<RunId, Instant>;

impl From<StopWish> for StopReason {
    fn from(wish: StopWish) -> Self {
        match wish {
            StopWish::Cancelled => Self::Cancelled,
            StopWish::CancelledByAdmin => Self::CancelledByAdmin,
            StopWish::Replaced => Self::Replaced,
        }
    }
}

impl ExecutionEngineFactory {
    /// Takes what no living node holds, and returns how many runs that were. Each has its place here then, or is ended
    /// where somebody wanted that.
    pub(crate) async fn take_abandoned(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        let mut count = 0;
        loop {
            let taken = self.take_some(ctx).await?;
            count += taken;
            if taken == 0 {
                break;
            }
        }
        if count > 0 {
            tracing::info!(runs = count, "runs that no node held go on here");
            metrics::counter!("netra_runs_recovered_total").increment(count as u64);
        }
        Ok(count)
    }

    async fn take_some(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        let store = &self.infra().store;
        let mut count = 0;
        // Several at once, in their order: each takes a commit.
        let abandoned = stream::iter(store.runs_abandoned(ctx).await?);
        let taking = abandoned.map(async |(user, run)| (run, store.run_take(ctx, user, run).await));
        let mut taking = taking.buffered(AT_ONCE);
        let mut done = Ok(());
        while !self.is_draining()
            && let Some((run, taken)) = taking.next().await
        {
            match taken {
                Ok(Some(taken)) => {
                    count += 1;
                    self.place_taken(taken).await;
                }
                Ok(None) => {}
                Err(error) => {
                    self.0.runs.lose(run);
                    done = Err(error);
                }
            }
        }
        done.map(|()| count)
    }

    async fn place_taken(&self, taken: TakenRun) {
        let TakenRun {
            run,
            last_alive,
            stop,
        } = taken;
        let (id, user) = (run.run_id, run.owner.id);
        self.place(run, last_alive);
        if let Some(stop) = stop {
            self.stop_here(user, id, stop.into()).await;
        }
    }

    /// Ends a run that this node holds, whether it executes, stands in line or waits for a person.
    async fn stop_here(&self, user: UserId, run: RunId, reason: StopReason) {
        if self.0.runs.tell(run, reason) {
            return;
        }
        if let Some(place) = self.0.waiting.take(run) {
            self.end_waiting(user, run, place, reason).await;
        }
    }

    /// Looks after what this node has among others, as long as it runs.
    pub(crate) fn watch_nodes(&self) {
        if !self.infra().store.is_shared() {
            return;
        }
        let factory = self.clone();
        let runtime = &self.infra().runtime;
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Sweep, async move {
            let recovery = factory.recovery();
            let mut news = factory.infra().store.news();
            let mut strays = Strays::new();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = news.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                news.borrow_and_update();
                if let Err(error) = factory.look(&recovery, &mut strays).await {
                    tracing::warn!(%error, "what other nodes have done cannot be read");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    async fn look(
        &self,
        recovery: &UserExecutionContext,
        strays: &mut Strays,
    ) -> Result<(), Error> {
        let held = self.look_at_own(recovery).await?;
        self.give_up_strays(recovery, &held, strays).await?;
        if !self.is_draining() {
            self.take_abandoned(recovery).await?;
        }
        Ok(())
    }

    /// Drops what others have taken, ends what others want ended, and goes on with what was answered elsewhere.
    async fn look_at_own(
        &self,
        recovery: &UserExecutionContext,
    ) -> Result<HashMap<RunId, HeldRun>, Error> {
        // Before the store is read: what comes here meanwhile is not taken for what has been lost.
        let (engines, waiting) = (self.0.runs.engines(), self.0.waiting.ids());
        let held = self.infra().store.runs_held(recovery).await?;
        let held: HashMap<RunId, HeldRun> = held.into_iter().map(|run| (run.run_id, run)).collect();
        for (live, fence) in engines {
            if held.get(&live.run_id).is_none_or(|run| run.fence != fence) {
                live.stop.stop(StopReason::Taken);
            }
        }
        for run in waiting {
            match held.get(&run) {
                Some(found) if found.status != RunStatus::Waiting => {
                    self.go_on(found.user_id, run).await;
                }
                Some(_) => {}
                None => drop(self.0.waiting.take(run)),
            }
        }
        for run in held.values() {
            if let Some(stop) = run.stop {
                self.stop_here(run.user_id, run.run_id, stop.into()).await;
            }
        }
        Ok(held)
    }

    /// A run that this node holds by the store, and does not know for a while, has an end that could not be written: it
    /// is given up, and goes on as after a crash. Until then it takes a slot of its user. One that was let go because
    /// the database was away is given up at once, and goes on as after a drain.
    async fn give_up_strays(
        &self,
        recovery: &UserExecutionContext,
        held: &HashMap<RunId, HeldRun>,
        strays: &mut Strays,
    ) -> Result<(), Error> {
        let waiting: HashSet<RunId> = self.0.waiting.ids().into_iter().collect();
        let is_here = |run: &RunId| self.0.runs.get(*run).is_some() || waiting.contains(run);
        strays.retain(|run, _| held.contains_key(run) && !is_here(run));
        for run in held.values().filter(|run| !is_here(&run.run_id)) {
            let since = *strays.entry(run.run_id).or_insert_with(Instant::now);
            let is_lost = self.0.runs.is_lost(run.run_id);
            if is_lost || since.elapsed() >= STRAY {
                self.infra()
                    .store
                    .run_give_up(recovery, run, is_lost)
                    .await?;
            }
        }
        // Of the others the database knows an end, another node, or nothing.
        self.0.runs.keep_lost(|run| is_here(run));
        Ok(())
    }

    /// What is asked of the other nodes when a run is made that this node lets in.
    pub(crate) fn over_nodes(&self, wish: &Wish) -> OverNodes {
        OverNodes {
            allowed: wish.allowed,
            queue: wish.queue,
            on_limit: wish.on_limit,
            on_busy: wish.on_busy,
            queued_id: self.new_id(EventId::from_parts),
        }
    }

    /// What the store has refused for what the user has on other nodes is refused as by this node's own admission.
    pub(crate) fn refused_over_nodes(&self, ctx: &UserExecutionContext, error: Error) -> Refused {
        let refused = match error {
            Error::SlotsExhausted => Refused::SlotsExhausted,
            Error::QueueFull => Refused::QueueFull,
            Error::ThreadBusy => Refused::ThreadBusy,
            error => Refused::Store(error),
        };
        if let (Some(limit), Some(user)) = (refused.limit(), ctx.user_id()) {
            self.infra().runtime.limit_hit(user, limit);
        }
        refused
    }

    /// Waits until a run has its slot, here and over all nodes. Fails with how it ends instead, or with none when it is
    /// to be let go.
    pub(crate) async fn granted(
        &self,
        ctx: &UserExecutionContext,
        commission: &Commission,
        mut place: Place,
        allowed: u32,
    ) -> Result<Permit, Option<Ending>> {
        let mut news = self.infra().store.news();
        loop {
            let permit = in_time(commission, place.granted()).await?;
            news.borrow_and_update();
            if self.begins_over_nodes(ctx, commission, allowed).await? {
                return Ok(permit);
            }
            // What is in its way may come to this node, and is not to wait for it.
            let aside = permit.stand_aside();
            let turn = async {
                tokio::select! {
                    _ = news.changed() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                tokio::time::sleep(PAUSE).await;
            };
            in_time(commission, turn).await?;
            place = aside.step_back_in();
        }
    }

    /// Whether a run that has its slot here has it over all nodes now.
    async fn begins_over_nodes(
        &self,
        ctx: &UserExecutionContext,
        commission: &Commission,
        allowed: u32,
    ) -> Result<bool, Option<Ending>> {
        if commission.begin == Begin::Begun {
            return Ok(true);
        }
        let store = &self.infra().store;
        match store.run_begin(ctx, &commission.run, allowed).await {
            Ok(slot) => Ok(slot == Slot::Given),
            Err(Error::Fenced | Error::RunEnded | Error::NotFound) => Err(None),
            // Without the database nothing begins, and nothing ends for that.
            Err(Error::Unavailable(why)) => {
                tracing::warn!(run.id = %commission.run.id, why, "a run's slot cannot be taken now");
                Ok(false)
            }
            Err(error) => {
                let words = format!("the run's slot cannot be taken: {error}");
                let failure = Failure::new(ErrorCode::Internal, words);
                Err(Some(Ending::Failed(failure)))
            }
        }
    }

    /// Tells the node that holds somebody's run to end it, as an admin. False where none does but this one.
    pub(crate) async fn tell_elsewhere(&self, user: UserId, run: RunId) -> Result<bool, Error> {
        let store = &self.infra().store;
        if !store.is_shared() {
            return Ok(false);
        }
        let owner = store.user_by_id(&self.recovery(), user).await?;
        let principal = self.principal_with(&owner, Rights::of_role(owner.role));
        let ctx = self.context_with(principal, run, CancellationToken::new());
        let run = store.run(&ctx, run).for_write().await?;
        store.run_stop(&ctx, &run, StopWish::CancelledByAdmin).await
    }
}

/// What comes before the run is told to stop and before its time is over.
async fn in_time<T>(
    commission: &Commission,
    comes: impl Future<Output = T>,
) -> Result<T, Option<Ending>> {
    tokio::select! {
        biased;
        reason = commission.listed.live.stop.stopped() => Err(reason.ending()),
        come = comes => Ok(come),
        () = tokio::time::sleep_until(commission.deadline) => {
            Err(Some(Ending::timed_out(commission.timeout_ms)))
        }
    }
}
