//! The result of a model agent: a text, or what fits the agent's schema. What does not fit goes back to
//! the model with the validator's words, a few times.

use netra_context::memory;
use netra_model::{Arguments, Message as Said, StopReason};
use netra_protocol::ErrorCode;
use netra_protocol::error::Failure;
use serde_json::{Value, json};

use super::super::ask::Answer;
use super::no_room;
use super::offer::of_object;
use crate::agents::{Definition, FINAL_ANSWER, Shape};
use crate::execution::Fault;
use crate::message::FINISH_REASON;

/// Why a result is not whole.
const CUT: &str = "it was cut at the limit of its tokens";

/// How the model is made to give a result that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Any text will do.
    Text,
    /// As a text of JSON, to which the provider holds the model.
    Native,
    /// As the arguments of a tool, whose schema is that of the result.
    Call,
    /// As a text of JSON, by asking for it: its schema is not one that a tool's arguments can have.
    Json,
}

/// What the result has to be, and how often it may still be mended.
pub(super) struct Output<'a> {
    shape: Option<&'a Shape>,
    form: Form,
    repairs_left: u32,
    first_try: bool,
}

/// What an answer is.
pub(super) enum Judged {
    /// Wishes for tools.
    Calls,
    /// The result.
    Result(Value),
    /// A result that does not fit: what the model is told.
    Misfit(Vec<Said>),
}

impl<'a> Output<'a> {
    /// `native` where the provider holds the model to a schema.
    pub(super) fn of(agent: &'a Definition, native: bool) -> Self {
        let shape = agent.output.as_ref();
        let of_object = |shape: &Shape| {
            let kind = shape.schema.get("type");
            kind.is_none_or(|kind| kind == "object")
        };
        let form = match shape {
            None => Form::Text,
            // No provider takes another schema.
            Some(shape) if !of_object(shape) => Form::Json,
            Some(_) if native => Form::Native,
            Some(_) => Form::Call,
        };
        Self {
            shape,
            form,
            repairs_left: agent.conduct.output_repairs,
            first_try: true,
        }
    }

    /// Whether any text is a result, so that it can be told while it is written.
    pub(super) fn is_text(&self) -> bool {
        self.form == Form::Text
    }

    /// The schema of the tool that takes the result, where there is one.
    pub(super) fn to_call(&self) -> Option<Value> {
        self.schema_for(Form::Call)
    }

    /// The schema that the provider is to hold the model to.
    pub(super) fn of_response(&self) -> Option<Value> {
        self.schema_for(Form::Native)
    }

    fn schema_for(&self, form: Form) -> Option<Value> {
        let shape = self.shape.filter(|_| self.form == form)?;
        Some(of_object(shape.schema.clone()))
    }

    /// What the model is told of its result, beside its instructions.
    pub(super) fn instructions(&self) -> Option<String> {
        match (self.form, self.shape) {
            (Form::Call, _) => Some(format!(
                "When you are done, give your result by calling `{FINAL_ANSWER}`."
            )),
            (Form::Json, Some(shape)) => Some(format!(
                "Give your result as JSON and nothing else. It has to fit this JSON Schema:\n{}",
                shape.schema
            )),
            _ => None,
        }
    }

