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
//! - `ask_model(prompt, system=None)`: the agent's model, once; returns its text;
//! - `gather(*calls, return_errors=False)`: several of these at once, each as `call(f, …)`, such as
//!   `gather(call(log_profile, file="a.csv"), call(agent, "worker", "go"))`; returns their results in
//!   order.
//!
//! An agent that says `state = true` also finds `state` set: a dictionary that it keeps from run to run in
//! its thread.
//!
//! A call that fails raises `RuntimeError` with `"<code>: <message>"`, which the script may catch;
//! wrong arguments raise `TypeError`. What ends the whole run (a limit of the run, a cancel) cannot
//! be caught. If the result has a text `report_markdown` and the agent is the run's own, that text
//! is the assistant's message.

use std::time::Duration;

use netra_protocol::error::{ErrorCode, Failure};
use netra_tools::ALL_OF_USERS;
use netra_worker::{Error as WorkerError, Limits, Script, ScriptException, Source, Step};
use serde_json::{Map, Value, json};

use super::wish::Wish;
use super::{say, state};
use crate::execution::{Fault, Finished, Frame};

/// The functions beside the tools. `call` is the worker's own.
const FUNCTIONS: [&str; 5] = ["agent", "think", "ask_model", "gather", "call"];
/// The variable with what the agent keeps in its thread.
const STATE: &str = "state";
const MIB: u64 = 1024 * 1024;

pub(super) async fn perform(frame: &Frame<'_>, file: &str, code: &str) -> Result<Finished, Fault> {
    let mut inputs = Map::from_iter([
        ("input".to_owned(), frame.input.clone()),
        ("files".to_owned(), frame.files()),
    ]);
    let state = state::read(frame).await?;
    inputs.extend(state.clone().map(|state| (STATE.to_owned(), state)));
    let source = Source {
        name: format!("agents/{}/{file}", frame.agent.name),
        code: code.to_owned(),
        inputs,
        functions: functions(frame).await,
        keeps: state.is_some().then(|| STATE.to_owned()),
    };
    let scripts = &frame.execution.infra.scripts;
    let script = scripts.start(frame.ctx, source, limits(frame)).await;
    let mut script = script.map_err(|error| failed(error, None))?;
    frame.execution.workers.add(script.meter());
    let result = converse(frame, &mut script).await?;
    let mut finished = Finished::new(result);
    if let (Some(before), Some(now)) = (state, script.kept()) {
        finished
            .last
            .journal
            .extend(state::entry(frame, &before, now)?);
    }
    say(frame, &mut finished, &["report_markdown"]).await?;
    Ok(finished)
}

/// The functions that the script finds. Of tools that it names itself none is asked for before it is called.
async fn functions(frame: &Frame<'_>) -> Vec<String> {
    let dispatcher = &frame.execution.dispatcher;
    let all = frame
        .agent
        .tools
        .iter()
        .filter(|name| *name == ALL_OF_USERS);
    let all: Vec<String> = all.cloned().collect();
    dispatcher.settled(frame.ctx, &all).await;
    let mut functions = dispatcher.spelt_out(&frame.agent.tools);
    functions.extend(FUNCTIONS.map(str::to_owned));
    functions
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
                let answer = match Wish::of(&name, args, kwargs) {
                    Err(words) => Err(ScriptException {
                        kind: "TypeError".into(),
                        message: words,
                    }),
                    Ok(wish) => match wish.grant(frame).await {
                        Ok(value) => Ok(value),
                        Err(Fault::Agent(failure)) => {
                            let words = format!("{}: {}", failure.code, failure.message);
                            raised = Some(failure);
                            Err(ScriptException::runtime(words))
                        }
                        Err(fault) => return Err(fault),
                    },
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
        WorkerError::TimeLimit { .. }
        | WorkerError::OutputLimit { .. }
        | WorkerError::SuspensionLimit { .. }
        | WorkerError::Job(_) => ErrorCode::AgentFailed,
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

    /// A run ended with a code that the contract has for calls only.
    #[test]
    fn an_uncaught_failure_of_a_tool_is_a_failure_of_the_agent() {
        let raised = Failure::new(ErrorCode::ToolFailed, "no luck");
        let traceback = WorkerError::Script(netra_worker::Traceback {
            kind: "RuntimeError".into(),
            message: "tool_failed: no luck".into(),
            line: Some(3),
            traceback: String::new(),
        });
        let ended = failed(traceback, Some(raised))
            .of_agent()
            .failure()
            .unwrap();
        assert_eq!(ended.code, ErrorCode::AgentFailed);
        assert_eq!(ended.message, "tool_failed: no luck");
        assert_eq!(ended.details.unwrap()["line"], 3);
        let limit = Fault::agent(ErrorCode::MemoryLimitExceeded, "too much");
        let limit = limit.of_agent().failure().unwrap();
        assert_eq!(limit.code, ErrorCode::MemoryLimitExceeded);
    }
}
