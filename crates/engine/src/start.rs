//! Starting a run: everything that can be refused is refused before anything is stored; what is
//! stored will end.

use std::sync::OnceLock;
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{Limit, Principal, Right, Trace, UserExecutionContext};
use netra_events::Emission;
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId};
use netra_protocol::run::{OnBusy, OnLimit, Run, RunStatus, StartRun};
use netra_protocol::thread::Thread;
use netra_protocol::{Event, Timestamp};
use netra_store::{Idempotency, Journal, NewRun, Readable, Target, Writable};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admission::{Place, Refusal, Standing, Wish};
use crate::error::Error;
use crate::execution::task_of;
use crate::factory::ExecutionEngineFactory;
use crate::live::{Listed, Live, Stop};
use crate::request::{self, Accepted, Begin, Commission};
use crate::turns::Turn;

/// A run that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// As it is now.
    pub run: Run,
    /// Whether the same request had come before.
    pub replayed: bool,
}

/// Why a run is not let in, and by which limit.
struct Refused {
    error: Error,
    limit: Option<Limit>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let limit = error.limit();
        Self { error, limit }
    }
}

impl ExecutionEngineFactory {
    /// Starts a run on the thread, or on a new one. Everything that can be refused is refused
    /// before anything is stored; when this returns, the run is stored and will end. A caller that
    /// goes away meanwhile changes nothing: either nothing has happened, or the run is stored and
    /// ends all the same.
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
        let asked_at = Instant::now();
        if !ctx.may(Right::Run) {
            return Err(Error::Forbidden);
        }
        let principal = ctx.principal().ok_or(Error::Forbidden)?.clone();
        // Also because a repeat waits for the first: admission would see a run of the same request as another.
        let turn = self.0.turns.take(principal.user_id).await;
        let wishes = (request.on_limit, request.on_busy);
        let admitted = match self.let_in(ctx, thread, wishes, request).await {
            Ok(admitted) => admitted,
            Err(Refused { error, limit }) => {
                // What was done already is not asked for again: a repeat gets the first answer.
                if let Some(first) = self.replayed(ctx, idempotency.as_ref()).await? {
                    return Ok(first);
                }
                if let Some(limit) = limit {
                    self.0.infra.runtime.limit_hit(principal.user_id, limit);
                }
                return Err(error);
            }
        };
        // Nothing is awaited between admission and this: from here on the run is nobody's but its
        // own task's.
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            ctx: ctx.child("start").at(place_of_run(ctx)),
            principal,
            idempotency,
            turn,
            asked_at,
        };
        let carried_out = self.clone().carry_out(asked, admitted, answer);
        self.0.infra.runtime.spawn(TaskKind::Run, carried_out);
        answered.await.unwrap_or_else(|_| {
            let words = "starting the run ended without an answer";
            Err(netra_store::Error::Bug(words.into()).into())
        })
    }

    /// Checks the request and lets its run in. A repeat is let in like the first, and its place is given back as soon as
    /// the store has seen that it is one.
    async fn let_in(
        &self,
        ctx: &UserExecutionContext,
        thread: Option<Writable<Thread>>,
        wishes: (OnLimit, OnBusy),
        request: StartRun,
    ) -> Result<Admitted, Refused> {
        if self.is_draining() {
            return Err(Error::Draining.into());
        }
        if self.is_short_of_memory() {
            return Err(Refused {
                error: Error::Overloaded,
                limit: Some(Limit::NodeMemory),
            });
        }
        let accepted = request::accept(ctx, &self.0.infra, request).await?;
        Ok(self.admit(ctx, thread, wishes, accepted)?)
    }

    /// The run that the same request made when it came first.
    async fn replayed(
        &self,
        ctx: &UserExecutionContext,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<Started>, Error> {
        let Some(key) = idempotency else {
            return Ok(None);
        };
        match self.0.infra.store.replayed::<Run>(ctx, key).await? {
            Some(run) => Ok(Some(self.replay(ctx, run.id).await?)),
            None => Ok(None),
        }
    }

    /// Takes a slot or a place in the user's queue, lists the run, so that it can be told to stop
    /// from the moment that anybody can see it, and plans what is to be stored. Dropping what this
    /// yields gives both back, and nothing has happened.
    fn admit(
        &self,
        ctx: &UserExecutionContext,
        thread: Option<Writable<Thread>>,
        (on_limit, on_busy): (OnLimit, OnBusy),
        accepted: Accepted,
    ) -> Result<Admitted, Error> {
        let principal = ctx.principal().ok_or(Error::Forbidden)?;
        let infra = self.infra();
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
        let wish = Wish {
            user: principal.user_id,
            thread: thread_id,
            allowed: principal.limits.concurrent_runs,
            queue: principal.limits.queued_runs,
            on_limit,
            on_busy,
            had_begun: false,
        };
        let (place, listed) = self.0.runs.list(|| {
            let place = self.0.admission.enter(&wish)?;
            let live = Live {
                run_id,
                user_id: wish.user,
                thread_id,
                ticket: place.ticket(),
                stop: Stop::default(),
                held: OnceLock::new(),
            };
            Ok::<_, Refusal>((place, live))
        })?;
        let mut planned = self.plan(run_id, thread_id, &accepted, place.standing());
        if infra.store.is_shared() {
            planned.new.over_nodes = Some(self.over_nodes(&wish));
        }
        Ok(Admitted {
            target,
            accepted,
            planned,
            interrupts: on_busy == OnBusy::Interrupt,
            listed,
            place,
        })
    }

    /// Stores the run, answers whoever asked for it, and brings it to its end.
    async fn carry_out(
        self,
        asked: Asked,
        admitted: Admitted,
        answer: oneshot::Sender<Result<Started, Error>>,
    ) {
        let ctx = asked.ctx;
        let made = Box::pin(self.make(&ctx, admitted, asked.idempotency)).await;
        drop(asked.turn);
        // Whoever has gone away meanwhile is not told; the run is carried out all the same.
        match made {
            Err(error) => drop(answer.send(Err(error))),
            Ok(Made::Replayed(id)) => drop(answer.send(self.replay(&ctx, id).await)),
            Ok(Made::New { commission, place }) => {
                metrics::histogram!("netra_run_first_event_seconds")
                    .record(asked.asked_at.elapsed());
                let started = Started {
                    run: present(commission.run.as_readable()),
                    replayed: false,
                };
                answer.send(Ok(started)).ok();
                let request_id = ctx.request_id();
                drop(ctx);
                self.attend(request_id, asked.principal, commission, place)
                    .await;
            }
        }
    }

    /// Stores the run, and stops those that it interrupts. If it cannot be stored, place and
    /// listing are dropped with this future, and nothing has happened.
    async fn make(
        &self,
        ctx: &UserExecutionContext,
        admitted: Admitted,
        idempotency: Option<Idempotency>,
    ) -> Result<Made, Error> {
        let Admitted {
            target,
            accepted,
            planned: Planned { new, clock },
            interrupts,
            listed,
            place,
        } = admitted;
        let (deadline_at, input_message_id) = (new.deadline, new.input_message_id);
        let begin = if new.started {
            Begin::Begun
        } else {
            Begin::First
        };
        let store = &self.0.infra.store;
        let created = store
            .run_create(ctx, target, new, idempotency.as_ref())
            .await
            .map_err(|error| {
                // It may be stored all the same.
                if matches!(error, netra_store::Error::Unavailable(_)) {
                    self.0.runs.lose(listed.live.run_id);
                }
                self.refused_over_nodes(ctx, error)
            })?;
        if created.replayed {
            return Ok(Made::Replayed(created.value.id));
        }
        // What the user has on other nodes may be in the way.
        let begin = if created.value.status == RunStatus::Queued {
            Begin::First
        } else {
            begin
        };
        if interrupts {
            self.0.runs.stop_earlier(&listed.live);
            self.replace_waiting(&listed.live).await;
        }
        let commission = Box::new(Commission {
            run: created.value,
            agent: accepted.agent,
            input: accepted.input,
            files: accepted.files,
            timeout_ms: accepted.timeout_ms,
            deadline: clock,
            deadline_at,
            input_message_id,
            begin,
            journal: Journal::default(),
            trace: ctx.trace().filter(Trace::is_sampled),
            listed,
        });
        Ok(Made::New { commission, place })
    }

    /// Starts a run again as it was asked for: same thread, input and files.
    ///
    /// # Errors
    /// `Conflict` when it has not ended; `NotFound` when one of its files was deleted; otherwise
    /// as [`start`](Self::start).
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
        if input.missing_files > 0 {
            // A repeat gets the first answer, whatever became of the files since.
            let first = self.replayed(ctx, idempotency.as_ref()).await?;
            return first.ok_or(Error::NotFound);
        }
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

    /// Lets runs like this one in, makes the engine of each and drops it, this often, without touching the disk for
    /// it: how long each took, for benchmarks. One run is made for them all.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    #[doc(hidden)]
    pub async fn try_creation(
        &self,
        ctx: &UserExecutionContext,
        wish: &StartRun,
        times: usize,
    ) -> Result<Vec<Duration>, Error> {
        let principal = ctx.principal().ok_or(Error::Forbidden)?;
        let made = self.start(ctx, None, wish.clone(), None).await?.run;
        let run = self.0.infra.store.run(ctx, made.id).for_write().await?;
        let infra = &self.0.infra;
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let accepted = request::accept(ctx, infra, wish.clone()).await?;
            let run = run.clone();
            let began = std::time::Instant::now();
            let wishes = (OnLimit::Reject, OnBusy::Queue);
            let Admitted {
                accepted,
                planned,
                listed,
                place,
                ..
            } = self.admit(ctx, None, wishes, accepted)?;
            let commission = Commission {
                run,
                agent: accepted.agent,
                input: accepted.input,
                files: accepted.files,
                timeout_ms: accepted.timeout_ms,
                deadline: planned.clock,
                deadline_at: planned.new.deadline,
                input_message_id: planned.new.input_message_id,
                begin: Begin::Begun,
                journal: Journal::default(),
                trace: None,
                listed,
            };
            let own = self.context_of(ctx.request_id(), principal.clone(), &commission);
            drop(self.create(own, commission, place.granted().await));
            took.push(began.elapsed());
        }
        Ok(took)
    }

    async fn replay(&self, ctx: &UserExecutionContext, id: RunId) -> Result<Started, Error> {
        let run = self.0.infra.store.run(ctx, id).for_read().await?;
        Ok(Started {
            run: present(&run),
            replayed: true,
        })
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
            over_nodes: None,
            events: emissions.into_iter().map(event).collect(),
        };
        Planned { new, clock }
    }
}

