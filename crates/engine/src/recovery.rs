//! Taking runs up that an earlier engine left: after a crash, a drain, or a person's answer. The one
//! way back: who asked is authorised anew, the agent is the version of then, the journal is
//! replayed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{Principal, Right, Rights, RunOrigin, UserExecutionContext};
use netra_events::Emission;
use netra_memory::Scope;
use netra_protocol::Timestamp;
use netra_protocol::account::User;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::id::{RequestId, RunId, UserId};
use netra_protocol::run::{OnBusy, OnLimit, Run, RunStatus};
use netra_store::{Error, RunInput, Unfinished, Writable};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{Place, Refusal, Standing, Wish};
use crate::ending::Ending;
use crate::factory::ExecutionEngineFactory;
use crate::live::{Listed, Live, Stop};
use crate::request::{Begin, Commission, Resumption};
use crate::version;

/// How often a server that holds runs notes that it is at work.
const MARK_ALIVE: Duration = Duration::from_secs(5);

/// A run that is to be taken up, and the place that it has.
struct TakenUp {
    unfinished: Unfinished,
    listed: Listed,
    place: Place,
    /// When the server that had it was last at work; none where this one had it.
    last_alive: Option<Timestamp>,
}

impl ExecutionEngineFactory {
    /// Takes up the runs that a stopped server left behind, and returns how many they are: where several nodes work,
    /// those that no living one holds. To be called once, before the server takes requests, as
    /// `for_background(Recovery)`. When it returns, each of them has its place or waits for a person; they go on by
    /// themselves.
    ///
    /// # Errors
    /// As the store's, when the runs cannot be found.
    pub async fn recover(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        let store = &self.infra().store;
        store
            .agent_versions_keep(ctx, version::of_all(self.infra().agents.all().iter()))
            .await?;
        if store.is_shared() {
            return self.take_abandoned(ctx).await;
        }
        let last_alive = store.last_alive(ctx).await?;
        let abandoned = store.reservations_abandoned(ctx).await?;
        if abandoned > 0 {
            tracing::info!(
                abandoned,
                "calls of models were cut off with the last server, and count in full"
            );
        }
        let mut unfinished = store.runs_unfinished(ctx).await?;
        // Threads go to the runs that had them, slots too; the others stand in line as before.
        unfinished.sort_by_key(|run| (!run.begun, run.run_id));
        let count = unfinished.len();
        for run in unfinished {
            self.place(run, last_alive);
        }
        metrics::counter!("netra_runs_recovered_total").increment(count as u64);
        Ok(count)
    }

    /// Gives a run that nobody drives its place here, from which it goes on by itself.
    pub(crate) fn place(&self, run: Unfinished, last_alive: Option<Timestamp>) {
        if run.status == RunStatus::Waiting {
            let (id, user, thread) = (run.run_id, run.owner.id, run.thread_id);
            let allowed = run.owner.limits.concurrent_runs;
            let parked = self.0.admission.enter_parked(user, thread, allowed);
            self.0.waiting.insert(id, user, thread, parked);
            return;
        }
        match self.enter_again(&run) {
            Ok((place, listed)) => self.spawn_taken_up(TakenUp {
                unfinished: run,
                listed,
                place,
                last_alive,
            }),
            Err(refusal) => {
                tracing::error!(run.id = %run.run_id, ?refusal, "a run was not let in again");
            }
        }
    }

    /// Denies approvals that expire, ends the runs of disabled users, notes that the server is at
    /// work, and looks at everybody's memory, as long as it runs.
    pub fn keep_watch(&self) {
        self.watch_memory();
        self.watch_expiry();
        self.watch_disabled();
        self.mark_alive();
        self.watch_nodes();
    }

    /// Takes up a run that this server had, in the place that it has kept.
    pub(crate) fn take_up(
        &self,
        unfinished: Unfinished,
        place: Place,
        last_alive: Option<Timestamp>,
    ) {
        let listed = self.0.runs.list(|| {
            let live = live(&unfinished, &place);
            Ok::<_, Refusal>(((), live))
        });
        if let Ok(((), listed)) = listed {
            self.spawn_taken_up(TakenUp {
                unfinished,
                listed,
                place,
                last_alive,
            });
        }
    }

