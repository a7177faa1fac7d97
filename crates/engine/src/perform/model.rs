//! A model agent: ask the model, run the tools that it wants, give it the results, until it answers
//! without wanting any.

use netra_context::memory::{self, OverLimit, Reservation};
use netra_model::{Arguments, ChatRequest, Message as Said, StopReason, ToolCall, ToolSpec};
use netra_protocol::ErrorCode;
use netra_protocol::id::ToolCallId;
use netra_protocol::message::Content;
use netra_store::Changes;
use netra_tools::{held_by, shorten};
use serde_json::{Value, json};

use super::ask::{Answer, Audience, ask, fault};
use super::history::conversation;
use crate::agents::Body;
use crate::execution::{Fault, Finished, Frame, unwritten};
use crate::message;

/// The most of a tool's result that a model gets, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 48 * 1024;
/// The most of a tool's arguments that stand in a message, in bytes of JSON.
const MAX_ARGUMENT_BYTES: usize = 16 * 1024;
/// How often the arguments of a call are held while it is made, besides the answer that they came in: in the
/// conversation, in the journal, by the dispatcher and by the tool.
const CALL_COPIES: usize = 4;

pub(super) async fn perform(frame: &Frame<'_>) -> Result<Finished, Fault> {
    let models = &frame.execution.infra.models;
    let model = models
        .resolve(frame.agent.model.as_deref())
        .map_err(|error| fault(&error))?;
    let mut said = conversation(frame).await?;
    let dispatcher = &frame.execution.dispatcher;
    dispatcher.settled(frame.ctx, &frame.agent.tools).await;
    let tools = tools(frame);
    let audience = if frame.is_root() {
        Audience::User
    } else {
        Audience::Agent
    };
    let mut wanted = 0;
    loop {
        let key = frame.next_key();
        frame.step_for(&key)?;
        let recorded = Answer::recorded(frame, &key);
        let is_new = recorded.is_none();
        let answer = match recorded {
            Some(answer) => answer,
            None => {
                // The request is a copy of the conversation, and what is sent is another.
                let _room = room_for(2, wanted)?;
                let request = request(frame, said.clone(), tools.clone());
                ask(frame, &model, request, audience).await?
            }
        };
        if answer.tool_calls.is_empty() {
            return Box::pin(finish(frame, key, answer)).await;
        }
        let held = held_by_calls(&answer.tool_calls);
        let _room = room_for(CALL_COPIES, held)?;
        wanted += held;
        if is_new {
            Box::pin(end_round(frame, key, &answer)).await?;
        }
        let calls = answer.call_ids.into_iter().zip(answer.tool_calls.clone());
        said.push(Said::Assistant {
            text: answer.text,
            tool_calls: answer.tool_calls,
        });
        said.extend(Box::pin(run_tools(frame, calls.collect())).await?);
    }
}

/// Sets room aside for so many copies of what is held.
fn room_for(copies: usize, held: usize) -> Result<Reservation, Fault> {
    memory::reserve(copies * held).map_err(|over| no_room(&over))
}

fn no_room(over: &OverLimit) -> Fault {
    Fault::agent(ErrorCode::MemoryLimitExceeded, over.to_string())
}

/// What the arguments of these calls hold, in bytes.
fn held_by_calls(calls: &[ToolCall]) -> usize {
    let held = |call: &ToolCall| match &call.arguments {
        Arguments::Json(value) => held_by(value),
        Arguments::Invalid(text) => text.len(),
    };
    calls.iter().map(held).sum()
}

fn request(frame: &Frame<'_>, messages: Vec<Said>, tools: Vec<ToolSpec>) -> ChatRequest {
    let mut request = ChatRequest {
        messages,
        tools,
        ..ChatRequest::default()
    };
    if let Body::Model {
        instructions,
        temperature,
        max_output_tokens,
    } = &frame.agent.body
    {
        request.system = Some(instructions.clone());
        request.temperature = *temperature;
        request.max_output_tokens = *max_output_tokens;
    }
    request
}

