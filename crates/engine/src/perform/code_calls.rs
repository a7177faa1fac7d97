//! What code of users' own asks of the server: tools, agents, the model, thoughts. Scripts and agents
//! behind endpoints ask in different words and are answered here, each call as an operation of its
//! own in the run's journal, one alone or several at once.

use netra_model::{ChatRequest, Message as Said};
use netra_protocol::error::Failure;
use netra_protocol::id::ToolCallId;
use netra_store::{Changes, JournalKind};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::ask::{Answer, Audience, ask, fault};
use crate::execution::{Fault, Frame};
use crate::sub_agent::Errand;
use crate::together::together as side_by_side;

/// Where a tool's result tells the agent which call it came from.
const CALL: &str = "_call";

/// Something that an agent asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A call of one of its tools.
    Tool {
        /// The tool.
        name: String,
        /// Its arguments.
        arguments: Map<String, Value>,
    },
    /// The work of one of its sub-agents.
    Agent {
        /// The sub-agent.
        name: String,
        /// A text, or an object that fits its schema.
        input: Value,
    },
    /// One question to its model; its answer is a text.
    AskModel {
        /// The question.
        prompt: String,
        /// The system prompt.
        system: Option<String>,
    },
    /// Words for the user.
    Think {
        /// What is being done.
        message: String,
        /// From 0 to 1.
        progress: Option<f64>,
    },
}

/// Does one thing.
pub(crate) async fn answer(frame: &Frame<'_>, call: Call) -> Result<Value, Fault> {
    answer_as(frame, frame.next_key(), call).await
}

/// Does all of these at once, and gives what came of each, in their order.
///
/// # Errors
/// Of the whole run only: what one call fails with is an answer to that one.
pub(crate) async fn together(
    frame: &Frame<'_>,
    calls: Vec<Call>,
) -> Result<Vec<Result<Value, Failure>>, Fault> {
    // Keys go by the order of the calls, whoever is faster.
    let keyed = calls.into_iter().map(|call| (frame.next_key(), call));
    together_as(frame, keyed.collect()).await
}

/// The same, each with this key.
pub(super) async fn together_as(
    frame: &Frame<'_>,
    calls: Vec<(String, Call)>,
) -> Result<Vec<Result<Value, Failure>>, Fault> {
    let part = |(key, call)| async move { for_agent(Box::pin(answer_as(frame, key, call)).await) };
    side_by_side(frame.rest(), calls.into_iter().map(part).collect()).await
}

/// A failure that is the agent's to deal with is an answer.
fn for_agent(answered: Result<Value, Fault>) -> Result<Result<Value, Failure>, Fault> {
    match answered {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Agent(failure)) => Ok(Err(failure)),
        Err(fault) => Err(fault),
    }
}

/// The step that the call is made in has to be taken before anything is awaited: another call may be
/// at work beside it.
pub(super) async fn answer_as(frame: &Frame<'_>, key: String, call: Call) -> Result<Value, Fault> {
    match call {
        Call::Think { message, progress } => {
            frame.think(key, &message, progress).await?;
            Ok(Value::Null)
        }
        Call::Agent { name, input } => {
            let errand = Errand {
                parent_step: frame.step_of_errand(&key)?,
                key,
                agent: &name,
                input,
                conversation: None,
            };
            frame.let_work(errand).await
        }
        Call::AskModel { prompt, system } => {
            let asked = ask_model(frame, key, prompt, system).await?;
            Ok(Value::String(asked))
        }
        Call::Tool { name, arguments } => {
            let id = frame.new_id(ToolCallId::from_parts);
            frame.step_for(&key)?;
            let arguments = Value::Object(arguments);
            let mut done = frame.call_tool(key, id, &name, arguments).await?;
            if let Value::Object(fields) = &mut done.value {
                fields.insert(CALL.to_owned(), Value::String(done.id.to_string()));
            }
            Ok(done.value)
        }
    }
}

async fn ask_model(
    frame: &Frame<'_>,
    key: String,
    prompt: String,
    system: Option<String>,
) -> Result<String, Fault> {
    frame.step_for(&key)?;
    let step = frame.step();
    if let Some(answer) = Answer::recorded(frame, &key) {
        return Ok(answer.text);
    }
    if let Some(failure) = recorded_failure(frame, &key) {
        return Err(Fault::Agent(failure));
    }
    let answered = answer_of_model(frame, prompt, system).await;
    frame.in_step(step);
    let entry = match &answered {
        Ok(answer) => answer.journal(frame, key),
        // The agent may go another way after a failure, and has to go that way again.
        Err(Fault::Agent(failure)) => {
            frame.entry(key, JournalKind::ModelCall, json!({ "error": failure }))
        }
        Err(_) => return answered.map(|answer| answer.text),
    };
    let changes = Changes {
        journal: vec![entry],
        ..Changes::default()
    };
    frame.commit(changes, Vec::new()).await?;
    answered.map(|answer| answer.text)
}

fn recorded_failure(frame: &Frame<'_>, key: &str) -> Option<Failure> {
    let recorded = frame.recorded(key, JournalKind::ModelCall)?;
    Failure::deserialize(&recorded.value["error"]).ok()
}

async fn answer_of_model(
    frame: &Frame<'_>,
    prompt: String,
    system: Option<String>,
) -> Result<Answer, Fault> {
    let models = &frame.execution.infra.models;
    let model = models
        .resolve(frame.agent.model.as_deref())
        .map_err(|error| fault(&error))?;
    let messages = vec![Said::user(prompt)];
    let request = ChatRequest {
        system,
        messages,
        ..ChatRequest::default()
    };
    ask(frame, &model, request, Audience::Agent).await
}
