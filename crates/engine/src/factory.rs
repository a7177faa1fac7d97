//! The factory of engines: it admits a run, which can fail, and makes its engine, which cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{Principal, Right, RunOrigin, Runtime, UserExecutionContext};
use netra_events::{Emission, WebSocketBridgeFactory};
use netra_model::Models;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RequestId, RunId, ThreadId};
use netra_protocol::run::{OnBusy, OnLimit, Run, StartRun};
use netra_protocol::thread::Thread;
use netra_protocol::usage::{RunUsage, SlotUsage};
use netra_protocol::{Event, Timestamp};
use netra_store::{Idempotency, NewRun, Readable, Store, Target, Writable};
use netra_tools::ToolExecutorFactory;
use netra_worker::ScriptPool;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admission::{Admission, Permit, Place, Standing, Wish};
use crate::agents::Agents;
use crate::closing;
use crate::ending::{self, Ending, Last};
use crate::engine::{IsolatedExecutionEngine, Parts, usage_of_run};
use crate::error::Error;
use crate::execution::{Execution, task_of};
use crate::live::{Listed, Live, LiveRuns, Stop, StopReason};
use crate::memory::Accounts;
use crate::request::{self, Accepted, Commission};
use crate::usage::Counters;

/// How long runs that were told to stop may take to write their ends.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Settings of the engine layer.
#[derive(Debug, Clone)]
pub struct Config {
    /// The most engines that this node has at once.
    pub engines: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { engines: 1_000 }
    }
}

/// What all engines share; immutable after start.
pub struct Infra {
    /// Clock, randomness, tasks.
    pub runtime: Runtime,
    /// State and log.
    pub store: Store,
    /// Makes emitters.
    pub bridge: WebSocketBridgeFactory,
    /// Makes dispatchers.
    pub tools: ToolExecutorFactory,
    /// Language models.
    pub models: Arc<Models>,
    /// What there is to run.
    pub agents: Arc<Agents>,
    /// Workers for scripts.
    pub scripts: ScriptPool,
    /// Settings.
    pub config: Config,
}

struct Shared {
    infra: Arc<Infra>,
    admission: Admission,
    runs: LiveRuns,
    accounts: Accounts,
    draining: AtomicBool,
}

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// As it is now.
    pub run: Run,
    /// Whether the same request had come before.
    pub replayed: bool,
}

/// Admits runs and makes their engines. Cheap to clone.
#[derive(Clone)]
pub struct ExecutionEngineFactory(Arc<Shared>);

impl ExecutionEngineFactory {
    /// Over this infrastructure.
    pub fn new(infra: Infra) -> Self {
        Self(Arc::new(Shared {
            admission: Admission::new(infra.config.engines),
            infra: Arc::new(infra),
            runs: LiveRuns::default(),
            accounts: Accounts::default(),
            draining: AtomicBool::new(false),
        }))
    }