/// The agent's tools that this user may call: a model is not told of the others.
fn tools(frame: &Frame<'_>) -> Vec<ToolSpec> {
    let dispatcher = &frame.execution.dispatcher;
    let names = dispatcher.spelt_out(&frame.agent.tools);
    let named = names.iter().filter_map(|name| dispatcher.tool(name));
    let allowed = named.filter(|tool| {
        let offer = dispatcher.offers(frame.ctx, &frame.agent.name, tool.spec());
        offer.permits()
    });
    allowed
        .map(|tool| {
            let spec = tool.spec();
            ToolSpec {
                name: spec.name.clone(),
                description: spec.description.clone(),
                input_schema: spec.input_schema.clone(),
            }
        })
        .collect()
}

/// The end of a round in which the model wanted tools: its message and the journal, in one commit.
async fn end_round(frame: &Frame<'_>, key: String, answer: &Answer) -> Result<(), Fault> {
    let mut changes = Changes {
        journal: vec![answer.journal(frame, key)],
        ..Changes::default()
    };
    let mut emissions = Vec::new();
    if let Some(id) = answer.message_id {
        let calls = answer.call_ids.iter().zip(&answer.tool_calls);
        let wanted = calls.map(|(tool_call_id, call)| Content::ToolCall {
            tool_call_id: *tool_call_id,
            tool_name: call.name.clone(),
            arguments: shorten(&arguments(&call.arguments), MAX_ARGUMENT_BYTES),
        });
        let whole = message::complete(frame, id, &answer.text, wanted.collect()).await?;
        emissions.push(whole.emission);
        changes.messages.push(whole.row);
    }
    let committed = frame
        .execution
        .emitter
        .commit(frame.ctx, changes, emissions)
        .await;
    committed.map(drop).map_err(|error| unwritten(&error))
}

fn arguments(given: &Arguments) -> Value {
    match given {
        Arguments::Json(value) => value.clone(),
        Arguments::Invalid(text) => Value::String(text.clone()),
    }
}

/// Runs the tools that the model wants, one after the other, and gives what it is told of them. A
/// call that fails is an answer too.
async fn run_tools(
    frame: &Frame<'_>,
    calls: Vec<(ToolCallId, ToolCall)>,
) -> Result<Vec<Said>, Fault> {
    let mut told = Vec::with_capacity(calls.len());
    for (id, call) in calls {
        let (key, arguments) = (frame.next_key(), arguments(&call.arguments));
        let content = match frame.call_tool(key, id, &call.name, arguments).await {
            Ok(done) => shorten(&done.value, MAX_RESULT_BYTES).to_string(),
            Err(Fault::Agent(failure)) => {
                json!({ "error": { "code": failure.code, "message": failure.message } }).to_string()
            }
            Err(fault) => return Err(fault),
        };
        told.push(Said::ToolResult {
            tool_call_id: call.id,
            content,
        });
    }
    Ok(told)
}

/// The answer without wishes for tools: the result.
async fn finish(frame: &Frame<'_>, key: String, answer: Answer) -> Result<Finished, Fault> {
    if answer.text.is_empty() {
        let words = format!("the model gave no answer ({:?})", answer.stop);
        return Err(Fault::agent(ErrorCode::AgentFailed, words));
    }
    if answer.stop == StopReason::ContentFilter {
        return Err(Fault::agent(
            ErrorCode::AgentFailed,
            "the provider's filter cut the answer",
        ));
    }
    let _room = memory::reserve_for_json(answer.text.as_bytes()).map_err(|over| no_room(&over))?;
    let result = match &frame.agent.output {
        None => json!({ "text": answer.text }),
        Some(_) => serde_json::from_str(&answer.text).map_err(|error| {
            let words = format!("the model's answer is not JSON: {error}");
            Fault::agent(ErrorCode::OutputInvalid, words)
        })?,
    };
    let mut finished = Finished::new(result);
    finished.last.journal.push(answer.journal(frame, key));
    if let Some(id) = answer.message_id {
        let whole = message::complete(frame, id, &answer.text, Vec::new()).await?;
        finished.last.emissions.push(whole.emission);
        finished.last.messages.push(whole.row);
    }
    Ok(finished)
}