/// The run as the answer to starting it.
fn present(run: &Readable<Run>) -> Run {
    Run {
        run_id: Some(run.id),
        ..(**run).clone()
    }
}

/// A new run's place: within the request that asks for it, or in a trace of its own.
fn place_of_run(ctx: &UserExecutionContext) -> Option<Trace> {
    let runtime = ctx.runtime();
    runtime.tracer()?;
    Some(runtime.place_within(ctx.trace()))
}

/// Who asks for a run, and in which request.
struct Asked {
    ctx: UserExecutionContext,
    principal: Principal,
    idempotency: Option<Idempotency>,
    /// The start's turn among those of the same user, until the run is stored.
    turn: Turn,
    asked_at: Instant,
}

/// A run that was let in and is not stored yet. The slot is the last to be given back.
struct Admitted {
    target: Target,
    accepted: Accepted,
    planned: Planned,
    /// Whether it takes the thread from the runs before it.
    interrupts: bool,
    listed: Listed,
    place: Place,
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
        let (infra, wishes) = (&self.0.infra, (request.on_limit, request.on_busy));
        let accepted = request::accept(ctx, infra, request).await;
        let admitted = accepted.and_then(|accepted| self.admit(ctx, None, wishes, accepted));
        let Ok(admitted) = admitted else {
            panic!("the run was refused");
        };
        let Ok(Made::New { commission, place }) = self.make(ctx, admitted, None).await else {
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
        let live = self.0.runs.get(run)?;
        live.held
            .get()
            .map(|held| std::sync::Arc::clone(&held.account))
    }
}
