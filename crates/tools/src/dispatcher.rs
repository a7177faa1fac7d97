//! The dispatcher of one run: the only way to a tool.
//!
//! Each call passes the layers in order (the agent's list, the policy, the schema, the run's
//! limits, the user's rate for the tool, a person where one is to be asked); the first that says no
//! is named in one `tool_denied`. A call that passes is announced by one `tool_executing` before it
//! runs, in the commit that counts it for its rate, and ended by one `tool_completed`, which commits
//! together with its journal entry and its audit record. A call whose future is dropped in between
//! stays open in the log, and the engine closes it there. What the journal has of a call is not done
//! again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use netra_context::memory::{self, Reservation};
use netra_context::trace::Span;
use netra_context::{Trace, UserExecutionContext};
use netra_events::Emission;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::{EventKind, MAX_RESULT_BYTES};
use netra_protocol::id::{ToolCallId, UserId};
use netra_store::{AuditRecord, Changes, JournalEntry, JournalKind, RatedCall};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::consent::Consent;
use crate::layers::{Case, Denial, LAYERS, Layer, Passed};
use crate::past::{Earlier, Ended, Past, begun};
use crate::policy::{RunPolicy, Verdict};
use crate::registry::Registry;
use crate::rest::Rest;
use crate::scope::RunScope;
use crate::shelf::{ALL_OF_USERS, Entry, OF_USERS, Shelf, label};
use crate::short::{bytes_of, cut_text, held_by, shorten};
use crate::span;
use crate::tool::{Call, Tool, ToolSpec};

/// The most bytes of arguments in an event.
pub(crate) const MAX_ARGUMENT_BYTES: usize = 64 * 1024;
/// The largest result that a tool may give, in bytes of JSON.
const MAX_TOOL_RESULT_BYTES: usize = 8 * 1024 * 1024;
/// The longest message of a failure in an event, in bytes.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The agent that asks for a call.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Its name.
    pub agent: &'a str,
    /// The step of the run in which it asks.
    pub step: u32,
    /// The tools that its definition names; nothing else is there for it.
    pub allowed_tools: &'a [String],
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The call's id, new for each call. A call that is made again gets another one.
    pub id: ToolCallId,
    /// The tool's name, not yet known to exist.
    pub name: String,
    /// The arguments, not yet checked.
    pub arguments: Value,
    /// Why, in words, where the agent told.
    pub purpose: Option<String>,
    /// What earlier attempts of the run did of it.
    pub past: Past,
}

/// A call that gave a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The call's id.
    pub id: ToolCallId,
    /// What it gave.
    pub value: Value,
}

/// What a tool is called with: the request, its arguments, the names of the secrets that it was given, and its place in
/// a trace.
type Asked<'a> = (&'a Request, Value, &'a Mutex<Vec<String>>, Option<Trace>);

/// Why a call gave no result.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The call was refused or failed. The agent is told, and the run may go on.
    Call(Failure),
    /// The run cannot go on: a limit of the run is passed, or the log cannot be written.
    Run(Failure),
    /// A person has been asked, and the run waits: its engine is to be dropped.
    Waiting,
}

/// A limit of one call, held while it runs and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Time,
    Output,
    Memory,
}

pub(crate) const BOUNDS: &[Bound] = &[Bound::Time, Bound::Output, Bound::Memory];

/// Calls the tools of one run. Owned by the run's engine; sub-agents share it, each with the tools
/// of its own definition.
pub struct Dispatcher {
    registry: Arc<Registry>,
    user: Option<UserId>,
    /// What there was when the run began, so that a tool does not change under it.
    shelf: Arc<Shelf>,
    /// What the run's user alone has, once it has been asked for.
    own: OnceCell<Shelf>,
    policy: RunPolicy,
    scope: RunScope,
    begun: Arc<AtomicU32>,
    earlier: Earlier,
    rest: Rest,
    /// Held by a call that has to be alone, for as long as it takes: calls that change something come one
    /// after the other, whichever agents of the run make them.
    alone: tokio::sync::Mutex<()>,
    layers: &'static [Layer],
    bounds: &'static [Bound],
}