    fn enter_again(&self, run: &Unfinished) -> Result<(Place, Listed), Refusal> {
        let wish = Wish {
            user: run.owner.id,
            thread: run.thread_id,
            allowed: run.owner.limits.concurrent_runs,
            // It was let in before, so no limit of the queue refuses it now.
            queue: u32::MAX,
            on_limit: OnLimit::Queue,
            on_busy: OnBusy::Queue,
            had_begun: run.begun,
        };
        self.0.runs.list(|| {
            let place = self.0.admission.enter(&wish)?;
            let live = live(run, &place);
            Ok((place, live))
        })
    }

    fn spawn_taken_up(&self, taken: TakenUp) {
        let factory = self.clone();
        let take_up = async move {
            let run = taken.unfinished.run_id;
            if let Err(error) = factory.carry_on(taken).await {
                factory.0.runs.lose(run);
                tracing::error!(run.id = %run, %error, "a run cannot be taken up");
            }
        };
        // Looking at the run is the server's work, whoever asked for it; what it holds from then on is its user's.
        let _system = Scope::system().enter();
        self.infra().runtime.spawn(TaskKind::Run, take_up);
    }

    /// Brings a run to its end that an earlier engine left, or that never had one.
    async fn carry_on(&self, taken: TakenUp) -> Result<(), Error> {
        let TakenUp {
            unfinished,
            listed,
            place,
            last_alive,
        } = taken;
        let store = &self.infra().store;
        let owner = &unfinished.owner;
        let reader = self.context_of_owner(owner, unfinished.run_id, &listed);
        let run = store.run(&reader, unfinished.run_id).for_write().await?;
        if run.fence() != unfinished.fence {
            // Another node has taken it meanwhile.
            return Ok(());
        }
        let input = store.run_input(&reader, run.as_readable()).await?;
        let begin = begin(&run, &input);
        let ready = async {
            let principal = self.principal(owner, input.rights)?;
            self.check_attempts(&run, begin, &principal)?;
            let agent = version::of_run(&reader, self.infra(), &run.agent, &input.agent_hash).await;
            let agent = agent.ok_or_else(|| {
                interrupted("its agent is not known; it is gone, or the run comes from a backup")
            })?;
            if let Some(problem) = &agent.problem {
                let words = format!("its agent is not ready: {problem}");
                return Err(Ending::Failed(Failure::new(ErrorCode::AgentFailed, words)));
            }
            let given = agent.accept(input.input.clone());
            let given = given.map_err(|_| interrupted("its input no longer fits its agent"))?;
            Ok((principal, agent, given))
        };
        let (principal, agent, given) = match ready.await {
            Ok(ready) => ready,
            Err(ending) => return self.end_abandoned(&reader, &run, ending).await,
        };
        let left = time_left(&run, &input, last_alive);
        let account = self.account_of(&principal);
        let journal = store.journal(&reader, run.as_readable());
        let journal = match account.scope().wrap(journal).await {
            Err(Error::Memory(over)) => {
                let words = format!("no memory is left for what the run has done: {over}");
                let failure = Failure::new(ErrorCode::MemoryLimitExceeded, words);
                let ending = Ending::Failed(failure);
                return self.end_abandoned(&reader, &run, ending).await;
            }
            journal => journal?,
        };
        self.tell_queue(&reader, &run, begin, place.standing())
            .await?;
        let now = self.infra().runtime.now();
        let commission = Commission {
            run,
            agent,
            input: given,
            files: input.files,
            timeout_ms: input.timeout_ms,
            deadline: Instant::now() + left,
            deadline_at: now.plus_millis(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)),
            input_message_id: input.input_message_id,
            begin,
            trace: journal.trace(),
            journal,
            listed,
        };
        drop(reader);
        let attended = self.attend(input.request_id, principal, Box::new(commission), place);
        let runtime = &self.infra().runtime;
        runtime.on_account(account.scope(), attended).await;
        Ok(())
    }

    /// Ends a run that no engine has, in its owner's name.
    pub(crate) async fn end_by_server(
        &self,
        user: UserId,
        run: RunId,
        ending: Ending,
    ) -> Result<(), Error> {
        let store = &self.infra().store;
        let owner = store.user_by_id(&self.recovery(), user).await?;
        let principal = self.principal_with(&owner, Rights::of_role(owner.role));
        let ctx = self.context_with(principal, run, CancellationToken::new());
        let run = store.run(&ctx, run).for_write().await?;
        if run.status.is_terminal() {
            return Err(Error::RunEnded);
        }
        self.end_abandoned(&ctx, &run, ending).await
    }

    /// Tells that a run which was answered has to wait for a slot.
    async fn tell_queue(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        begin: Begin,
        standing: Standing,
    ) -> Result<(), Error> {
        if let (Begin::Again(Resumption::Answer), Standing::Queued { position, reason }) =
            (begin, standing)
        {
            let queued = EventKind::RunQueued {
                // It was queued by the answer, and has its place since.
                queue_position: run.queue_position.unwrap_or(position),
                reason,
            };
            let emitter = self.infra().bridge.create_emitter(run);
            emitter.emit(ctx, vec![Emission::of_run(queued)]).await?;
        }
        Ok(())
    }

    /// Who asked, as the database describes the user now, with no right that the request lacked.
    fn principal(&self, owner: &User, rights: Rights) -> Result<Principal, Ending> {
        let rights = rights.intersect(Rights::of_role(owner.role));
        if owner.disabled || !rights.contains(Right::Run) {
            let words = "who asked for the run may no longer run agents";
            return Err(Ending::Cancelled(Failure::new(ErrorCode::Cancelled, words)));
        }
        Ok(self.principal_with(owner, rights))
    }

    pub(crate) fn principal_with(&self, owner: &User, rights: Rights) -> Principal {
        Principal {
            user_id: owner.id,
            role: owner.role,
            plan: owner.plan,
            groups: owner.groups.clone().into(),
            rights,
            limits: Arc::new(owner.limits.clone()),
            session: None,
        }
    }

    fn check_attempts(
        &self,
        run: &Writable<Run>,
        begin: Begin,
        principal: &Principal,
    ) -> Result<(), Ending> {
        let allowed = principal.limits.attempts;
        if begin == Begin::Again(Resumption::Crash) && run.attempt >= allowed {
            let words = format!("the server stopped in each of the run's {allowed} attempts");
            let failure = Failure::new(ErrorCode::AttemptsExhausted, words);
            return Err(Ending::Failed(failure));
        }
        Ok(())
    }

    /// For reading what was stored, and for ending the run where it cannot go on.
    fn context_of_owner(&self, owner: &User, run: RunId, listed: &Listed) -> UserExecutionContext {
        let principal = self.principal_with(owner, Rights::of_role(owner.role));
        self.context_with(principal, run, listed.live.stop.token().clone())
    }

    pub(crate) fn context_with(
        &self,
        principal: Principal,
        run_id: RunId,
        cancel: CancellationToken,
    ) -> UserExecutionContext {
        let origin = RunOrigin {
            principal,
            run_id,
            request_id: self.new_id(RequestId::from_parts),
            deadline: None,
            cancel,
            trace: None,
        };
        UserExecutionContext::for_run(&self.infra().runtime, origin)
    }

    /// Notes now and then that the server is at work, while it has runs.
    fn mark_alive(&self) {
        let factory = self.clone();
        let runtime = &self.infra().runtime;
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Sweep, async move {
            let recovery = factory.recovery();
            let mut turns = tokio::time::interval(MARK_ALIVE);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = turns.tick() => {}
                }
                if factory.0.runs.len() > 0
                    && let Err(error) = factory.infra().store.mark_alive(&recovery).await
                {
                    tracing::warn!(%error, "that the server is at work was not noted");
                }
            }
        });
    }
}

