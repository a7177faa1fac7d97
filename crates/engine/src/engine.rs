//! The engine of one run: it owns everything that the run needs, and drives it to its one end.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::poll_fn;
use netra_context::UserExecutionContext;
use netra_events::{Emission, UserWebSocketEmitter};
use netra_memory::{Account, Scope};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use netra_protocol::usage::RunUsage;
use netra_store::{Changes, Hold, RunUpdate};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use crate::admission::Permit;
use crate::agents::{Body, Definition};
use crate::closing::{self, OpenMessage};
use crate::ending::{self, Ending, Last};
use crate::execution::{Execution, FIRST_STEP, Fault, Finished, Frame, root_began};
use crate::isolation::Active;
use crate::live::{Held, Listed, LiveRuns, StopReason};
use crate::perform;
use crate::request::{Begin, Commission, Resumption};
use crate::spans::AgentSpan;

/// How often memory is looked at while nothing else happens.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// From which part of a limit the user is warned.
pub(crate) const WARN_AT: f64 = 0.8;

/// One request's execution: context, slot, memory account, emitter, dispatcher, stop signal and
/// deadline. [`drive`](Self::drive) consumes it; dropping it, at any point, gives everything back.
///
/// Fields are dropped in order: what works for the run first, then its account, its place in the
/// list of runs, and last the slot, so that whoever gets the slot finds the rest released.
pub struct IsolatedExecutionEngine {
    execution: Execution,
    ctx: UserExecutionContext,
    agent: Arc<Definition>,
    input: Value,
    opening: Opening,
    account: Arc<Account>,
    user_account: Arc<Account>,
    runs: LiveRuns,
    listed: Listed,
    deadline: Instant,
    timeout_ms: u64,
    /// How often the database had been away when the engine was made.
    outages: u64,
    _active: Active,
    permit: Permit,
}

/// What an engine writes first.
struct Opening {
    begin: Begin,
    deadline: netra_protocol::Timestamp,
    input_message_id: netra_protocol::id::MessageId,
}

/// How an engine has left its run.
pub(crate) enum Driven {
    /// The run has ended.
    Ended,
    /// A person has been asked. The slot is still held, and the run is still listed.
    Waiting { permit: Permit, listed: Listed },
    /// The server stops, and the run goes on at its next start; or another node has taken it.
    Released,
}

/// Why an agent was stopped before it gave a result.
enum Stopped {
    Ending(Ending),
    Waiting,
    Released,
}

impl From<Ending> for Stopped {
    fn from(ending: Ending) -> Self {
        Self::Ending(ending)
    }
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) execution: Execution,
    pub(crate) ctx: UserExecutionContext,
    pub(crate) commission: Commission,
    pub(crate) account: Arc<Account>,
    pub(crate) user_account: Arc<Account>,
    pub(crate) runs: LiveRuns,
    pub(crate) active: Active,
    pub(crate) permit: Permit,
}

