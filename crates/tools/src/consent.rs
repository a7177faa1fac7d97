//! The layer of a person: which calls one is asked for, how that is asked, and what the answer means.

use netra_context::UserExecutionContext;
use netra_events::Emission;
use netra_protocol::approval::{Approval, ApprovalState, Decision, ResolveApproval};
use netra_protocol::event::EventKind;
use netra_protocol::id::ApprovalId;
use netra_protocol::run::RunStatus;
use netra_store::{Ask, Changes, Hold, JournalKind, RunUpdate};
use serde_json::{Value, json};

use crate::dispatcher::{Caller, Denial, Dispatcher, Error, MAX_ARGUMENT_BYTES, Request, entry};
use crate::registry::Entry;
use crate::short::shorten;

/// The layer's name.
const LAYER: &str = "approval";

/// What the layer says of a call.
pub(crate) enum Consent {
    /// Nobody is to be asked, or the answer was yes.
    Given,
    /// The answer was yes, with other arguments.
    Edited(Value),
    Refused(Denial),
    /// A person is to be asked, for this reason.
    Wanted(&'static str),
}

impl Consent {
    pub(crate) fn of(tool: &Entry, request: &Request) -> Self {
        let spec = tool.tool.spec();
        let reason = if request.past.unknown && !spec.idempotent {
            "the call was begun before the server stopped, and nobody knows whether it did its work; \
             approve to make it again"
        } else if spec.needs_approval {
            "the tool asks a person before each call"
        } else {
            return Self::Given;
        };
        match &request.past.answer {
            None => Self::Wanted(reason),
            Some(answer) => Self::answered(tool, answer),
        }
    }

    fn answered(tool: &Entry, answer: &ResolveApproval) -> Self {
        match (answer.decision, &answer.arguments) {
            (Decision::Deny, _) => {
                let words = answer
                    .note
                    .as_deref()
                    .unwrap_or("a person did not allow the call");
                Self::Refused(Denial::new(LAYER, words))
            }
            (Decision::Approve, None) => Self::Given,
            (Decision::Approve, Some(arguments)) => match tool.misfits(arguments) {
                None => Self::Edited(arguments.clone()),
                Some(misfits) => {
                    let words = format!("the arguments do not fit the tool's schema: {misfits}");
                    Self::Refused(Denial::new("schema", words))
                }
            },
        }
    }
}

impl Dispatcher {
    /// Asks a person: question and waiting are one commit. Asked again while the answer is open,
    /// the run just waits on.
    pub(crate) async fn ask(
        &self,
        ctx: &UserExecutionContext,
        caller: &Caller<'_>,
        request: &Request,
        reason: &str,
    ) -> Error {
        let waiting = EventKind::RunWaiting {
            reason: LAYER.to_owned(),
        };
        let mut emissions = vec![Emission::of_run(waiting)];
        let mut changes = Changes {
            run: Some(RunUpdate {
                hold: Some(Hold::Released),
                ..RunUpdate::to(RunStatus::Waiting)
            }),
            ..Changes::default()
        };
        if request.past.asked.is_none() {
            let approval = self.question(ctx, request, reason);
            let requested = EventKind::ApprovalRequested {
                approval_id: approval.id,
                tool_call_id: approval.tool_call_id,
                arguments: shorten(&approval.arguments, MAX_ARGUMENT_BYTES),
                expires_at: approval.expires_at,
            };
            emissions.insert(0, caller.emission(requested));
            let asked = json!({ "approval_id": approval.id, "tool_call_id": request.id });
            changes
                .journal
                .push(entry(caller, request, JournalKind::Asked, asked));
            changes.asks.push(Ask {
                approval,
                agent: caller.agent.to_owned(),
                step: caller.step,
                key: request.past.key.clone(),
            });
        }
        match self.commit_all(ctx, changes, emissions).await {
            Ok(()) => Error::Waiting,
            Err(error) => error,
        }
    }

    fn question(&self, ctx: &UserExecutionContext, request: &Request, reason: &str) -> Approval {
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
