//! The layers that a call passes before it runs: each a function that says no, or nothing. Which there are, and in which
//! order, is one list.

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;

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
    /// What the commit that begins the call, or asks for it, is to count.
    pub(crate) rated: Option<Box<RatedCall>>,
    /// What the person has said, or is to be asked.
    pub(crate) consent: Consent,
}

impl<'a> Case<'a> {
    pub(crate) fn new(
        ctx: &'a UserExecutionContext,
        caller: &'a Caller<'a>,
        request: &'a Request,
        entry: &'a Entry,
    ) -> Self {
        Self {
            ctx,
            caller,
            request,
            entry,
            asks: None,
            rates: Vec::new(),
            rated: None,
            consent: Consent::Given,
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

fn limits(dispatcher: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let allowed = case.ctx.limits().map_or(0, |limits| limits.tool_calls);
    let begun = dispatcher.begun();
    let one_more = |begun: u32| (begun < allowed).then_some(begun + 1);
    match begun.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
        Ok(_) => Ok(()),
        Err(_) => {
            let reason = format!("the run may make {allowed} tool calls, and has made them");
            Err(Denial {
                ends_run: Some(ErrorCode::ToolCallLimitExceeded),
                ..Denial::new("limits", reason)
            })
        }
    }
}

/// Leaves what is to be counted to the commit that begins the call, where it is counted or the call refused. A call that
/// was begun before the server stopped was counted then, unless a person has made another call of it.
fn rate(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    let past = &case.request.past;
    let counted = past.unknown && past.edited().is_none();
    let permissions = std::mem::take(&mut case.rates);
    if !counted && !permissions.is_empty() {
        case.rated = Some(Box::new(RatedCall {
            tool: case.request.name.clone(),
            permissions,
            begins: true,
        }));
    }
    Ok(())
}

/// A call that a person is asked for counts when it begins; so far it is only looked at whether there is room.
fn approval(_: &Dispatcher, case: &mut Case<'_>) -> Result<(), Denial> {
    case.consent = Consent::of(case.entry, case.request, case.asks.take())?;
    if let (Consent::Wanted(_), Some(rated)) = (&case.consent, &mut case.rated) {
        rated.begins = false;
    }
    Ok(())
}