impl Dispatcher {
    /// Of a run whose earlier attempts have used this.
    pub(crate) fn new(
        registry: Arc<Registry>,
        user: Option<UserId>,
        scope: RunScope,
        earlier: Earlier,
    ) -> Self {
        let thread = scope.emitter().run().thread_id;
        Self {
            policy: RunPolicy::new(Arc::clone(registry.policy()), thread),
            shelf: registry.now_for(user),
            user,
            own: OnceCell::new(),
            registry,
            scope,
            begun: Arc::new(AtomicU32::new(earlier.begun)),
            earlier,
            rest: Rest::default(),
            alone: tokio::sync::Mutex::default(),
            layers: LAYERS,
            bounds: BOUNDS,
        }
    }

    /// The same with other layers, to show what each is there for.
    #[cfg(test)]
    pub(crate) fn with_layers(self, layers: &'static [Layer]) -> Self {
        Self { layers, ..self }
    }

    /// The same with other limits of each call, likewise.
    #[cfg(test)]
    pub(crate) fn with_bounds(self, bounds: &'static [Bound]) -> Self {
        Self { bounds, ..self }
    }

    fn holds(&self, bound: Bound) -> bool {
        self.bounds.contains(&bound)
    }

    pub(crate) fn policy(&self) -> &RunPolicy {
        &self.policy
    }

    /// Knows again what the earlier attempts of the run were given of secrets, so that it is taken out of what comes
    /// back now. To be called before the run goes on.
    ///
    /// # Errors
    /// In words, where one cannot be opened.
    pub async fn remember(&self, ctx: &UserExecutionContext) -> Result<(), String> {
        for tool in &self.earlier.tools {
            self.conceal_plain(tool);
        }
        self.scope.remember(ctx, &self.earlier.secrets).await
    }

    /// What the server of this tool has from the configuration is a secret to whoever calls it.
    fn conceal_plain(&self, tool: &str) {
        for (name, value) in self.registry.concealed_of(tool) {
            self.scope.redaction().add(name, value);
        }
    }