fn live(run: &Unfinished, place: &Place) -> Live {
    Live {
        run_id: run.run_id,
        user_id: run.owner.id,
        thread_id: run.thread_id,
        ticket: place.ticket(),
        stop: Stop::default(),
        held: OnceLock::new(),
    }
}

fn interrupted(words: &str) -> Ending {
    let words = format!("the run cannot go on: {words}");
    Ending::Failed(Failure::new(ErrorCode::Interrupted, words))
}

/// With what the next engine begins.
fn begin(run: &Run, input: &RunInput) -> Begin {
    match (run.started_at, input.released_at, run.status) {
        (None, ..) => Begin::First,
        (Some(_), None, _) => Begin::Again(Resumption::Crash),
        (Some(_), Some(_), RunStatus::Queued) => Begin::Again(Resumption::Answer),
        (Some(_), Some(_), _) => Begin::Again(Resumption::Drain),
    }
}

/// What the run has left of its time: only that counts in which a server held it.
fn time_left(run: &Run, input: &RunInput, last_alive: Option<Timestamp>) -> Duration {
    let whole = Duration::from_millis(input.timeout_ms);
    let held_until = input.released_at.or(last_alive);
    match (run.deadline, held_until) {
        (Some(deadline), Some(held_until)) => {
            let held_until = held_until.max(run.created_at);
            Duration::from_millis(deadline.millis_since(held_until)).min(whole)
        }
        _ => whole,
    }
}
