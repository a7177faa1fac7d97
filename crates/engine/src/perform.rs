//! How each kind of agent works.

mod answerer;
mod ask;
pub(crate) mod code_calls;
mod history;
mod http;
mod images;
mod model;
pub(crate) mod native;
mod script;
pub(crate) mod state;
mod wish;

pub(crate) use self::ask::Answer;

use netra_protocol::error::ErrorCode;
use serde_json::Value;

use crate::agents::Body;
use crate::execution::{Fault, Finished, Frame};
use crate::message;

/// Makes the first of these fields that the result has as a text the assistant's message, where the agent
/// is one that speaks to the user.
async fn say(frame: &Frame<'_>, finished: &mut Finished, fields: &[&str]) -> Result<(), Fault> {
    let text = |field: &&str| finished.result.get(field).and_then(Value::as_str);
    if let Some(text) = fields.iter().find_map(text).filter(|_| frame.speaks) {
        let whole = message::write_whole(frame, text).await?;
        finished.last.emissions.push(whole.emission);
        finished.last.messages.push(whole.row);
    }
    Ok(())
}

/// Lets the agent of this frame work until it has a result that fits its schema, or fails. What
/// it began and did not end when it fails is closed by whoever ends the agent.
pub(crate) async fn perform(frame: &Frame<'_>) -> Result<Finished, Fault> {
    of_body(frame).await.map_err(Fault::of_agent)
}

async fn of_body(frame: &Frame<'_>) -> Result<Finished, Fault> {
    let finished = match &frame.agent.body {
        Body::Native(native) => native::perform(frame, &*native.0).await?,
        Body::Model { .. } => Box::pin(model::perform(frame)).await?,
        Body::Script { file, code } => Box::pin(script::perform(frame, file, code)).await?,
        Body::Http(endpoint) => Box::pin(http::perform(frame, endpoint)).await?,
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
