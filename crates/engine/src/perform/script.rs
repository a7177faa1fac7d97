//! A script agent: Python in a worker process, whose functions the server answers.
//!
//! The script is a module without imports of its own files. It finds two variables set: `input`,
//! the agent's input as a dictionary (a text is `input["text"]`), and `files`, a list of
//! dictionaries with `id`, `name`, `media_type` and `bytes`. The value of its last expression is
//! the agent's result. It may call
//!
//! - each of the agent's tools, with keyword arguments: `log_profile(file="log.csv")`; a result that
//!   is a dictionary also has `_call`, the id of the call, to be named as the source of what it says;
//! - `agent(name, input)`: one of the agent's sub-agents, with a text or a dictionary; returns its
//!   result;
//! - `think(message, progress=None)`: tells the user what is being done;
//! - `ask_model(prompt, system=None)`: the agent's model, once; returns its text.
//!
//! A call that fails raises `RuntimeError` with `"<code>: <message>"`, which the script may catch;
//! wrong arguments raise `TypeError`. What ends the whole run (a limit of the run, a cancel) cannot
//! be caught. If the result has a text `report_markdown` and the agent is the run's own, that text
//! is the assistant's message.

use std::time::Duration;

use netra_model::{ChatRequest, Message as Said};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::ToolCallId;
use netra_store::{Changes, JournalKind};
use netra_worker::{Error as WorkerError, Limits, Script, ScriptException, Source, Step};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use super::ask::{Answer, Audience, ask, fault};
use crate::execution::{Fault, Finished, Frame};
use crate::message;
use crate::sub_agent::Errand;

/// The functions beside the tools.
const FUNCTIONS: [&str; 3] = ["agent", "think", "ask_model"];
/// Where a tool's result tells the script which call it came from.
const CALL: &str = "_call";
const MIB: u64 = 1024 * 1024;

pub(super) async fn perform(frame: &Frame<'_>, file: &str, code: &str) -> Result<Finished, Fault> {
    let source = Source {
        name: format!("agents/{}/{file}", frame.agent.name),
        code: code.to_owned(),
        inputs: Map::from_iter([
            ("input".to_owned(), frame.input.clone()),
            ("files".to_owned(), frame.files()),
        ]),
        functions: functions(frame),
    };
    let scripts = &frame.execution.infra.scripts;
    let script = scripts.start(frame.ctx, source, limits(frame)).await;
    let mut script = script.map_err(|error| failed(error, None))?;
    frame.execution.workers.add(script.meter());
    let result = converse(frame, &mut script).await?;
    let mut finished = Finished::new(result);
    if frame.is_root()
        && let Some(report) = finished
            .result
            .get("report_markdown")
            .and_then(Value::as_str)
    {
        let whole = message::write_whole(frame, report).await?;
        finished.last.emissions.push(whole.emission);
        finished.last.messages.push(whole.row);
    }
    Ok(finished)
}

fn functions(frame: &Frame<'_>) -> Vec<String> {
    let own = FUNCTIONS.iter().map(|name| (*name).to_owned());
    frame.agent.tools.iter().cloned().chain(own).collect()
}

/// The worker's usual limits, and never more than the user or the run has left.
fn limits(frame: &Frame<'_>) -> Limits {
    let usual = Limits::default();
    let memory = frame.execution.limits.memory_mib.saturating_mul(MIB);
    let left = frame.ctx.deadline().map_or(usual.run_time, |deadline| {
        deadline.saturating_duration_since(tokio::time::Instant::now())
    });
    Limits {
        memory_bytes: usual.memory_bytes.min(memory),
        run_time: usual.run_time.min(left).max(Duration::from_millis(1)),
        ..usual
    }
}

