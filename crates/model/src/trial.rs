//! Trying a model out: what works, found by asking it.

use std::time::Duration;

use futures::StreamExt;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use netra_context::UserExecutionContext;

use crate::{
    Arguments, ChatRequest, Chunk, Error, Message, ModelRef, Models, ToolCall, ToolSpec, Usage,
};

/// Enough for a short answer of a model that thinks before it.
const MAX_TOKENS: u32 = 2_000;
/// The word that the tool must be called with.
const WORD: &str = "netra";

/// What a model can do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// Which model.
    pub model: ModelRef,
    /// Whether it answers in text.
    pub text: Finding,
    /// Whether the text comes in pieces.
    pub streaming: Finding,
    /// Whether it calls a tool with the arguments that it should have.
    pub tools: Finding,
    /// Until the first piece of the first answer.
    pub first_chunk_ms: Option<u64>,
    /// What both calls used, and cost, as far as the provider tells and a price is known.
    pub usage: Vec<Usage>,
}

/// Whether one thing works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it does.
    pub works: bool,
    /// What was found.
    pub words: String,
}

impl Finding {
    fn good(words: impl Into<String>) -> Self {
        Self {
            works: true,
            words: words.into(),
        }
    }

    fn bad(words: impl Into<String>) -> Self {
        Self {
            works: false,
            words: words.into(),
        }
    }
}

/// An answer as it came.
struct Answered {
    texts: Vec<String>,
    calls: Vec<ToolCall>,
    usage: Option<Usage>,
    first: Option<Duration>,
}

impl Models {
    /// Makes two small calls and tells what works. It is an error when the first one fails.
    pub async fn try_out(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
    ) -> Result<Trial, Error> {
        let said = self.answered(ctx, model, counting()).await?;
        let called = self.answered(ctx, model, calling()).await;
        let first_chunk_ms = said.first.map(|first| first.as_millis());
        let pieces = said.texts.len();
        let called_usage = called.as_ref().ok().and_then(|called| called.usage.clone());
        Ok(Trial {
            model: model.clone(),
            text: match said.texts.concat().trim() {
                "" => Finding::bad("the answer has no text"),
                text => Finding::good(format!("{} characters", text.chars().count())),
            },
            streaming: if pieces > 1 {
                Finding::good(format!("{pieces} pieces"))
            } else {
                Finding::bad("the answer came in one piece")
            },
            tools: tools(called),
            first_chunk_ms: first_chunk_ms.and_then(|ms| u64::try_from(ms).ok()),
            usage: said.usage.into_iter().chain(called_usage).collect(),
        })
    }

    async fn answered(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
        request: ChatRequest,
    ) -> Result<Answered, Error> {
        let started = Instant::now();
        let mut stream = self.chat(ctx, model, request).await?;
        let mut answered = Answered {
            texts: Vec::new(),
            calls: Vec::new(),
            usage: None,
            first: None,
        };
        while let Some(chunk) = stream.next().await {
            answered.first.get_or_insert_with(|| started.elapsed());
            match chunk? {
                Chunk::Text(text) => answered.texts.push(text),
                Chunk::Thinking(_) => {}
                Chunk::ToolCall(call) => answered.calls.push(call),
                Chunk::Done(done) => answered.usage = done.usage,
            }
        }
        Ok(answered)
    }
}

fn counting() -> ChatRequest {
    ChatRequest {
        messages: vec![Message::user(
            "Write the numbers from one to twenty as English words, with commas between them.",
        )],
        max_output_tokens: Some(MAX_TOKENS),
        ..ChatRequest::default()
    }
}

fn calling() -> ChatRequest {
    let words = format!("Call the tool `note` with the word `{WORD}`. Do nothing else.");
    ChatRequest {
        messages: vec![Message::user(words)],
        tools: vec![ToolSpec {
            name: "note".to_owned(),
            description: "Takes a note of a word.".to_owned(),
            input_schema: json!({
                "type": "object", "properties": { "word": { "type": "string" } },
                "required": ["word"], "additionalProperties": false,
            }),
        }],
        max_output_tokens: Some(MAX_TOKENS),
        ..ChatRequest::default()
    }
}

fn tools(called: Result<Answered, Error>) -> Finding {
    let called = match called {
        Ok(called) => called,
        Err(error) => return Finding::bad(error.to_string()),
    };
    match called.calls.first() {
        None => Finding::bad("it did not call the tool"),
        Some(call) if call.name != "note" => Finding::bad("it called a tool that is not there"),
        Some(call) if call.arguments == Arguments::Json(json!({ "word": WORD })) => {
            Finding::good("called as asked")
        }
        Some(_) => Finding::bad("it called the tool with other arguments"),
    }
}
