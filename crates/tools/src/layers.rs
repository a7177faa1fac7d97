//! The layers that a call passes before it runs: each a function that says no, or nothing. Which there are, and in which
//! order, is one list.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use netra_context::UserExecutionContext;
use netra_protocol::Timestamp;
use netra_protocol::error::ErrorCode;
use netra_store::{Rate, RatedCall};

use crate::consent::Consent;
use crate::dispatcher::{Caller, Dispatcher, Request};
use crate::policy::{Decided, Verdict};
use crate::shelf::Entry;

/// One layer. What it finds out for those after it, it writes into the case.
pub(crate) type Layer = fn(&Dispatcher, &mut Case<'_>) -> Result<(), Denial>;

/// All of them, in order: each later one may rely on those before it.
pub(crate) const LAYERS: &[Layer] = &[agent_list, policy, schema, limits, rate, approval];

/// Why a call is not made.
pub(crate) struct Denial {
    pub(crate) layer: &'static str,
    pub(crate) reason: String,
    /// Whether the run ends of it.
    pub(crate) ends_run: Option<ErrorCode>,
    /// When it would not be refused any more, where that is known.
    pub(crate) until: Option<Timestamp>,
}

impl Denial {
    pub(crate) fn new(layer: &'static str, reason: impl Into<String>) -> Self {
        Self {
            layer,
            reason: reason.into(),
            ends_run: None,
            until: None,
        }
    }

    /// An agent is told the same of a tool that it does not have and of one that there is not.
    pub(crate) fn of_list() -> Self {
        Self::new("agent_list", "the agent has no tool of this name")
    }

    /// What the rate says in the end, in the commit that would begin the call.
    pub(crate) fn of_rate(rate: Rate, until: Timestamp) -> Self {
        let reason = format!("a user may call this tool {rate}, and has; try again at {until}");
        Self {
            until: Some(until),
            ..Self::new("rate", reason)
        }
    }
}

/// One of the calls that a run may make. It goes back where the call does not begin.
#[derive(Default)]
pub(crate) struct Room(Option<Arc<AtomicU32>>);

impl Room {
    fn take(begun: &Arc<AtomicU32>, allowed: u32) -> Option<Self> {
        let one_more = |begun: u32| (begun < allowed).then_some(begun + 1);
        let taken = begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Self(Some(Arc::clone(begun))))
    }

    /// Uses it up, where the call begins. So does whoever lets go of this: the commit may be on its way.
    pub(crate) async fn begin<T, E>(
        mut self,
        begins: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let used = self.0.take();
        let result = begins.await;
        if result.is_err() {
            self.0 = used;
        }
        result
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(begun) = &self.0 {
            begun.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What the layers leave of a call that none of them has refused.
pub(crate) struct Passed {
    pub(crate) room: Room,
    /// What the commit that begins the call, or asks for it, is to count.
    pub(crate) rated: Option<Box<RatedCall>>,
    /// What the person has said, or is to be asked.
    pub(crate) consent: Consent,
}

/// A call on its way through the layers.
pub(crate) struct Case<'a> {
    pub(crate) ctx: &'a UserExecutionContext,
    pub(crate) caller: &'a Caller<'a>,
    pub(crate) request: &'a Request,
    pub(crate) entry: &'a Entry,
    /// Why a person is to be asked, where the policy wants that.
    asks: Option<String>,
    /// How often the call may be made, as the policy gives it.
    rates: Vec<Vec<Rate>>,
    /// How many calls of the run have begun.
    begun: &'a Arc<AtomicU32>,
    pub(crate) passed: Passed,
}

impl<'a> Case<'a> {
    pub(crate) fn new(
        ctx: &'a UserExecutionContext,
        caller: &'a Caller<'a>,
        request: &'a Request,
        entry: &'a Entry,
        begun: &'a Arc<AtomicU32>,
    ) -> Self {
        Self {
            ctx,
            caller,
            request,
            entry,
            asks: None,
            rates: Vec::new(),
            begun,
            passed: Passed {
                room: Room::default(),
                rated: None,
                consent: Consent::Given,
            },
        }
    }
}

fn agent_list(dispatcher: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let listed = dispatcher.lists(case.caller, &case.request.name);
    listed.then_some(()).ok_or_else(Denial::of_list)
}

fn policy(dispatcher: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let (spec, arguments) = (case.entry.tool.spec(), &case.request.arguments);
    let Decided { verdict, rates } =
        dispatcher
            .policy()
            .decide(case.ctx, case.caller.agent, spec, arguments);
    case.rates = rates;
    case.asks = match verdict {
        Verdict::Allowed => None,
        Verdict::AfterApproval(reason) => Some(reason),
        Verdict::Refused(reason) => return Err(Denial::new("policy", reason)),
    };
    Ok(())
}

fn schema(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    match case.entry.misfits(&case.request.arguments) {
        None => Ok(()),
        Some(misfits) => {
            let reason = format!("the arguments do not fit the tool's schema: {misfits}");
            Err(Denial::new("schema", reason))
        }
    }
}

fn limits(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let past = &case.request.past;
    // That one is not made: it needs no room, and must not end the run for want of it.
    if past.is_refused() {
        return Ok(());
    }
    let allowed = case.ctx.limits().map_or(0, |limits| limits.tool_calls);
    // One that a crash has cut off was let in before. That it is made again counts, and is not refused.
    let room = match past.is_unknown() {
        true => Room::take(case.begun, u32::MAX),
        false => Room::take(case.begun, allowed),
    };
    case.passed.room = room.ok_or_else(|| Denial {
        ends_run: Some(ErrorCode::ToolCallLimitExceeded),
        ..Denial::new(
            "limits",
            format!("the run may make {allowed} tool calls, and has made them"),
        )
    })?;
    Ok(())
}

/// Leaves what is to be counted to the commit that begins the call, where it is counted or the call refused. A call that
/// was begun before the server stopped was counted then, unless a person has made another call of it.
fn rate(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let past = &case.request.past;
    let counted = past.is_unknown() && past.edited().is_none();
    let permissions = std::mem::take(&mut case.rates);
    if !counted && !permissions.is_empty() {
        case.passed.rated = Some(Box::new(RatedCall {
            tool: case.request.name.clone(),
            permissions,
            begins: true,
        }));
    }
    Ok(())
}

/// A call that a person is asked for counts when it begins; so far it is only looked at whether there is room.
fn approval(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let passed = &mut case.passed;
    passed.consent = Consent::of(case.entry, case.request, case.asks.take())?;
    if let (Consent::Wanted(_), Some(rated)) = (&passed.consent, &mut passed.rated) {
        rated.begins = false;
    }
    Ok(())
}