/// Answers the script's calls until it ends.
async fn converse(frame: &Frame<'_>, script: &mut Script) -> Result<Value, Fault> {
    // What the last failing call raised: a script that does not catch it fails for that reason.
    let mut raised = None::<Failure>;
    loop {
        match script
            .next()
            .await
            .map_err(|error| failed(error, raised.take()))?
        {
            Step::Finished(result) => return Ok(result),
            Step::Printed(text) => {
                tracing::debug!(
                    agent = frame.agent.name,
                    bytes = text.len(),
                    "a script printed"
                );
            }
            Step::Call {
                name, args, kwargs, ..
            } => {
                let answer = match answer(frame, &name, args, kwargs).await {
                    Ok(value) => Ok(value),
                    Err(Refused::Misused(words)) => Err(ScriptException {
                        kind: "TypeError".into(),
                        message: words,
                    }),
                    Err(Refused::Fault(Fault::Agent(failure))) => {
                        let words = format!("{}: {}", failure.code, failure.message);
                        raised = Some(failure);
                        Err(ScriptException::runtime(words))
                    }
                    Err(Refused::Fault(fault)) => return Err(fault),
                };
                script.answer(answer);
            }
            Step::Waiting(_) => {
                // No call is ever deferred, so there is nothing that it could wait for.
                return Err(Fault::agent(
                    ErrorCode::Internal,
                    "the script waits for nothing",
                ));
            }
        }
    }
}

