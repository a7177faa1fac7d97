//! The layer of a person: which calls one is asked for, how that is asked, and what the answer means.

use netra_context::UserExecutionContext;
use netra_events::Emission;
use netra_protocol::approval::{Approval, ApprovalState, Decision};
use netra_protocol::event::EventKind;
use netra_protocol::id::ApprovalId;
use netra_protocol::run::RunStatus;
use netra_store::{Ask, Changes, Hold, JournalKind, RatedCall, RunUpdate};
use serde_json::json;

use crate::dispatcher::{Caller, Dispatcher, Error, MAX_ARGUMENT_BYTES, Request, entry};
use crate::layers::Denial;
use crate::rest::Question;
use crate::shelf::Entry;
use crate::short::shorten;

/// The layer's name.
const LAYER: &str = "approval";
/// Why a person is asked after a crash.
const UNKNOWN: &str = "the call was begun before the server stopped, and nobody knows whether it did its work; \
                       approve to make it again";

/// What the layer says of a call that it does not refuse.
pub(crate) enum Consent {
    /// Nobody is to be asked, or the answer was yes.
    Given,
    /// A person is to be asked, for this reason.
    Wanted(String),
}

impl Consent {
    /// `asks` is why the policy wants a person to be asked. An answer holds for the call that it was given to,
    /// whatever the policy says by then.
    pub(crate) fn of(
        tool: &Entry,
        request: &Request,
        asks: Option<String>,
    ) -> Result<Self, Denial> {
        match &request.past.answer {
            Some(answer) if answer.decision == Decision::Approve => return Ok(Self::Given),
            Some(answer) => {
                let words = answer.note.as_deref();
                let words = words.unwrap_or("a person did not allow the call");
                return Err(Denial::new(LAYER, words));
            }
            None => {}
        }
        let unknown = request.past.is_unknown() && !tool.tool.spec().idempotent;
        let reason = if unknown {
            Some(UNKNOWN.to_owned())
        } else {
            asks
        };
        Ok(reason.map_or(Self::Given, Self::Wanted))
    }
}

impl Dispatcher {
    /// Asks a person, when no part of the run works any more: question and waiting are one commit. Asked
    /// again while the answer is open, the run just waits on.
    pub(crate) async fn ask(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        reason: &str,
        rated: Option<Box<RatedCall>>,
    ) -> Error {
        let question = if request.past.asked.is_some() {
            None
        } else {
            // Nobody is asked for a call that its rate has no room for. It is counted when it begins.
            let look = Changes {
                rated,
                ..Changes::default()
            };
            if look.rated.is_some()
                && let Err(refused) = self
                    .commit_rated(ctx, caller, request, look, Vec::new())
                    .await
            {
                return refused;
            }
            Some(self.question(ctx, caller, request, reason))
        };
        let Some(questions) = self.rest().with(question).await else {
            return Error::Waiting;
        };
        let mut changes = Changes {
            run: Some(RunUpdate {
                hold: Some(Hold::Released),
                ..RunUpdate::to(RunStatus::Waiting)
            }),
            ..Changes::default()
        };
        let mut emissions = Vec::new();
        for question in questions {
            emissions.push(question.emission);
            changes.journal.push(question.entry);
            changes.asks.push(question.ask);
        }
        emissions.push(Emission::of_run(EventKind::RunWaiting {
            reason: LAYER.to_owned(),
        }));
        match self.commit_all(ctx, changes, emissions).await {
            Ok(()) => Error::Waiting,
            Err(error) => error,
        }
    }

    fn question(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        reason: &str,
    ) -> Question {
        let approval = self.approval(ctx, request, reason);
        let requested = EventKind::ApprovalRequested {
            approval_id: approval.id,
            tool_call_id: approval.tool_call_id,
            arguments: shorten(&approval.arguments, MAX_ARGUMENT_BYTES),
            expires_at: approval.expires_at,
        };
        let asked = json!({ "approval_id": approval.id, "tool_call_id": request.id });
        Question {
            emission: caller.emission(requested),
            entry: entry(caller, request, JournalKind::Asked, asked),
            ask: Ask {
                approval,
                agent: caller.agent.to_owned(),
                step: caller.step,
                key: request.past.key.clone(),
            },
        }
    }

    fn approval(&self, ctx: &UserExecutionContext, request: &Request, reason: &str) -> Approval {
        let runtime = ctx.runtime();
        let ttl = ctx.limits().map_or(0, |limits| limits.approval_ttl_ms);
        Approval {
            id: runtime.new_id(ApprovalId::from_parts),
            run_id: self.scope().emitter().run().id,
            tool_call_id: request.id,
            tool_name: request.name.clone(),
            arguments: request.arguments.clone(),
            reason: reason.to_owned(),
            state: ApprovalState::Pending,
            expires_at: runtime
                .now()
                .plus_millis(i64::try_from(ttl).unwrap_or(i64::MAX)),
        }
    }
}
