//! Starting a run: everything that can be refused is refused before anything is stored; what is
//! stored will end.

use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{Principal, Right, RunOrigin, UserExecutionContext};
use netra_events::Emission;
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RequestId, RunId, ThreadId};
use netra_protocol::run::{OnBusy, OnLimit, Run, StartRun};
use netra_protocol::thread::Thread;
use netra_protocol::usage::RunUsage;
use netra_protocol::{Event, Timestamp};
use netra_store::{Idempotency, NewRun, Readable, Target, Writable};
use tokio::time::Instant;

use crate::admission::{Place, Standing, Wish};
use crate::ending::{self, Ending, Last};
use crate::engine::usage_of_run;
use crate::error::Error;
use crate::execution::task_of;
use crate::factory::ExecutionEngineFactory;
use crate::live::{Listed, Live, Stop};
use crate::request::{self, Accepted, Commission};

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// As it is now.
    pub run: Run,
    /// Whether the same request had come before.
    pub replayed: bool,
}

impl ExecutionEngineFactory {
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
    ) -> (RunId, crate::engine::IsolatedExecutionEngine) {
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
    pub(crate) fn account(&self, run: RunId) -> Option<std::sync::Arc<netra_memory::Account>> {
        self.0.runs.get(run)?.account.get().cloned()
    }
}