enum Refused {
    /// The arguments are not those of the function.
    Misused(String),
    Fault(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

async fn answer(
    frame: &Frame<'_>,
    name: &str,
    args: Vec<Value>,
    kwargs: Map<String, Value>,
) -> Result<Value, Refused> {
    match name {
        "think" => {
            let [message, progress] = bind(name, ["message", "progress"], args, kwargs)?;
            let message = text(name, "message", message)?;
            let progress = match progress {
                Value::Null => None,
                value => Some(
                    value
                        .as_f64()
                        .ok_or_else(|| wrong(name, "progress", "a number"))?,
                ),
            };
            frame.think(&message, progress).await?;
            Ok(Value::Null)
        }
        "agent" => {
            let [agent, input] = bind(name, ["name", "input"], args, kwargs)?;
            let agent = text(name, "name", agent)?;
            let key = frame.next_key();
            let errand = Errand {
                parent_step: frame.step_of_errand(&key)?,
                key,
                agent: &agent,
                input,
                conversation: None,
            };
            Ok(frame.let_work(errand).await?)
        }
        "ask_model" => {
            let [prompt, system] = bind(name, ["prompt", "system"], args, kwargs)?;
            let prompt = text(name, "prompt", prompt)?;
            let system = match system {
                Value::Null => None,
                value => Some(text(name, "system", value)?),
            };
            Ok(Value::String(ask_model(frame, prompt, system).await?))
        }
        tool => {
            if !args.is_empty() {
                return Err(Refused::Misused(format!(
                    "{tool}() takes keyword arguments only"
                )));
            }
            let (key, id) = (frame.next_key(), frame.new_id(ToolCallId::from_parts));
            frame.step_for(&key)?;
            let mut done = frame
                .call_tool(key, id, tool, Value::Object(kwargs))
                .await?;
            if let Value::Object(fields) = &mut done.value {
                fields.insert(CALL.to_owned(), Value::String(done.id.to_string()));
            }
            Ok(done.value)
        }
    }
}

async fn ask_model(
    frame: &Frame<'_>,
    prompt: String,
    system: Option<String>,
) -> Result<String, Fault> {
    let key = frame.next_key();
    frame.step_for(&key)?;
    if let Some(answer) = Answer::recorded(frame, &key) {
        return Ok(answer.text);
    }
    if let Some(failure) = recorded_failure(frame, &key) {
        return Err(Fault::Agent(failure));
    }
    let answered = answer_of_model(frame, prompt, system).await;
    let entry = match &answered {
        Ok(answer) => answer.journal(frame, key),
        // The script may go another way after a failure, and has to go that way again.
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

/// Puts positional and keyword arguments in the order of the names; absent ones are null.
fn bind<const N: usize>(
    function: &str,
    names: [&str; N],
    args: Vec<Value>,
    mut kwargs: Map<String, Value>,
) -> Result<[Value; N], Refused> {
    if args.len() > N {
        let words = format!(
            "{function}() takes at most {N} arguments, {} were given",
            args.len()
        );
        return Err(Refused::Misused(words));
    }
    let mut positional = args.into_iter();
    let mut bound = std::array::from_fn(|_| Value::Null);
    for (place, name) in bound.iter_mut().zip(names) {
        match (positional.next(), kwargs.remove(name)) {
            (Some(_), Some(_)) => {
                let words = format!("{function}() got {name:?} twice");
                return Err(Refused::Misused(words));
            }
            (Some(value), None) | (None, Some(value)) => *place = value,
            (None, None) => {}
        }
    }
    match kwargs.keys().next() {
        Some(unknown) => Err(Refused::Misused(format!(
            "{function}() has no argument named {unknown:?}"
        ))),
        None => Ok(bound),
    }
}

fn wrong(function: &str, argument: &str, wanted: &str) -> Refused {
    Refused::Misused(format!("{function}() needs {wanted} as {argument:?}"))
}

fn text(function: &str, argument: &str, value: Value) -> Result<String, Refused> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong(function, argument, "a text")),
    }
}

/// What a worker's error means to the run.
fn failed(error: WorkerError, raised: Option<Failure>) -> Fault {
    let code = match &error {
        WorkerError::Script(traceback) => {
            let uncaught = raised.filter(|failure| {
                traceback.message == format!("{}: {}", failure.code, failure.message)
            });
            let details = json!({
                "exception": traceback.kind,
                "line": traceback.line,
                "traceback": traceback.traceback,
            });
            let failure = match uncaught {
                // The limits and errors of a call keep their code.
                Some(failure) => Failure {
                    details: Some(details),
                    ..failure
                },
                None => Failure::new(ErrorCode::AgentFailed, traceback.to_string())
                    .with_details(details),
            };
            return Fault::Agent(failure);
        }
        WorkerError::MemoryLimit { .. } | WorkerError::NoRoom(_) => ErrorCode::MemoryLimitExceeded,
        WorkerError::TimeLimit { .. } | WorkerError::OutputLimit { .. } | WorkerError::Job(_) => {
            ErrorCode::AgentFailed
        }
        _ => {
            tracing::error!(%error, "a worker failed");
            ErrorCode::Internal
        }
    };
    Fault::agent(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(args: Value, kwargs: Value) -> Result<[Value; 2], String> {
        let (Value::Array(args), Value::Object(kwargs)) = (args, kwargs) else {
            panic!()
        };
        bind("f", ["a", "b"], args, kwargs).map_err(|refused| match refused {
            Refused::Misused(words) => words,
            Refused::Fault(fault) => fault.failure().unwrap().message,
        })
    }

    #[test]
    fn arguments_are_bound_as_python_binds_them() {
        assert_eq!(bound(json!([1]), json!({"b": 2})), Ok([json!(1), json!(2)]));
        assert_eq!(
            bound(json!([]), json!({"b": 2})),
            Ok([Value::Null, json!(2)])
        );
        assert!(
            bound(json!([1, 2, 3]), json!({}))
                .unwrap_err()
                .contains("at most 2")
        );
        assert!(
            bound(json!([1]), json!({"a": 1}))
                .unwrap_err()
                .contains("twice")
        );
        assert!(
            bound(json!([]), json!({"c": 1}))
                .unwrap_err()
                .contains("no argument")
        );
    }

    #[test]
    fn an_uncaught_failure_keeps_its_code() {
        let raised = Failure::new(ErrorCode::ModelNotConfigured, "no model");
        let traceback = |message: &str| {
            WorkerError::Script(netra_worker::Traceback {
                kind: "RuntimeError".into(),
                message: message.into(),
                line: Some(3),
                traceback: String::new(),
            })
        };
        let kept = failed(
            traceback("model_not_configured: no model"),
            Some(raised.clone()),
        );
        assert_eq!(kept.failure().unwrap().code, ErrorCode::ModelNotConfigured);
        let other = failed(traceback("something else"), Some(raised));
        assert_eq!(other.failure().unwrap().code, ErrorCode::AgentFailed);
    }
}
