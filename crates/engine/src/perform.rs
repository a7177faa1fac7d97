//! How each kind of agent works.

mod ask;
mod call;
mod echo;
mod history;
mod images;
mod model;
mod script;

use netra_protocol::error::ErrorCode;

use crate::agents::Body;
use crate::execution::{Fault, Finished, Frame};

/// Lets the agent of this frame work until it has a result that fits its schema, or fails. What
/// it began and did not end when it fails is closed by whoever ends the agent.
pub(crate) async fn perform(frame: &Frame<'_>) -> Result<Finished, Fault> {
    let finished = match &frame.agent.body {
        Body::Echo => Box::pin(echo::perform(frame)).await?,
        Body::Model { .. } => Box::pin(model::perform(frame)).await?,
        Body::Script { file, code } => Box::pin(script::perform(frame, file, code)).await?,
        Body::Broken => {
            return Err(Fault::agent(
                ErrorCode::AgentFailed,
                "the agent cannot be read",
            ));
        }
    };
    if let Some(output) = &frame.agent.output {
        let misfits = output.misfits(&finished.result);
        if !misfits.is_empty() {
            return Err(model::invalid(misfits));
        }
    }
    Ok(finished)
}
