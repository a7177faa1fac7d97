//! What is asked of a model and what comes back, the same for all providers.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// One call of a model. `ChatRequest::default()` is empty; fill in what is needed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The name at the provider. [`crate::Models::chat`] sets it; callers leave it empty.
    pub model: String,
    /// Instructions that stand before the conversation.
    pub system: Option<String>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may ask for.
    pub tools: Vec<ToolSpec>,
    /// Sampling temperature; the provider's default when absent.
    pub temperature: Option<f64>,
    /// The most tokens that the answer may have; the provider's limit when absent.
    pub max_output_tokens: Option<u32>,
    /// JSON Schema that the answer's text must fit, held by the provider itself. Only providers
    /// that say [`crate::Provider::native_schema`] send it; with others it does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_schema: Option<Value>,
}

impl ChatRequest {
    /// The pictures of all its messages.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.messages.iter().flat_map(Message::images)
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What a person, or an agent in a person's place, said.
    User {
        /// The text.
        text: String,
        /// Pictures that belong to it. Only for providers that say [`crate::Provider::images`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        images: Vec<Image>,
    },
    /// What the model said before.
    Assistant {
        /// The text; may be empty when there are tool calls.
        text: String,
        /// The tools that it asked for.
        tool_calls: Vec<ToolCall>,
        /// [`Done::keepsake`] of that answer; without it the message is still understood.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keepsake: Option<Keepsake>,
    },
    /// The answer to one tool call of the assistant's message before.
    ToolResult {
        /// [`ToolCall::id`] of the call.
        tool_call_id: String,
        /// The result, or the words of the error.
        content: String,
    },
}

impl Message {
    fn images(&self) -> &[Image] {
        match self {
            Self::User { images, .. } => images,
            Self::Assistant { .. } | Self::ToolResult { .. } => &[],
        }
    }

    /// A person's words, without pictures.
    pub fn user(text: impl Into<String>) -> Self {
        Self::User {
            text: text.into(),
            images: Vec::new(),
        }
    }
}

/// A picture. Copies share the bytes.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Such as `image/png`.
    pub media_type: String,
    /// The picture's bytes in base64, with padding.
    pub base64: Arc<str>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}, {})", self.media_type, self.base64.len())
    }
}

/// What a provider wants to see again, unchanged, where its answer stands in a later request:
/// signed thoughts, which some models need to go on after their tool calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keepsake {
    /// The configured name of the provider; to others it means nothing.
    pub provider: String,
    /// The provider's own business.
    pub value: Value,
}

/// A tool as it is described to the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name by which the model asks for it.
    pub name: String,
    /// What it does and when to use it.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Value,
}

/// A tool call that the model asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's id. It is unique within its message only, some providers repeat ids later.
    pub id: String,
    /// The tool's name, as the model wrote it: it need not exist.
    pub name: String,
    /// The arguments, not yet checked against the tool's schema.
    pub arguments: Arguments,
}

/// Arguments as the model wrote them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arguments {
    /// Well-formed JSON. No text at all counts as `{}`: that is how models call tools without
    /// parameters.
    Json(Value),
    /// Text that is not JSON, to be shown to the model again.
    Invalid(String),
}

impl Arguments {
    /// Reads what a model wrote.
    pub fn parse(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Json(Value::Object(serde_json::Map::new()));
        }
        match serde_json::from_str(text) {
            Ok(value) => Self::Json(value),
            Err(_) => Self::Invalid(text.to_owned()),
        }
    }

    /// The text as it stands in a conversation.
    pub fn to_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Invalid(text) => text.clone(),
        }
    }
}

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chunk {
    /// More text of the answer; never empty.
    Text(String),
    /// More of what the model thinks aloud; never empty and no part of the answer.
    Thinking(String),
    /// A whole tool call.
    ToolCall(ToolCall),
    /// The end of a complete answer: exactly one, the last chunk.
    Done(Done),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What the provider counted; absent when it told nothing.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub stop: StopReason,
    /// What the provider wants back with this answer, in [`Message::Assistant`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepsake: Option<Keepsake>,
}

/// What one call used, as the provider counted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer, thinking included where the provider counts it so.
    pub output_tokens: u64,
    /// The part of `input_tokens` that came from the provider's cache; absent when not told.
    pub cached_tokens: Option<u64>,
    /// The price of the call in US dollars; absent when no price is known.
    pub cost_usd: Option<f64>,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It had said all.
    Stop,
    /// It waits for the results of its tool calls.
    ToolCalls,
    /// It reached the limit on output tokens: the text, or the last tool call, may be cut off.
    MaxTokens,
    /// The provider's filter stepped in.
    ContentFilter,
    /// The model refused; the text says so in its words.
    Refusal,
    /// Another reason, in the provider's word.
    Other(String),
    /// The provider ended the answer properly but named no reason.
    Unknown,
}

/// The chunks of one answer. It ends after [`Chunk::Done`] or after the first error; dropping it
/// closes the connection.
pub type ChatStream = Pin<Box<dyn Stream<Item = Result<Chunk, Error>> + Send>>;
