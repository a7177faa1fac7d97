//! `echo`: gives the input's text back, with no model and no tools. It shows that a server works,
//! and what it costs without an agent.

use netra_protocol::ErrorCode;
use serde_json::{Value, json};

use crate::execution::{Fault, Finished, Frame};
use crate::message;

pub(super) async fn perform(frame: &Frame<'_>) -> Result<Finished, Fault> {
    let Some(text) = frame.input.get("text").and_then(Value::as_str) else {
        return Err(Fault::agent(
            ErrorCode::InvalidInput,
            "there is no text to give back",
        ));
    };
    frame.next_step()?;
    let mut finished = Finished::new(json!({ "text": text }));
    if frame.is_root() {
        let whole = message::write_whole(frame, text).await?;
        finished.last.emissions.push(whole.emission);
        finished.last.messages.push(whole.row);
    }
    Ok(finished)
}
