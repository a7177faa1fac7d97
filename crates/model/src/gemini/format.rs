//! How the events of Gemini are read.

use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Draft, Format, Tokens};
use crate::{Error, StopReason};

/// One event, or a whole answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<WireUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<WireContent>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireContent {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    function_call: Option<FunctionCall>,
    thought_signature: Option<String>,
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
}

/// One answer of Gemini.
#[derive(Default)]
pub(crate) struct Content {
    /// The signature of each call; none where it came without.
    signatures: Vec<Option<String>>,
}

impl Format for Content {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<(), Error> {
        // Servers that stream no events send the list of all.
        if data.trim_start().starts_with('[') {
            let events: Vec<Event> = draft.read(data)?;
            return events
                .into_iter()
                .try_for_each(|event| self.one(event, draft));
        }
        self.one(draft.read(data)?, draft)
    }

    fn keepsake(&mut self) -> Option<Value> {
        let signatures = std::mem::take(&mut self.signatures);
        let signed = signatures.iter().any(Option::is_some);
        signed.then(|| signatures.into_iter().map(Value::from).collect())
    }
}

impl Content {
    fn one(&mut self, event: Event, draft: &mut Draft) -> Result<(), Error> {
        if let Some(error) = event.error.filter(|error| !error.is_null()) {
            return Err(draft.complaint(&error));
        }
        if let Some(usage) = event.usage_metadata {
            draft.used(tokens(&usage));
        }
        if event
            .prompt_feedback
            .is_some_and(|feedback| feedback.block_reason.is_some())
        {
            draft.stopped(StopReason::ContentFilter);
        }
        // Only one answer is ever asked for.
        let Some(candidate) = event.candidates.unwrap_or_default().into_iter().next() else {
            return Ok(());
        };
        let parts = candidate.content.and_then(|content| content.parts);
        for part in parts.unwrap_or_default() {
            self.part(part, draft)?;
        }
        match candidate.finish_reason {
            None => Ok(()),
            Some(reason) if reason == "MALFORMED_FUNCTION_CALL" => {
                Err(draft.malformed("the model wrote a tool call that cannot be read"))
            }
            Some(reason) => {
                draft.stopped(stop_reason(reason));
                Ok(())
            }
        }
    }

    fn part(&mut self, part: Part, draft: &mut Draft) -> Result<(), Error> {
        if let Some(call) = part.function_call {
            let signature = part.thought_signature;
            draft.count(signature.as_ref().map_or(0, String::len))?;
            self.signatures.push(signature);
            let arguments = call.args.map(|args| args.to_string());
            draft.whole_call(
                call.id.unwrap_or_default(),
                call.name.unwrap_or_default(),
                arguments.unwrap_or_default(),
            )?;
        }
        match part.text {
            Some(text) if part.thought => draft.thinking(text),
            Some(text) => draft.text(text),
            None => Ok(()),
        }
    }
}

/// The figures of the last event that has them are those of the whole answer.
fn tokens(usage: &WireUsage) -> Tokens {
    let tools = usage.tool_use_prompt_token_count.unwrap_or(0);
    let thoughts = usage.thoughts_token_count;
    let output = match (usage.candidates_token_count, thoughts) {
        (None, None) => None,
        (said, thought) => Some(said.unwrap_or(0) + thought.unwrap_or(0)),
    };
    Tokens {
        input: usage.prompt_token_count.map(|prompt| prompt + tools),
        output,
        cached: usage.cached_content_token_count,
        cache_write: None,
    }
}

fn stop_reason(reason: String) -> StopReason {
    match reason.as_str() {
        "STOP" => StopReason::Stop,
        "MAX_TOKENS" => StopReason::MaxTokens,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "IMAGE_SAFETY" => {
            StopReason::ContentFilter
        }
        "FINISH_REASON_UNSPECIFIED" => StopReason::Unknown,
        _ => StopReason::Other(reason),
    }
}
