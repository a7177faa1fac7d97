//! How the events of chat completions are read.

use serde_json::{Map, Value};

use super::details::Details;
use super::wire::{CallDelta, Choice, Content, Delta, Event, WireUsage};
use crate::answer::{Draft, Format, Tokens};
use crate::{Error, StopReason};

/// One answer in chat completions.
#[derive(Default)]
pub(crate) struct ChatCompletion {
    /// Thoughts in the field that its servers want back where tool calls follow.
    reasoning: String,
    /// The same in blocks.
    details: Details,
}

impl Format for ChatCompletion {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<(), Error> {
        if data.trim() == "[DONE]" {
            draft.over();
            return Ok(());
        }
        let event: Event = draft.read(data)?;
        if let Some(error) = event.error.filter(|error| !error.is_null()) {
            return Err(draft.complaint(&error));
        }
        if let Some(usage) = event.usage {
            draft.used(tokens(usage));
        }
        // Only one answer is ever asked for, so there is at most one choice.
        match event.choices.unwrap_or_default().into_iter().next() {
            Some(choice) => self.choice(choice, draft),
            None => Ok(()),
        }
    }

    fn keepsake(&mut self) -> Option<Value> {
        let reasoning = std::mem::take(&mut self.reasoning);
        let reasoning = (!reasoning.is_empty()).then_some(Value::String(reasoning));
        let kept = [
            ("reasoning_content", reasoning),
            ("reasoning_details", self.details.whole()),
        ];
        let kept = kept.into_iter();
        let kept: Map<String, Value> = kept
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        (!kept.is_empty()).then_some(Value::Object(kept))
    }
}

impl ChatCompletion {
    fn choice(&mut self, choice: Choice, draft: &mut Draft) -> Result<(), Error> {
        if let Some(delta) = choice.delta {
            self.delta(delta, draft)?;
        }
        if let Some(reason) = choice.finish_reason {
            draft.stopped(stop_reason(reason));
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta, draft: &mut Draft) -> Result<(), Error> {
        let in_blocks = match delta.reasoning_details {
            Some(Value::Array(pieces)) => self.details.take(pieces, draft)?,
            _ => String::new(),
        };
        match (delta.reasoning_content, delta.reasoning) {
            (Some(Value::String(thought)), _) => {
                // Kept twice: as a chunk, and to be sent back.
                draft.count(thought.len())?;
                self.reasoning.push_str(&thought);
                draft.thinking(thought)?;
            }
            (_, Some(Value::String(thought))) => draft.thinking(thought)?,
            // Who sends them otherwise too has told them by that.
            _ => draft.thinking(in_blocks)?,
        }
        match delta.content {
            Some(Content::Text(text)) => draft.text(text)?,
            Some(Content::Parts(parts)) => typed_parts(&parts, draft)?,
            None => {}
        }
        if let Some(refusal) = delta.refusal {
            draft.refusal(refusal)?;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            piece_of_call(call, draft)?;
        }
        Ok(())
    }
}

fn typed_parts(parts: &[Value], draft: &mut Draft) -> Result<(), Error> {
    for part in parts {
        if let Some(text) = part.get("text").and_then(Value::as_str) {
            draft.text(text.to_owned())?;
        }
        let thoughts = part.get("thinking").and_then(Value::as_array);
        for thought in thoughts.into_iter().flatten() {
            if let Some(text) = thought.get("text").and_then(Value::as_str) {
                draft.thinking(text.to_owned())?;
            }
        }
    }
    Ok(())
}

fn piece_of_call(delta: CallDelta, draft: &mut Draft) -> Result<(), Error> {
    let (name, arguments) = match delta.function {
        Some(function) => (function.name.unwrap_or_default(), function.arguments),
        None => (String::new(), None),
    };
    let arguments = match arguments {
        Some(Value::String(text)) => text,
        // Some servers send the object itself instead of its text.
        Some(value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
        _ => String::new(),
    };
    draft.call(delta.index, delta.id.unwrap_or_default(), name, &arguments)
}

fn tokens(wire: WireUsage) -> Tokens {
    let details = wire.prompt_tokens_details;
    Tokens {
        input: wire.prompt_tokens,
        output: wire.completion_tokens,
        cached: details.and_then(|details| details.cached_tokens),
        cache_write: None,
    }
}

fn stop_reason(reason: String) -> StopReason {
    match reason.as_str() {
        "stop" => StopReason::Stop,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::ContentFilter,
        _ => StopReason::Other(reason),
    }
}
