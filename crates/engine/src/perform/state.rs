//! What a script keeps from run to run in its thread: read when it begins, and written with its end.

use netra_protocol::error::ErrorCode;
use netra_store::{JournalEntry, JournalKind};
use netra_tools::bytes_of;
use serde_json::{Value, json};

use crate::execution::{Fault, Frame, unwritten};

/// The most of it, in bytes of JSON.
const MAX_BYTES: usize = 256 * 1024;

/// What the agent has kept in this thread; an empty dictionary at first. None for one that keeps
/// nothing.
pub(super) async fn read(frame: &Frame<'_>) -> Result<Option<Value>, Fault> {
    Ok(match &frame.kept {
        Some(kept) => Some(kept.clone()),
        None if frame.agent.keeps_state => Some(of(frame, &frame.agent.name).await?),
        None => None,
    })
}

/// What the agent of this name has kept in the thread, as this run sees it. The run's own agent finds the same in
/// each attempt: runs of a thread come one after the other, and no call within it may be of itself.
pub(crate) async fn of(frame: &Frame<'_>, agent: &str) -> Result<Value, Fault> {
    let (store, run) = (&frame.execution.infra.store, frame.execution.emitter.run());
    let kept = store.agent_state(frame.ctx, run.as_readable(), agent).await;
    let kept = kept.map_err(|error| unwritten(&error))?;
    Ok(kept.unwrap_or_else(|| json!({})))
}

/// What is to be written with the agent's end; nothing where it has not changed.
pub(super) fn entry(
    frame: &Frame<'_>,
    before: &Value,
    now: Value,
) -> Result<Option<JournalEntry>, Fault> {
    if !now.is_object() {
        let words = "the script's `state` is no dictionary any more";
        return Err(Fault::agent(ErrorCode::AgentFailed, words));
    }
    let bytes = bytes_of(&now);
    if bytes > MAX_BYTES {
        let words = format!("the script's `state` has {bytes} bytes, {MAX_BYTES} are allowed");
        return Err(Fault::agent(ErrorCode::AgentFailed, words));
    }
    let name = frame.agent.name.clone();
    Ok((*before != now).then(|| frame.entry(name, JournalKind::State, now)))
}