    /// How many calls have begun.
    pub fn calls(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Who of the run is at work, and who waits for the others to be done.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// Whether this call may be made beside others of the same agent: the tool says so of itself, and no
    /// person is to be asked.
    pub fn goes_beside(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        name: &str,
        arguments: &Value,
    ) -> bool {
        let entry = self.entry(name).filter(|entry| entry.tool.beside());
        entry.is_some_and(|entry| {
            let decided = self.policy.decide(ctx, agent, entry.tool.spec(), arguments);
            !matches!(decided.verdict, Verdict::AfterApproval(_))
        })
    }

    /// Whether this agent's call of the tool may be permitted, with some arguments or other.
    pub fn offers(&self, ctx: &UserExecutionContext, agent: &str, tool: &ToolSpec) -> Verdict {
        self.policy.offers(ctx, agent, tool)
    }

    /// The tool of this name as this run knows it; what has come since the run began, too.
    pub fn tool(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.entry(name).map(|entry| Arc::clone(&entry.tool))
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        if self.registry.is_of_users(name) {
            return self.own.get()?.entry(name).map(Arc::clone);
        }
        let known = self.shelf.entry(name).map(Arc::clone);
        known.or_else(|| self.registry.entry_for(self.user, name))
    }

    /// Waits until it is known what there is of these tools, and asks for what the user alone has where one of them is
    /// such a one.
    pub async fn settled(&self, ctx: &UserExecutionContext, names: &[String]) {
        if names.iter().any(|name| self.registry.is_of_users(name)) {
            self.own.get_or_init(|| self.registry.own_of(ctx)).await;
        }
        self.registry.settled(names).await;
    }

    /// The names of an agent's list, with those of the user's own tools in the place of what stands for all of them.
    pub fn spelt_out(&self, names: &[String]) -> Vec<String> {
        let mut spelt_out = Vec::with_capacity(names.len());
        for name in names {
            if name != ALL_OF_USERS {
                spelt_out.push(name.clone());
                continue;
            }
            let own = self.own.get().into_iter().flat_map(Shelf::entries);
            let own = own.map(|entry| &entry.tool.spec().name);
            let added = own.filter(|own| own.starts_with(OF_USERS) && !names.contains(own));
            spelt_out.extend(added.cloned());
        }
        spelt_out
    }

    /// Whether the agent's list has the tool.
    pub(crate) fn lists(&self, caller: &Caller<'_>, name: &String) -> bool {
        let of_user = || name.starts_with(OF_USERS) && self.registry.is_of_users(name);
        let has = |one: &String| one == name || (one == ALL_OF_USERS && of_user());
        caller.allowed_tools.iter().any(has)
    }

    /// The run's files and artifacts.
    pub fn scope(&self) -> &RunScope {
        &self.scope
    }

    /// Makes one call, or gives what the journal has of it.
    ///
    /// # Errors
    /// [`Error::Call`] when it was refused or failed; [`Error::Run`] when the run cannot go on;
    /// [`Error::Waiting`] when a person has been asked.
    pub async fn call(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        mut request: Request,
    ) -> Result<Done, Error> {
        if let Some(ended) = request.past.ended.take() {
            return ended.outcome();
        }
        let mut span = span::begin(ctx, &request.name);
        let result = self.make(ctx, caller, request, &mut span).await;
        span::end(span, &result);
        result
    }

    async fn make(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        mut request: Request,
        span: &mut Span,
    ) -> Result<Done, Error> {
        request.id = match request.past.asked {
            Some(asked) => asked,
            // The call of this id was closed when the run went on.
            None if request.past.is_unknown() => ctx.runtime().new_id(ToolCallId::from_parts),
            None => request.id,
        };
        // A person may have edited the arguments: every layer sees what the tool will see.
        if let Some(edited) = request.past.edited() {
            request.arguments = edited;
        }
        let entry = match self.find(ctx, caller, &request.name).await {
            Ok(entry) => entry,
            Err(denial) => return Err(self.deny(ctx, caller, &request, denial).await),
        };
        let judged = self.judge(ctx, caller, &request, &entry);
        let Passed {
            room,
            rated,
            consent,
        } = match judged {
            Ok(passed) => passed,
            Err(denial) => return Err(self.deny(ctx, caller, &request, denial).await),
        };
        if let Consent::Wanted(reason) = consent {
            drop(room);
            return Err(Box::pin(self.ask(ctx, caller, &request, &reason, rated)).await);
        }
        let beside = entry.tool.beside() && request.past.answer.is_none();
        let _alone = match beside {
            true => None,
            false => Some(self.alone.lock().await),
        };
        let announced = self.announce(ctx, caller, &request, rated);
        room.begin(announced).await?;
        self.conceal_plain(&request.name);
        let began = Instant::now();
        let given = Mutex::default();
        // Nobody else needs them any more, and they may be large.
        let arguments = std::mem::take(&mut request.arguments);
        span::called(span, request.id, &arguments);
        let asked = (&request, arguments, &given, span.place());
        let result = self.perform(ctx, caller, &entry, asked).await;
        // Before anything of it is written down or told.
        let redaction = self.scope.redaction();
        let result = result
            .map(|value| redaction.value(value))
            .map_err(|failure| redaction.failure(failure));
        let (result, _room) = match self.holds(Bound::Memory) {
            true => with_room_to_record(result),
            false => (result, None),
        };
        span::gave(span, result.as_ref().ok());
        let duration = began.elapsed();
        let ended = (result.as_ref(), duration, given.into_inner());
        self.record(ctx, caller, &request, ended).await?;
        let id = request.id;
        result.map(|value| Done { id, value }).map_err(Error::Call)
    }

    /// The tool that is called. One that a tool server brings is waited for, and where it is away, that is why there is
    /// none; an agent that may not call it is not told so.
    async fn find(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        name: &String,
    ) -> Result<Arc<Entry>, Denial> {
        let listed = self.lists(caller, name);
        if listed {
            self.settled(ctx, std::slice::from_ref(name)).await;
        }
        self.entry(name).ok_or_else(|| {
            let absence = if self.registry.is_of_users(name) {
                self.own.get().and_then(|own| own.absence_of_own(name))
            } else {
                self.registry.absence_for(self.user, name)
            };
            let absence = absence.filter(|_| listed);
            absence.map_or_else(Denial::of_list, |why| Denial::new("agent_list", why))
        })
    }

    /// Sends a call through the layers.
    fn judge(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        entry: &Entry,
    ) -> Result<Passed, Denial> {
        let mut case = Case::new(ctx, caller, request, entry, &self.begun);
        for layer in self.layers {
            layer(self, &mut case)?;
        }
        Ok(case.passed)
    }

    async fn deny(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        denial: Denial,
    ) -> Error {
        metrics::counter!("netra_tool_calls_denied_total", "layer" => denial.layer).increment(1);
        let reason = cut_text(&denial.reason, MAX_MESSAGE_BYTES);
        let kind = EventKind::ToolDenied {
            tool_call_id: request.id,
            tool_name: cut_text(&request.name, 256),
            layer: denial.layer.into(),
            reason: reason.clone(),
        };
        let mut audit = audit_of_call(request.id, &request.name, caller.agent, "denied");
        audit.details["layer"] = json!(denial.layer);
        let failure = match denial.ends_run {
            Some(code) => Failure::new(code, reason),
            None => {
                let mut details = json!({ "layer": denial.layer });
                if let Some(until) = denial.until {
                    details["retry_at"] = json!(until);
                }
                Failure::new(ErrorCode::ToolDenied, reason).with_details(details)
            }
        };
        let ended = Ended {
            tool_call_id: request.id,
            tool_name: request.name.clone(),
            result: None,
            error: Some(failure),
            ends_run: denial.ends_run.is_some(),
        };
        let changes = Changes {
            journal: vec![entry(caller, request, JournalKind::ToolEnded, json!(ended))],
            audit: vec![audit],
            ..Changes::default()
        };
        match self.commit(ctx, caller, changes, kind).await {
            Err(error) => error,
            // A denial has no result.
            Ok(()) => ended.outcome().err().unwrap_or(Error::Waiting),
        }
    }

    async fn announce(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        rated: Option<Box<RatedCall>>,
    ) -> Result<(), Error> {
        let kind = EventKind::ToolExecuting {
            tool_call_id: request.id,
            tool_name: request.name.clone(),
            arguments: shorten(&request.arguments, MAX_ARGUMENT_BYTES),
            purpose: request
                .purpose
                .as_deref()
                .map(|text| cut_text(text, MAX_MESSAGE_BYTES)),
        };
        let begun = entry(
            caller,
            request,
            JournalKind::ToolBegun,
            begun(request.id, &request.name, request.past.begun + 1),
        );
        let changes = Changes {
            journal: vec![begun],
            rated,
            ..Changes::default()
        };
        let emissions = vec![caller.emission(kind)];
        self.commit_rated(ctx, caller, request, changes, emissions)
            .await
    }

    /// Runs the tool until it ends, its time is over, or the call is cancelled. A panic in it is
    /// its failure.
    async fn perform(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        entry: &Entry,
        (request, arguments, given, place): Asked<'_>,
    ) -> Result<Value, Failure> {
        let limit = Duration::from_millis(ctx.limits().map_or(0, |limits| limits.tool_call_ms));
        let allowed = if self.holds(Bound::Time) {
            limit
        } else {
            Duration::MAX
        };
        let ctx = ctx.child(format!("tool {}", request.name)).within(limit);
        let ctx = ctx.at(place);
        let call = Call {
            ctx: &ctx,
            id: request.id,
            arguments,
            scope: &self.scope,
            caller,
            key: &request.past.key,
            made: AtomicU32::new(0),
            given,
        };
        let work = AssertUnwindSafe(entry.tool.call(call)).catch_unwind();
        let result = tokio::select! {
            biased;
            () = ctx.cancel_token().cancelled() => {
                return Err(Failure::new(ErrorCode::Cancelled, "the call was cancelled"));
            }
            result = tokio::time::timeout(allowed, work) => result,
        };
        match result {
            Err(_) => {
                let words = format!("the call took longer than {} ms", limit.as_millis());
                Err(Failure::new(ErrorCode::ToolTimeout, words))
            }
            Ok(Err(_)) => {
                tracing::error!(tool.name = request.name, "a tool panicked");
                Err(Failure::new(
                    ErrorCode::ToolFailed,
                    "the tool failed by a defect of its own",
                ))
            }
            Ok(Ok(Err(failure))) => Err(failure),
            Ok(Ok(Ok(value)))
                if self.holds(Bound::Output) && bytes_of(&value) > MAX_TOOL_RESULT_BYTES =>
            {
                let words = format!("the result is larger than {MAX_TOOL_RESULT_BYTES} bytes");
                Err(Failure::new(ErrorCode::ToolFailed, words))
            }
            Ok(Ok(Ok(value))) => Ok(value),
        }
    }

    async fn record(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        (result, duration, given): (Result<&Value, &Failure>, Duration, Vec<String>),
    ) -> Result<(), Error> {
        let outcome = if result.is_ok() {
            "completed"
        } else {
            "failed"
        };
        let name = request.name.clone();
        let label = label(&name).to_owned();
        metrics::counter!("netra_tool_calls_total", "tool" => label.clone(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("netra_tool_call_seconds", "tool" => label)
            .record(duration.as_secs_f64());
        let ended = Ended {
            tool_call_id: request.id,
            tool_name: name.clone(),
            result: result.ok().cloned(),
            error: result.err().cloned(),
            ends_run: false,
        };
        let mut audit = audit_of_call(request.id, &name, caller.agent, outcome);
        if !given.is_empty() {
            audit.details["secrets"] = json!(given);
        }
        let changes = Changes {
            journal: vec![entry(caller, request, JournalKind::ToolEnded, json!(ended))],
            audit: vec![audit],
            ..Changes::default()
        };
        self.commit(ctx, caller, changes, completed(request, result, duration))
            .await
    }

    async fn commit(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        changes: Changes,
        kind: EventKind,
    ) -> Result<(), Error> {
        let emissions = vec![caller.emission(kind)];
        self.commit_all(ctx, changes, emissions).await
    }

    pub(crate) async fn commit_all(
        &self,
        ctx: &UserExecutionContext,
        changes: Changes,
        emissions: Vec<Emission>,
    ) -> Result<(), Error> {
        let committed = self.scope.emitter().commit(ctx, changes, emissions).await;
        committed.map(drop).map_err(unrecorded)
    }

    /// Commits what is refused where the user's rate has no room for the call.
    pub(crate) async fn commit_rated(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        changes: Changes,
        emissions: Vec<Emission>,
    ) -> Result<(), Error> {
        match self.scope.emitter().commit(ctx, changes, emissions).await {
            Ok(_) => Ok(()),
            Err(netra_store::Error::RateExceeded { rate, until }) => {
                let denial = Denial::of_rate(rate, until);
                // In a box: what is rare is not to make every run larger.
                Err(Box::pin(self.deny(ctx, caller, request, denial)).await)
            }
            Err(error) => Err(unrecorded(error)),
        }
    }
}

fn unrecorded(error: netra_store::Error) -> Error {
    let words = format!("the tool call cannot be recorded: {error}");
    Error::Run(Failure::new(ErrorCode::Internal, words))
}

/// The result together with the room for writing it down, which takes two more of it as values and two as texts; a
/// failure where the user has no memory left for that.
fn with_room_to_record(
    result: Result<Value, Failure>,
) -> (Result<Value, Failure>, Option<Reservation>) {
    let Ok(value) = &result else {
        return (result, None);
    };
    match memory::reserve(2 * (held_by(value) + bytes_of(value))) {
        Ok(room) => (result, Some(room)),
        Err(over) => {
            let words = format!("no memory is left for the result: {over}");
            let failure = Failure::new(ErrorCode::MemoryLimitExceeded, words);
            (Err(failure), None)
        }
    }
}

pub(crate) fn entry(
    caller: &Caller<'_>,
    request: &Request,
    kind: JournalKind,
    value: Value,
) -> JournalEntry {
    JournalEntry {
        key: request.past.key.clone(),
        kind,
        step: caller.step,
        value,
    }
}

fn completed(request: &Request, result: Result<&Value, &Failure>, duration: Duration) -> EventKind {
    let error = result.err().map(|failure| Failure {
        code: failure.code,
        message: cut_text(&failure.message, MAX_MESSAGE_BYTES),
        details: failure
            .details
            .as_ref()
            .map(|details| shorten(details, MAX_ARGUMENT_BYTES)),
    });
    let (short, bytes) = match result {
        Ok(value) => (shorten(value, MAX_RESULT_BYTES), bytes_of(value)),
        Err(_) => (Value::Null, 0),
    };
    EventKind::ToolCompleted {
        tool_call_id: request.id,
        tool_name: request.name.clone(),
        success: result.is_ok(),
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        result: short,
        result_bytes: bytes as u64,
        error,
    }
}

/// The audit record of a call: who it was for is in the context, arguments are not in it.
pub fn audit_of_call(
    id: ToolCallId,
    tool: &str,
    agent: &str,
    outcome: &'static str,
) -> AuditRecord {
    AuditRecord {
        action: "tool.call",
        object: id.to_string(),
        outcome,
        details: json!({ "tool_name": cut_text(tool, 256), "agent": agent }),
    }
}
