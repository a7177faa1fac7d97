//! A compiled-in agent at work. Its code may let go of a call, make several at once in its own way, or go on
//! after it was told to stop; the run is in order all the same.

use netra_protocol::error::{ErrorCode, Failure};
use netra_tools::Rest;
use parking_lot::Mutex;
use serde_json::Value;

use super::code_calls::{self, Call};
use super::say;
use crate::execution::{Fault, Finished, Frame};
use crate::native::{Agent, Work};

pub(super) async fn perform(frame: &Frame<'_>, agent: &dyn Agent) -> Result<Finished, Fault> {
    let desk = Desk::default();
    let outcome = agent.run(Work::of(frame, &desk)).await;
    desk.clear(frame).await?;
    let mut finished = Finished::new(outcome.map_err(|stopped| stopped.0)?);
    say(frame, &mut finished, &["report_markdown", "text"]).await?;
    Ok(finished)
}

/// What a compiled-in agent has asked for.
#[derive(Default)]
pub(crate) struct Desk(Mutex<State>);

#[derive(Default)]
struct State {
    /// How many of its calls are at work.
    at_work: usize,
    /// The keys of those that have no answer yet.
    open: Vec<String>,
    /// Why the run cannot go on; whatever the agent makes of it.
    fault: Option<Fault>,
}

impl Desk {
    /// Does one thing.
    pub(crate) async fn answer(&self, frame: &Frame<'_>, call: Call) -> Result<Value, Fault> {
        let (asked, mut keys) = self.ask(frame, 1)?;
        let key = keys.pop().unwrap_or_default();
        let answered = code_calls::answer_as(frame, key, call).await;
        asked.answered(answered.as_ref().err());
        answered
    }

    /// Does several things at once, and gives what came of each, in their order.
    pub(crate) async fn together(
        &self,
        frame: &Frame<'_>,
        calls: Vec<Call>,
    ) -> Result<Vec<Result<Value, Failure>>, Fault> {
        let (asked, keys) = self.ask(frame, calls.len())?;
        let calls = keys.into_iter().zip(calls).collect();
        let answered = code_calls::together_as(frame, calls).await;
        asked.answered(answered.as_ref().err());
        answered
    }

    /// Begins with so many operations. Beside others of the agent it is one more part of the run at work.
    fn ask<'a>(
        &'a self,
        frame: &Frame<'a>,
        operations: usize,
    ) -> Result<(Asked<'a>, Vec<String>), Fault> {
        let mut state = self.0.lock();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let rest = frame.rest();
        if !rest.begun(usize::from(state.at_work > 0)) {
            return Err(Fault::Waiting);
        }
        state.at_work += 1;
        let keys: Vec<String> = (0..operations).map(|_| frame.next_key()).collect();
        state.open.extend_from_slice(&keys);
        let asked = Asked {
            desk: self,
            rest,
            keys: keys.clone(),
            waits: false,
        };
        Ok((asked, keys))
    }

    /// Closes what the agent has let go of. Fails with what the run could not go on for.
    async fn clear(self, frame: &Frame<'_>) -> Result<(), Fault> {
        let State { open, fault, .. } = self.0.into_inner();
        match fault {
            Some(fault) => Err(fault),
            None if frame.rest().is_asked() => Err(Fault::Waiting),
            None if open.is_empty() => Ok(()),
            None => {
                let words = "the agent let go of the call, and its end is not known";
                let failure = Failure::new(ErrorCode::OutcomeUnknown, words);
                Box::pin(frame.end_within(&open, &failure)).await
            }
        }
    }
}

/// Operations that the agent has asked for. Dropped without an answer they stay open on the desk.
struct Asked<'a> {
    desk: &'a Desk,
    rest: &'a Rest,
    keys: Vec<String>,
    /// A person has been asked, and all of the run rests.
    waits: bool,
}

impl Asked<'_> {
    fn answered(mut self, fault: Option<&Fault>) {
        let mut state = self.desk.0.lock();
        match fault {
            Some(fault @ (Fault::Run(_) | Fault::Waiting)) => {
                state.fault.get_or_insert_with(|| fault.clone());
                self.waits = *fault == Fault::Waiting;
            }
            Some(Fault::Agent(_)) | None => state.open.retain(|key| !self.keys.contains(key)),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.0.lock();
        state.at_work -= 1;
        // The last one leaves its part to the agent itself.
        if state.at_work > 0 && !self.waits {
            self.rest.ended(1);
        }
    }
}