    /// Says what an answer is. `is_new` where it is no replay, which counts for nothing.
    pub(super) fn judge(&mut self, answer: &Answer, is_new: bool) -> Result<Judged, Fault> {
        // Also where it is not asked for any more: an earlier attempt may have asked another model.
        let last = answer
            .tool_calls
            .iter()
            .any(|call| self.shape.is_some() && call.name == FINAL_ANSWER);
        if !last && !answer.tool_calls.is_empty() {
            return Ok(Judged::Calls);
        }
        if answer.tool_calls.is_empty() {
            check_text(answer)?;
        }
        let Some(shape) = self.shape else {
            return Ok(Judged::Result(text(answer)));
        };
        let misfits = match candidate(answer)? {
            Err(words) => vec![words],
            // What is left of a value may be one that fits.
            Ok(_) if answer.is_cut() => vec![CUT.to_owned()],
            Ok(value) => match shape.misfits(&value) {
                misfits if misfits.is_empty() => {
                    let outcome = if self.first_try {
                        "first_try"
                    } else {
                        "repaired"
                    };
                    count(is_new, outcome);
                    return Ok(Judged::Result(value));
                }
                misfits => misfits,
            },
        };
        self.first_try = false;
        if self.repairs_left == 0 {
            count(is_new, "failed");
            return Err(invalid(misfits));
        }
        self.repairs_left -= 1;
        Ok(Judged::Misfit(self.reply(answer, &misfits)))
    }

    /// What the model is told of a result that does not fit: an answer to each of its calls, or a
    /// message. It has the schema where the model may not have been told of it.
    fn reply(&self, answer: &Answer, misfits: &[String]) -> Vec<Said> {
        let mut words = format!(
            "Your result was not accepted: {}. Give it again, corrected.",
            misfits.join("; ")
        );
        if answer.tool_calls.is_empty() {
            if let Some(schema) = self.of_response() {
                words = format!("{words} It has to be JSON that fits this JSON Schema:\n{schema}");
            }
            return vec![Said::user(words)];
        }
        let failure = json!({ "error": { "code": ErrorCode::OutputInvalid, "message": words } });
        let told = |call: &netra_model::ToolCall| Said::ToolResult {
            tool_call_id: call.id.clone(),
            content: failure.to_string(),
        };
        answer.tool_calls.iter().map(told).collect()
    }
}

/// A text as a result, which says where it is not whole.
fn text(answer: &Answer) -> Value {
    match answer.is_cut() {
        true => json!({ "text": answer.text, FINISH_REASON: answer.stop }),
        false => json!({ "text": answer.text }),
    }
}

fn count(is_new: bool, outcome: &'static str) {
    if is_new {
        metrics::counter!("netra_structured_outputs_total", "outcome" => outcome).increment(1);
    }
}

/// A result that does not fit, in the validator's words.
pub(crate) fn invalid(misfits: Vec<String>) -> Fault {
    let words = format!(
        "the result does not fit the agent's schema: {}",
        misfits.join("; ")
    );
    let failure = Failure::new(ErrorCode::OutputInvalid, words);
    Fault::Agent(failure.with_details(json!({ "misfits": misfits })))
}

/// Whether there is a text, and all of it.
fn check_text(answer: &Answer) -> Result<(), Fault> {
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
    Ok(())
}

/// The value that the answer gives as its result, or why there is none in it.
fn candidate(answer: &Answer) -> Result<Result<Value, String>, Fault> {
    let text = match &answer.tool_calls[..] {
        [] => unfenced(&answer.text),
        [call] => match &call.arguments {
            Arguments::Json(value) => return Ok(Ok(value.clone())),
            Arguments::Invalid(text) => text,
        },
        _ => return Ok(Err(format!("`{FINAL_ANSWER}` is to be called alone"))),
    };
    let _room = memory::reserve_for_json(text.as_bytes()).map_err(|over| no_room(&over))?;
    Ok(serde_json::from_str(text).map_err(|error| {
        let words = format!("it is not JSON: {error}");
        match answer.is_cut() {
            true => format!("{words}, {CUT}"),
            false => words,
        }
    }))
}

/// The text without the fence of Markdown that models like to put around JSON.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let inner = text
        .strip_prefix("```")
        .and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((_language, inner)) => inner.trim(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_around_json_is_no_part_of_it() {
        for text in [
            "{\"a\": 1}",
            "```json\n{\"a\": 1}\n```",
            "```\n{\"a\": 1}```\n",
        ] {
            assert_eq!(unfenced(text), "{\"a\": 1}", "{text}");
        }
        assert_eq!(unfenced("``` not closed"), "``` not closed");
    }
}