    /// Starts a run on the thread, or on a new one. Everything that can be refused is refused
    /// before anything is stored; when this returns, the run is stored and will end.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn start(
        &self,
        ctx: &UserExecutionContext,
        thread: Option<Writable<Thread>>,
        request: StartRun,
        idempotency: Option<Idempotency>,
    ) -> Result<Started, Error> {
        if !ctx.may(Right::Run) {
            return Err(Error::Forbidden);
        }
        let principal = ctx.principal().ok_or(Error::Forbidden)?.clone();
        let infra = &self.0.infra;
        if let Some(key) = &idempotency
            && let Some(run) = infra.store.replayed::<Run>(ctx, key).await?
        {
            return self.replay(ctx, run.id).await;
        }
        if self.is_draining() {
            return Err(Error::Draining);
        }
        match self.make(ctx, thread, request, idempotency).await? {
            Made::Replayed(id) => self.replay(ctx, id).await,
            Made::New { commission, place } => {
                let answer = self.present(commission.run.as_readable());
                let attended = self
                    .clone()
                    .attend(ctx.request_id(), principal, *commission, place);
                infra.runtime.spawn(TaskKind::Run, attended);
                Ok(Started {
                    run: answer,
                    replayed: false,
                })
            }
        }
    }

    /// Admits the run and stores it. If anything fails, place and listing are dropped with this
    /// future, and nothing has happened.
    async fn make(
        &self,
        ctx: &UserExecutionContext,
        thread: Option<Writable<Thread>>,
        request: StartRun,
        idempotency: Option<Idempotency>,
    ) -> Result<Made, Error> {
        let infra = &self.0.infra;
        let (on_limit, on_busy) = (request.on_limit, request.on_busy);
        let accepted = request::accept(ctx, &infra.store, &infra.agents, request).await?;
        let run_id = self.new_id(RunId::from_parts);
        let target = match thread {
            Some(thread) => Target::Thread(thread),
            None => Target::New {
                id: self.new_id(ThreadId::from_parts),
                title: request::title(&accepted.input),
            },
        };
        let thread_id = match &target {
            Target::Thread(thread) => thread.id,
            Target::New { id, .. } => *id,
        };
        let (place, listed) = self.admit(ctx, run_id, thread_id, (on_limit, on_busy))?;
        let planned = self.plan(run_id, thread_id, &accepted, place.standing());
        let (deadline, begun) = (planned.clock, planned.new.started);
        let (deadline_at, input_message_id) = (planned.new.deadline, planned.new.input_message_id);
        let created = infra
            .store
            .run_create(ctx, target, planned.new, idempotency.as_ref())
            .await?;
        if created.replayed {
            return Ok(Made::Replayed(created.value.id));
        }
        if on_busy == OnBusy::Interrupt {
            self.0.runs.stop_others(thread_id, run_id);
        }
        let commission = Box::new(Commission {
            run: created.value,
            agent: accepted.agent,
            input: accepted.input,
            files: accepted.files,
            timeout_ms: accepted.timeout_ms,
            deadline,
            deadline_at,
            input_message_id,
            begun,
            listed,
        });
        Ok(Made::New { commission, place })
    }

    /// Takes a slot or a place in the user's queue, and lists the run, so that it can be told to
    /// stop from the moment that anybody can see it.
    fn admit(
        &self,
        ctx: &UserExecutionContext,
        run_id: RunId,
        thread_id: ThreadId,
        (on_limit, on_busy): (OnLimit, OnBusy),
    ) -> Result<(Place, Listed), Error> {
        let principal = ctx.principal().ok_or(Error::Forbidden)?;
        let place = self.0.admission.enter(&Wish {
            user: principal.user_id,
            thread: thread_id,
            allowed: principal.limits.concurrent_runs,
            queue: principal.limits.queued_runs,
            on_limit,
            on_busy,
        })?;
        let listed = self.0.runs.list(Live {
            run_id,
            user_id: principal.user_id,
            thread_id,
            ticket: place.ticket(),
            stop: Stop::default(),
            account: std::sync::OnceLock::new(),
        });
        Ok((place, listed))
    }

    /// Tells a run to stop. Its end is written by its engine, within a moment.
    ///
    /// # Errors
    /// `RunEnded` when it has ended.
    pub async fn cancel(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
    ) -> Result<(), Error> {
        if let Some(live) = self.0.runs.get(run.id) {
            live.stop.stop(StopReason::Cancelled);
            return Ok(());
        }
        let now = self.0.infra.store.run(ctx, run.id).for_write().await?;
        if now.status.is_terminal() {
            return Err(Error::RunEnded);
        }
        // No engine has it: its end could not be written when it ended. It is written now.
        self.end_abandoned(ctx, &now, StopReason::Cancelled.ending())
            .await?;
        Ok(())
    }

    /// Starts a run again as it was asked for: same thread, input and files.
    ///
    /// # Errors
    /// `Conflict` when it has not ended; otherwise as [`start`](Self::start).
    pub async fn retry(
        &self,
        ctx: &UserExecutionContext,
        run: &Readable<Run>,
        idempotency: Option<Idempotency>,
    ) -> Result<Started, Error> {
        if !run.status.is_terminal() {
            return Err(Error::Conflict("the run has not ended"));
        }
        let store = &self.0.infra.store;
        let input = store.run_input(ctx, run).await?;
        let thread = store.thread(ctx, run.thread_id).for_write().await?;
        let request = StartRun {
            agent: run.agent.clone(),
            input: input.input,
            files: input.files.iter().map(|file| file.id).collect(),
            metadata: Some(run.metadata.clone()),
            timeout_ms: Some(input.timeout_ms),
            on_limit: OnLimit::Queue,
            on_busy: OnBusy::Queue,
        };
        self.start(ctx, Some(thread), request, idempotency).await
    }

    /// Makes the engine of a run. It cannot fail, and nothing begins before it is driven.
    pub(crate) fn create(
        &self,
        ctx: UserExecutionContext,
        commission: Commission,
        permit: Permit,
    ) -> IsolatedExecutionEngine {
        let infra = Arc::clone(&self.0.infra);
        let limits = Arc::new(ctx.limits().cloned().unwrap_or_default());
        let emitter = Arc::new(infra.bridge.create_emitter(&commission.run));
        let files = commission.files.clone();
        let dispatcher = infra
            .tools
            .create(&ctx, Arc::clone(&emitter), files.clone());
        let user_account = self
            .0
            .accounts
            .of(commission.listed.live.user_id, limits.memory_mib);
        let execution = Execution {
            infra,
            emitter,
            dispatcher,
            files,
            limits,
            counters: Counters::default(),
            workers: Mutex::default(),
        };
        let runs = self.0.runs.clone();
        IsolatedExecutionEngine::new(Parts {
            execution,
            ctx,
            commission,
            user_account,
            runs,
            permit,
        })
    }

    /// Stops taking runs, gives those that execute `grace` to end by themselves, and ends the
    /// others as interrupted.
    pub async fn drain(&self, grace: Duration) {
        self.0.draining.store(true, Ordering::SeqCst);
        let runs = &self.0.runs;
        if tokio::time::timeout(grace, runs.gone()).await.is_ok() {
            return;
        }
        let end = Instant::now() + STOP_GRACE;
        loop {
            // Again and again: a run may have been on its way when draining began.
            runs.stop_all(StopReason::Drained);
            let turn = Duration::from_millis(100);
            if tokio::time::timeout(turn, runs.gone()).await.is_ok() {
                return;
            }
            if Instant::now() >= end {
                tracing::error!(runs = runs.len(), "runs did not end in time");
                return;
            }
        }
    }

    /// Whether new runs are refused because the server is about to stop.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::SeqCst)
    }

    /// The agents.
    pub fn agents(&self) -> &Agents {
        &self.0.infra.agents
    }

    /// What the user has in use.
    pub fn slots(&self, ctx: &UserExecutionContext) -> SlotUsage {
        let none = SlotUsage {
            running: 0,
            queued: 0,
            allowed: 0,
        };
        ctx.principal().map_or(none, |principal| {
            self.0
                .admission
                .usage(principal.user_id, principal.limits.concurrent_runs)
        })
    }

    /// The place of a queued run in its user's queue, from 1. Tells nothing but the number; the
    /// run is to be looked up first.
    pub fn queue_position(&self, run: RunId) -> Option<u32> {
        let live = self.0.runs.get(run)?;
        self.0.admission.position(live.ticket)
    }

    /// How many runs execute and wait on this node.
    pub fn load(&self) -> (usize, usize) {
        self.0.admission.total()
    }

    pub(crate) fn infra(&self) -> &Infra {
        &self.0.infra
    }

    fn new_id<T>(&self, from_parts: impl FnOnce(u64, u128) -> T) -> T {
        self.0.infra.runtime.new_id(from_parts)
    }

    async fn replay(&self, ctx: &UserExecutionContext, id: RunId) -> Result<Started, Error> {
        let run = self.0.infra.store.run(ctx, id).for_read().await?;
        Ok(Started {
            run: self.present(&run),
            replayed: true,
        })
    }

    /// The run as the answer to starting it.
    fn present(&self, run: &Readable<Run>) -> Run {
        let mut run = (**run).clone();
        run.run_id = Some(run.id);
        run.queue_position = self.queue_position(run.id);
        run
    }

    fn plan(
        &self,
        id: RunId,
        thread_id: ThreadId,
        accepted: &Accepted,
        standing: Standing,
    ) -> Planned {
        let now = self.0.infra.runtime.now();
        let clock = Instant::now() + Duration::from_millis(accepted.timeout_ms);
        let deadline = now.plus_millis(i64::try_from(accepted.timeout_ms).unwrap_or(i64::MAX));
        let input_message_id = self.new_id(MessageId::from_parts);
        let emissions = match standing {
            Standing::Queued { position, reason } => {
                vec![Emission::of_run(EventKind::RunQueued {
                    queue_position: position,
                    reason,
                })]
            }
            Standing::Started => first_events(accepted, deadline, input_message_id),
        };
        let event = |emission: Emission| Event {
            event_id: self.new_id(EventId::from_parts),
            ts: now,
            thread_id,
            run_id: id,
            agent: emission.agent,
            step: emission.step,
            kind: emission.kind,
        };
        let new = NewRun {
            id,
            agent: accepted.agent.name.clone(),
            agent_hash: accepted.agent.hash.clone(),
            input: accepted.given.clone(),
            files: accepted.files.clone(),
            metadata: accepted.metadata.clone(),
            timeout_ms: accepted.timeout_ms,
            deadline,
            input_message_id,
            started: standing == Standing::Started,
            events: emissions.into_iter().map(event).collect(),
        };
        Planned { new, clock }
    }

    /// Waits for the slot, then makes the engine and drives it. The run ends in any case.
    async fn attend(
        self,
        request_id: RequestId,
        principal: Principal,
        commission: Commission,
        place: Place,
    ) {
        let ctx = self.context_of(request_id, principal, &commission);
        let waited = Instant::now();
        let granted = tokio::select! {
            biased;
            reason = commission.listed.live.stop.stopped(), if !commission.begun => {
                Err(reason.ending())
            }
            permit = place.granted() => Ok(permit),
            () = tokio::time::sleep_until(commission.deadline) => {
                Err(Ending::timed_out(commission.timeout_ms))
            }
        };
        metrics::histogram!("netra_run_wait_seconds").record(waited.elapsed().as_secs_f64());
        match granted {
            Ok(permit) => {
                let engine = self.create(ctx, commission, permit);
                Box::pin(engine.drive()).await;
            }
            Err(ending) => {
                let emitter = self.0.infra.bridge.create_emitter(&commission.run);
                let usage = usage_of_run(&ctx, &emitter, RunUsage::default());
                ending::commit(&ctx, &emitter, ending, Last::default(), usage).await;
            }
        }
    }

    fn context_of(
        &self,
        request_id: RequestId,
        principal: Principal,
        commission: &Commission,
    ) -> UserExecutionContext {
        let origin = RunOrigin {
            principal,
            run_id: commission.run.id,
            request_id,
            deadline: Some(commission.deadline),
            cancel: commission.listed.live.stop.token().clone(),
        };
        UserExecutionContext::for_run(&self.0.infra.runtime, origin)
    }

    /// Ends a run that no engine has: closes what is open in its log and writes its end. Of a tool
    /// call that was begun nobody knows whether it did its work.
    pub(crate) async fn end_abandoned(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        ending: Ending,
    ) -> Result<(), netra_store::Error> {
        let infra = &self.0.infra;
        let emitter = infra.bridge.create_emitter(run);
        let open = closing::read_open(ctx, &infra.store, &emitter).await?;
        let words = "the call was begun, and its end is not known";
        let unknown = Failure::new(ErrorCode::OutcomeUnknown, words);
        let last = open.close(&emitter, infra.runtime.now(), &unknown);
        let usage = usage_of_run(ctx, &emitter, run.usage.clone());
        ending::commit(ctx, &emitter, ending, last, usage).await;
        Ok(())
    }
}

