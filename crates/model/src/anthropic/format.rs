//! How the events of Anthropic's Messages are read.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Draft, Format, Tokens};
use crate::{Error, StopReason};

/// A part of an answer, in the order in which they came. Texts and calls are kept elsewhere, so
/// only their place is.
pub(super) enum Part<T> {
    /// A block of thoughts with its signature, or thoughts that cannot be read.
    Thought(T),
    /// So many bytes of the text.
    Text(usize),
    /// The next tool call.
    Call,
}

impl<'a> Part<&'a Value> {
    /// Reads what [`Part::write`] wrote.
    pub(super) fn read(value: &'a Value) -> Option<Self> {
        match value {
            Value::Number(bytes) => Some(Self::Text(usize::try_from(bytes.as_u64()?).ok()?)),
            Value::Null => Some(Self::Call),
            Value::Object(_) => Some(Self::Thought(value)),
            _ => None,
        }
    }

    /// How much text it stands for.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(bytes) => *bytes,
            Self::Thought(_) | Self::Call => 0,
        }
    }
}

impl Part<Block> {
    fn write(self) -> Value {
        match self {
            Self::Thought(block) => block.written(),
            Self::Text(bytes) => json!(bytes),
            Self::Call => Value::Null,
        }
    }
}

/// A block that goes back as it came.
pub(super) enum Block {
    Thinking { thinking: String, signature: String },
    Redacted { data: String },
}

impl Block {
    fn written(self) -> Value {
        match self {
            Self::Thinking {
                thinking,
                signature,
            } => json!({ "type": "thinking", "thinking": thinking, "signature": signature }),
            Self::Redacted { data } => json!({ "type": "redacted_thinking", "data": data }),
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Started,
    },
    ContentBlockStart {
        index: u32,
        content_block: Content,
    },
    ContentBlockDelta {
        index: u32,
        delta: Delta,
    },
    MessageDelta {
        delta: Ending,
        usage: Option<WireUsage>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// A whole answer, of a server that does not stream.
    Message {
        content: Vec<Content>,
        stop_reason: Option<String>,
        usage: Option<WireUsage>,
    },
    /// `ping`, `content_block_stop`, and what is not known yet.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Ending {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        signature: Option<String>,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Option<Value>,
    },
    /// Blocks of the provider's own tools, which are never asked for.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: String },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

/// One answer in Messages.
#[derive(Default)]
pub(crate) struct Message {
    parts: Vec<Part<Block>>,
    thought: bool,
    /// The number of the tool call that is being written. The provider's own tools have arguments
    /// too, which are nobody's business here.
    call: Option<u32>,
    usage: Counted,
}

/// What was counted so far, as the format counts: parts of the input are told apart.
#[derive(Default)]
struct Counted {
    fresh: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
}

impl Format for Message {
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<(), Error> {
        match draft.read(data)? {
            Event::MessageStart { message } => self.used(message.usage, draft),
            Event::ContentBlockStart {
                index,
                content_block,
            } => self.block(Some(index), content_block, draft)?,
            Event::ContentBlockDelta { index, delta } => self.delta(index, delta, draft)?,
            Event::MessageDelta { delta, usage } => {
                self.used(usage, draft);
                stopped(delta.stop_reason, draft);
            }
            Event::MessageStop => draft.over(),
            Event::Error { error } => return Err(draft.complaint(&error)),
            Event::Message {
                content,
                stop_reason,
                usage,
            } => {
                self.used(usage, draft);
                for block in content {
                    self.block(None, block, draft)?;
                }
                stopped(stop_reason, draft);
                draft.over();
            }
            Event::Other => {}
        }
        Ok(())
    }

    fn keepsake(&mut self) -> Option<Value> {
        let parts = std::mem::take(&mut self.parts);
        self.thought
            .then(|| parts.into_iter().map(Part::write).collect())
    }
}

impl Message {
    /// A block begins; in a whole answer, which numbers none, it ends too.
    fn block(
        &mut self,
        index: Option<u32>,
        block: Content,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        self.call = None;
        match block {
            Content::Text { text } => {
                self.parts.push(Part::Text(0));
                self.text(text, draft)?;
            }
            Content::Thinking {
                thinking,
                signature,
            } => {
                self.thought = true;
                self.parts.push(Part::Thought(Block::Thinking {
                    thinking: String::new(),
                    signature: signature.unwrap_or_default(),
                }));
                self.thinking(thinking, draft)?;
            }
            Content::RedactedThinking { data } => {
                draft.count(data.len())?;
                self.thought = true;
                self.parts.push(Part::Thought(Block::Redacted { data }));
            }
            Content::ToolUse { id, name, input } => {
                self.parts.push(Part::Call);
                self.call = index;
                match index {
                    // A stream begins with an empty object and sends the text of the real one.
                    Some(_) => draft.call(index, id, name, "")?,
                    None => {
                        let input = input.map(|input| input.to_string());
                        draft.whole_call(id, name, input.unwrap_or_default())?;
                    }
                }
            }
            Content::Other => {}
        }
        Ok(())
    }

    fn delta(&mut self, index: u32, delta: Delta, draft: &mut Draft) -> Result<(), Error> {
        match delta {
            Delta::Text { text } => self.text(text, draft),
            Delta::Thinking { thinking } => self.thinking(thinking, draft),
            Delta::Signature { signature } => {
                draft.count(signature.len())?;
                if let Some(Part::Thought(Block::Thinking {
                    signature: known, ..
                })) = self.parts.last_mut()
                {
                    known.push_str(&signature);
                }
                Ok(())
            }
            Delta::InputJson { partial_json } if self.call == Some(index) => {
                draft.call(Some(index), String::new(), String::new(), &partial_json)
            }
            Delta::InputJson { .. } | Delta::Other => Ok(()),
        }
    }

    fn text(&mut self, text: String, draft: &mut Draft) -> Result<(), Error> {
        match self.parts.last_mut() {
            Some(Part::Text(bytes)) => *bytes += text.len(),
            _ => self.parts.push(Part::Text(text.len())),
        }
        draft.text(text)
    }

    fn thinking(&mut self, text: String, draft: &mut Draft) -> Result<(), Error> {
        if let Some(Part::Thought(Block::Thinking { thinking, .. })) = self.parts.last_mut() {
            // Kept twice: as a chunk, and to be sent back.
            draft.count(text.len())?;
            thinking.push_str(&text);
        }
        draft.thinking(text)
    }

    fn used(&mut self, usage: Option<WireUsage>, draft: &mut Draft) {
        let Some(usage) = usage else { return };
        let counted = &mut self.usage;
        counted.fresh = usage.input_tokens.or(counted.fresh);
        counted.read = usage.cache_read_input_tokens.or(counted.read);
        counted.written = usage.cache_creation_input_tokens.or(counted.written);
        let cached = counted.read.unwrap_or(0) + counted.written.unwrap_or(0);
        draft.used(Tokens {
            input: counted.fresh.map(|fresh| fresh + cached),
            output: usage.output_tokens,
            cached: counted.read,
            cache_write: counted.written,
        });
    }
}

fn stopped(reason: Option<String>, draft: &mut Draft) {
    let Some(reason) = reason else { return };
    draft.stopped(match reason.as_str() {
        "end_turn" | "stop_sequence" => StopReason::Stop,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
        "refusal" => StopReason::Refusal,
        _ => StopReason::Other(reason),
    });
}
