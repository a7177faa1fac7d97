//! The calls that a model wants in one answer: tools, sub-agents, a handoff.

use netra_model::{Arguments, Message as Said, ToolCall};
use netra_protocol::ErrorCode;
use netra_protocol::error::Failure;
use netra_protocol::id::ToolCallId;
use netra_tools::shorten;
use serde_json::{Value, json};

use super::offer::Target;
use crate::execution::{Fault, Frame, task_of};
use crate::sub_agent::Errand;
use crate::together::together;

/// The most of a result that a model gets, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 48 * 1024;

/// What came of the calls.
pub(super) enum Outcome {
    /// What the model is told of them, in their order.
    Told(Vec<Said>),
    /// The agent's result: it has handed over, or a tool was called after which it stops.
    Ended {
        result: Value,
        /// Whether the user has been told already.
        told: bool,
    },
}

/// Makes the calls of one answer. Neighbours that may be made beside each other are; the others come one
/// after the other. A call that fails is an answer too.
pub(super) async fn make(
    frame: &Frame<'_>,
    calls: Vec<(ToolCallId, ToolCall)>,
    said: &[Said],
) -> Result<Outcome, Fault> {
    let hands_over = |(_, call): &(ToolCallId, ToolCall)| {
        matches!(Target::of(frame.agent, &call.name), Target::Handoff(_))
    };
    if let [(_, call)] = &calls[..]
        && let Target::Handoff(to) = Target::of(frame.agent, &call.name)
    {
        return hand_over(frame, to, call, said).await;
    }
    let mut all = Vec::with_capacity(calls.len());
    let mut beside = Vec::new();
    for one in calls {
        let alone = hands_over(&one);
        let (id, call) = one;
        let wanted = Wanted {
            key: frame.next_key(),
            id,
            call,
        };
        if alone {
            let words = "the conversation is handed over by a call that stands alone";
            beside.push(wanted.make(frame, Some(words)));
        } else if wanted.goes_beside(frame) {
            beside.push(wanted.make(frame, None));
        } else {
            all.extend(together(frame.rest(), std::mem::take(&mut beside)).await?);
            all.push(wanted.make(frame, None).await?);
        }
    }
    all.extend(together(frame.rest(), beside).await?);
    let stop = all.iter_mut().find_map(|made| made.stops.take());
    Ok(match stop {
        Some(value) => Outcome::Ended {
            result: of_tool(value),
            told: false,
        },
        None => Outcome::Told(all.into_iter().map(|made| made.said).collect()),
    })
}

/// A result of a tool as the result of an agent, which is an object.
fn of_tool(value: Value) -> Value {
    match value {
        Value::Object(_) => value,
        Value::String(text) => json!({ "text": text }),
        other => json!({ "result": other }),
    }
}

/// A call that the model wants.
struct Wanted {
    key: String,
    id: ToolCallId,
    call: ToolCall,
}

/// A call that was made.
struct Made {
    said: Said,
    /// What it gave, where the agent stops after it.
    stops: Option<Value>,
}

impl Wanted {
    fn goes_beside(&self, frame: &Frame<'_>) -> bool {
        let (agent, name) = (&frame.agent.name, &self.call.name);
        match Target::of(frame.agent, name) {
            // What it calls is held apart where that has to be.
            Target::Agent(_) => true,
            _ => {
                let arguments = arguments(&self.call.arguments);
                let dispatcher = &frame.execution.dispatcher;
                dispatcher.goes_beside(frame.ctx, agent, name, &arguments)
            }
        }
    }

    /// Makes the call, unless it is refused in these words.
    async fn make(self, frame: &Frame<'_>, refused: Option<&str>) -> Result<Made, Fault> {
        let Self { key, id, call } = self;
        let given = match refused {
            Some(words) => Err(Fault::agent(ErrorCode::InvalidRequest, words)),
            None => match Target::of(frame.agent, &call.name) {
                Target::Agent(agent) => call_agent(frame, key, agent, &call.arguments).await,
                _ => {
                    let arguments = arguments(&call.arguments);
                    let done = frame.call_tool(key, id, &call.name, arguments).await;
                    done.map(|done| done.value)
                }
            },
        };
        let (content, stops) = match given {
            Ok(value) => {
                let content = shorten(&value, MAX_RESULT_BYTES).to_string();
                let stops = frame.agent.conduct.stop_after_tool.contains(&call.name);
                (content, stops.then_some(value))
            }
            Err(Fault::Agent(failure)) => (failed(&failure), None),
            Err(fault) => return Err(fault),
        };
        Ok(Made {
            said: Said::ToolResult {
                tool_call_id: call.id,
                content,
            },
            stops,
        })
    }
}

/// What a model is told of a call that failed.
fn failed(failure: &Failure) -> String {
    json!({ "error": { "code": failure.code, "message": failure.message } }).to_string()
}

/// The arguments as the model wrote them.
pub(super) fn arguments(given: &Arguments) -> Value {
    match given {
        Arguments::Json(value) => value.clone(),
        Arguments::Invalid(text) => Value::String(text.clone()),
    }
}

async fn call_agent(
    frame: &Frame<'_>,
    key: String,
    agent: &str,
    given: &Arguments,
) -> Result<Value, Fault> {
    let Arguments::Json(input) = given else {
        let words = "the arguments are not JSON";
        return Err(Fault::agent(ErrorCode::InvalidInput, words));
    };
    let errand = Errand {
        key,
        parent_step: frame.step(),
        agent,
        input: input.clone(),
        conversation: None,
    };
    Box::pin(frame.let_work(errand)).await
}

/// Lets another agent take the conversation over; what it gives is this one's result too.
async fn hand_over(
    frame: &Frame<'_>,
    to: &str,
    call: &ToolCall,
    said: &[Said],
) -> Result<Outcome, Fault> {
    let given = arguments(&call.arguments);
    let note = given.get("message").and_then(Value::as_str);
    let from = &frame.agent.name;
    let words = match note {
        Some(note) => format!("[handed over by {from}: {note}]"),
        None => format!("[handed over by {from}]"),
    };
    let mut conversation: Vec<Said> = said.iter().filter_map(spoken).collect();
    conversation.push(Said::user(words));
    let errand = Errand {
        key: frame.next_key(),
        parent_step: frame.step(),
        agent: to,
        input: Value::String(note.map_or_else(|| task_of(&frame.input), str::to_owned)),
        conversation: Some(conversation),
    };
    match Box::pin(frame.let_work(errand)).await {
        Ok(result) => Ok(Outcome::Ended { result, told: true }),
        Err(Fault::Agent(failure)) => Ok(Outcome::Told(vec![Said::ToolResult {
            tool_call_id: call.id.clone(),
            content: failed(&failure),
        }])),
        Err(fault) => Err(fault),
    }
}

/// What another agent gets of what was said: the words. Calls of tools make sense only to who has them.
fn spoken(said: &Said) -> Option<Said> {
    match said {
        Said::User { .. } => Some(said.clone()),
        Said::Assistant { text, .. } if !text.is_empty() => Some(Said::Assistant {
            text: text.clone(),
            tool_calls: Vec::new(),
            keepsake: None,
        }),
        _ => None,
    }
}