/// What became of a request to start a run.
enum Made {
    /// The same request had come before, and made this run.
    Replayed(RunId),
    New {
        commission: Box<Commission>,
        place: Place,
    },
}

struct Planned {
    new: NewRun,
    clock: Instant,
}

/// The first events of a run that has its slot at once: stored with the run, so that a short run
/// needs one transaction less.
fn first_events(
    accepted: &Accepted,
    deadline: Timestamp,
    input_message_id: MessageId,
) -> Vec<Emission> {
    let agent = accepted.agent.name.clone();
    let started = EventKind::RunStarted {
        agent: agent.clone(),
        deadline,
        attempt: 1,
        input_message_id,
    };
    let task = task_of(&accepted.input);
    let begun = EventKind::AgentStarted {
        agent: agent.clone(),
        parent_step: None,
        task,
    };
    vec![
        Emission::of_run(started),
        Emission::of_agent(&agent, 1, begun),
    ]
}

#[cfg(test)]
impl ExecutionEngineFactory {
    /// An engine that nobody drives yet.
    pub(crate) async fn for_test(
        &self,
        ctx: &UserExecutionContext,
        request: StartRun,
    ) -> (RunId, IsolatedExecutionEngine) {
        let Ok(Made::New { commission, place }) = self.make(ctx, None, request, None).await else {
            panic!("the run was not made");
        };
        let Some(principal) = ctx.principal().cloned() else {
            panic!("nobody asks")
        };
        let ctx = self.context_of(ctx.request_id(), principal, &commission);
        let id = commission.run.id;
        (id, self.create(ctx, *commission, place.granted().await))
    }

    /// The memory account of a run that is on this node.
    pub(crate) fn account(&self, run: RunId) -> Option<Arc<netra_memory::Account>> {
        self.0.runs.get(run)?.account.get().cloned()
    }
}