impl IsolatedExecutionEngine {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            execution,
            ctx,
            commission,
            account,
            user_account,
            runs,
            active,
            permit,
        } = parts;
        let outages = execution.infra.store.outages();
        let fence = commission.run.fence();
        let held = Held::new(Arc::clone(&account), execution.workers.clone(), fence);
        // The run is listed once and gets one engine, so this is the first account.
        commission.listed.live.held.set(held).ok();
        Self {
            execution,
            ctx,
            agent: commission.agent,
            input: commission.input,
            opening: Opening {
                begin: commission.begin,
                deadline: commission.deadline_at,
                input_message_id: commission.input_message_id,
            },
            account,
            user_account,
            runs,
            listed: commission.listed,
            deadline: commission.deadline,
            timeout_ms: commission.timeout_ms,
            outages,
            _active: active,
            permit,
        }
    }

    /// On whose account the run is driven.
    pub(crate) fn scope(&self) -> Scope {
        self.account.scope()
    }

    /// Drives the run until it ends, waits for a person, or has to be let go. When this returns,
    /// that is stored, and everything that the engine owned is released but what it gives back.
    pub(crate) async fn drive(self) -> Driven {
        let (ending, mut last) = match self.work().await {
            Ok((result, last)) => (Ending::Completed(result), last),
            Err(Stopped::Ending(ending)) => {
                let last = self.close(&ending).await;
                (ending, last)
            }
            Err(Stopped::Waiting) => {
                self.keep(None).await;
                let Self { permit, listed, .. } = self;
                return Driven::Waiting { permit, listed };
            }
            Err(Stopped::Released) => {
                if self.listed.live.stop.reason() != Some(StopReason::Taken) {
                    self.keep(Some(Hold::Released)).await;
                }
                return Driven::Released;
            }
        };
        if self.fails_with_the_database(&ending) {
            self.runs.lose(self.listed.live.run_id);
            return Driven::Released;
        }
        last.settled.extend(self.execution.budget.cut_off());
        let is_written = ending::commit(
            &self.ctx,
            (&self.execution.emitter, self.execution.trace),
            ending,
            last,
            self.usage(),
        )
        .await;
        if !is_written {
            self.runs.lose(self.listed.live.run_id);
        }
        Driven::Ended
    }

    /// Whether what the run fails of may be that the database was away, where others could go on with it: then it is let
    /// go instead. What fails of itself fails again, from the journal.
    fn fails_with_the_database(&self, ending: &Ending) -> bool {
        let now = self.execution.infra.store.outages();
        matches!(ending, Ending::Failed(_)) && now > self.outages
    }

    /// Lets the agent work until it is done, or the run has to stop. Whatever happens, the agent
    /// and all that it was doing is dropped when this returns.
    async fn work(&self) -> Result<(Value, Last), Stopped> {
        let began = root_began(&self.execution, &self.ctx);
        let begin = (FIRST_STEP, began);
        let span = AgentSpan::begin(&self.execution, &self.ctx, &self.agent, begin);
        let own = span.context(&self.ctx);
        let ctx = own.as_deref().unwrap_or(&self.ctx);
        let (agent, input) = (&self.agent, self.input.clone());
        let frame = Frame::root(&self.execution, ctx, agent, input, (began, span));
        match self.opening.begin {
            Begin::Begun => {}
            Begin::First => self.begin(&frame).await?,
            Begin::Again(resumption) => self.go_on(resumption).await?,
        }
        let mut agent = pin!(AssertUnwindSafe(perform::perform(&frame)).catch_unwind());
        let agent = poll_fn(|context| self.poll_charged(agent.as_mut(), context));
        let outcome = tokio::select! {
            biased;
            reason = self.listed.live.stop.stopped() => {
                return Err(reason.ending().map_or(Stopped::Released, Stopped::Ending));
            }
            ending = self.watch() => return Err(ending.into()),
            outcome = agent => outcome,
        };
        match outcome {
            Ok(Ok(finished)) => Ok(last_of_root(&frame, finished)),
            Ok(Err(fault)) => {
                frame.span.stopped_by(&fault);
                Err(self.stopped_by(fault))
            }
            Err(_) => {
                tracing::error!(run.id = %self.listed.live.run_id, "an agent panicked");
                let words = "the run failed by a defect of the server";
                Err(Ending::Failed(Failure::new(ErrorCode::Internal, words)).into())
            }
        }
    }

    async fn begin(&self, frame: &Frame<'_>) -> Result<(), Ending> {
        let started = EventKind::RunStarted {
            agent: self.agent.name.clone(),
            deadline: self.opening.deadline,
            attempt: self.execution.emitter.run().attempt,
            input_message_id: self.opening.input_message_id,
        };
        let update = RunUpdate {
            started_at: Some(self.ctx.runtime().now()),
            ..self.taken()
        };
        let emissions = vec![Emission::of_run(started), frame.started(None)];
        self.open(update, Last::default(), emissions).await
    }

    /// Takes the run up where an earlier engine left it: what that one was in the middle of is
    /// closed, and what is done is in the journal.
    async fn go_on(&self, resumption: Resumption) -> Result<(), Ending> {
        let (emitter, store) = (&self.execution.emitter, &self.execution.infra.store);
        let open = closing::read_open(&self.ctx, store, emitter).await;
        let mut open = open.map_err(|error| unstored(&error))?;
        let artifacts = std::mem::take(&mut open.artifacts);
        let dispatcher = &self.execution.dispatcher;
        dispatcher.scope().announced(artifacts);
        let remembered = dispatcher.remember(&self.ctx).await;
        remembered.map_err(|words| Ending::Failed(Failure::new(ErrorCode::Internal, words)))?;
        for limit in std::mem::take(&mut open.warned) {
            self.execution.warned.is_first(&limit);
        }
        // A text that its agent has as a whole is written on; what a model or an endpoint was saying
        // is lost.
        let root = &self.agent;
        let goes_on = |message: &OpenMessage| {
            let spoken = matches!(root.body, Body::Model { .. } | Body::Http(_));
            message.agent == root.name && !spoken
        };
        let now = self.ctx.runtime().now();
        let (last, unfinished) = open.close_cut_off(emitter, now, goes_on);
        *self.execution.unfinished.lock() = unfinished;
        let run = emitter.run();
        let attempt = run.attempt + u32::from(resumption == Resumption::Crash);
        let resumed = EventKind::RunResumed {
            reason: resumption.reason().to_owned(),
            attempt,
            deadline: self.opening.deadline,
        };
        let update = RunUpdate {
            attempt: Some(attempt),
            ..self.taken()
        };
        metrics::counter!("netra_runs_resumed_total", "reason" => resumption.reason()).increment(1);
        self.open(update, last, vec![Emission::of_run(resumed)])
            .await
    }

    fn taken(&self) -> RunUpdate {
        RunUpdate {
            hold: Some(Hold::Taken),
            deadline: Some(self.opening.deadline),
            ..RunUpdate::to(RunStatus::Running)
        }
    }

    async fn open(
        &self,
        update: RunUpdate,
        last: Last,
        mut emissions: Vec<Emission>,
    ) -> Result<(), Ending> {
        emissions.extend(last.emissions);
        let changes = Changes {
            run: Some(update),
            messages: last.messages,
            audit: last.audit,
            ..Changes::default()
        };
        let emitter = &self.execution.emitter;
        let opened = emitter.commit(&self.ctx, changes, emissions).await;
        opened.map(drop).map_err(|error| unstored(&error))
    }

    /// Notes what the run has used so far, and whether an engine holds it.
    async fn keep(&self, hold: Option<Hold>) {
        let changes = Changes {
            run: Some(RunUpdate {
                hold,
                usage: Some(self.usage()),
                ..RunUpdate::default()
            }),
            settled: self.execution.budget.cut_off(),
            ..Changes::default()
        };
        let emitter = &self.execution.emitter;
        match emitter.commit(&self.ctx, changes, Vec::new()).await {
            // Whoever has taken it needs no word.
            Ok(_) | Err(netra_store::Error::Fenced) => {}
            // Its next engine takes this for a crash, which is as safe.
            Err(error) => {
                tracing::warn!(run.id = %self.listed.live.run_id, %error, "a run was let go unnoted");
            }
        }
    }

    /// An agent's error says how the run ends; where the deadline has passed, it was the deadline.
    fn stopped_by(&self, fault: Fault) -> Stopped {
        // Whoever stops the run also cancels what its agent waits for, and the agent may be told
        // first: then its error is none of its own.
        if let Some(reason) = self.listed.live.stop.reason() {
            return reason.ending().map_or(Stopped::Released, Stopped::Ending);
        }
        let Some(failure) = fault.failure() else {
            return Stopped::Waiting;
        };
        if failure.code == ErrorCode::DeadlineExceeded || Instant::now() >= self.deadline {
            return Ending::timed_out(self.timeout_ms).into();
        }
        Ending::of_failure(failure).into()
    }

    /// Polls the work and looks at the user's memory after each poll. What is over the limit stops
    /// the user's largest run, which may be another one than this.
    fn poll_charged<F: Future>(
        &self,
        work: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let polled = work.poll(context);
        if polled.is_pending() {
            self.check_memory();
        }
        polled
    }

    fn check_memory(&self) {
        if self.account.is_over() {
            let user = self.listed.live.user_id;
            self.runs.relieve(user, &self.user_account);
        }
    }

    /// Ends when the deadline has passed. Until then it warns the user when a limit comes near.
    async fn watch(&self) -> Ending {
        let total = Duration::from_millis(self.timeout_ms);
        let warn_at = self.deadline.checked_sub(total.mul_f64(1.0 - WARN_AT));
        let warned = &self.execution.warned;
        let first = Instant::now() + SAMPLE_EVERY;
        let mut ticks = tokio::time::interval_at(first, SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end = pin!(tokio::time::sleep_until(self.deadline));
        loop {
            tokio::select! {
                biased;
                () = &mut end => return Ending::timed_out(self.timeout_ms),
                _ = ticks.tick() => {}
            }
            self.check_memory();
            let is_late = warn_at.is_some_and(|at| Instant::now() >= at);
            if is_late && warned.is_first("run_timeout_ms") {
                let left = self.deadline.saturating_duration_since(Instant::now());
                let used = total.saturating_sub(left).as_secs_f64() * 1000.0;
                self.warn("run_timeout_ms", used, total.as_secs_f64() * 1000.0)
                    .await;
            }
            let (used, limit) = (self.user_account.current_bytes(), self.user_account.limit());
            if used as f64 >= limit as f64 * WARN_AT && warned.is_first("memory_mib") {
                const MIB: f64 = 1024.0 * 1024.0;
                self.warn("memory_mib", used as f64 / MIB, limit as f64 / MIB)
                    .await;
            }
        }
    }

    async fn warn(&self, limit: &str, used: f64, allowed: f64) {
        let kind = EventKind::LimitWarning {
            limit: limit.to_owned(),
            used,
            allowed,
        };
        let warned = self
            .execution
            .emitter
            .emit(&self.ctx, vec![Emission::of_run(kind)])
            .await;
        if let Err(error) = warned {
            tracing::warn!(run.id = %self.listed.live.run_id, %error, "a warning was not stored");
        }
    }

    /// Closes in the log what the agent left open there.
    async fn close(&self, ending: &Ending) -> Last {
        let emitter = &self.execution.emitter;
        let store = &self.execution.infra.store;
        // The server's work: no run may lack the memory to end.
        let read = closing::open_in_log(&self.ctx, store, emitter);
        match Scope::system().wrap(read).await {
            Ok(open) => match ending.failure() {
                Some(failure) => open.close(emitter, self.ctx.runtime().now(), failure),
                None => Last::default(),
            },
            Err(error) => {
                tracing::error!(run.id = %self.listed.live.run_id, %error, "what is open cannot be read");
                Last::default()
            }
        }
    }

    fn usage(&self) -> RunUsage {
        let counted = netra_memory::is_counting();
        usage_of_run(
            &self.ctx,
            &self.execution.emitter,
            RunUsage {
                tool_calls: u64::from(self.execution.dispatcher.calls()),
                peak_memory_bytes: counted.then(|| self.account.peak_bytes()),
                ..self.execution.counters.read()
            },
        )
    }
}

fn unstored(error: &netra_store::Error) -> Ending {
    let words = format!("the run cannot be stored: {error}");
    Ending::Failed(Failure::new(ErrorCode::Internal, words))
}

/// The end of the run's own agent, to be committed with the run's end.
fn last_of_root(frame: &Frame<'_>, finished: Finished) -> (Value, Last) {
    let Finished { result, mut last } = finished;
    last.emissions.push(frame.completed(Some(&result)));
    (result, last)
}

/// The usage with the run's duration, from acceptance to now.
pub(crate) fn usage_of_run(
    ctx: &UserExecutionContext,
    emitter: &UserWebSocketEmitter,
    usage: RunUsage,
) -> RunUsage {
    let duration_ms = ctx.runtime().now().millis_since(emitter.run().created_at);
    RunUsage {
        duration_ms,
        ..usage
    }
}
