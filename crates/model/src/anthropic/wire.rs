//! The wire format of Anthropic's Messages: what is sent.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::format::Part;
use crate::names::ToolNames;
use crate::{Arguments, ChatRequest, Image, Keepsake, Message, ToolCall, schema};

/// The most tokens of an answer for which no limit was asked: the format demands one.
const MAX_TOKENS: u32 = 16_384;
/// The same for models of the third generation, which refuse more.
const MAX_TOKENS_BEFORE_4: u32 = 4_096;

/// The body of a request. Borrows what is large from the [`ChatRequest`].
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
}

#[derive(Serialize)]
struct OutputConfig {
    format: OutputFormat,
}

#[derive(Serialize)]
struct OutputFormat {
    r#type: &'static str,
    schema: Value,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: &'a Value,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: &'a str,
    },
    Image {
        source: Source<'a>,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        content: &'a str,
    },
    /// A block that came from the provider and goes back as it was.
    #[serde(untagged)]
    Kept(&'a Value),
}

#[derive(Serialize)]
struct Source<'a> {
    r#type: &'static str,
    media_type: &'a str,
    data: &'a str,
}

/// The longest answer of a model where a request names none: the format wants one.
pub(super) fn longest_answer(model: &str) -> u32 {
    if model.starts_with("claude-3") {
        MAX_TOKENS_BEFORE_4
    } else {
        MAX_TOKENS
    }
}

impl<'a> Body<'a> {
    /// The body for a request, with tool names as the wire wants them.
    pub(super) fn new(provider: &str, request: &'a ChatRequest, names: &'a ToolNames) -> Self {
        let limit = || longest_answer(&request.model);
        let tool = |tool: &'a crate::ToolSpec| Tool {
            name: names.on_wire(&tool.name),
            description: &tool.description,
            input_schema: &tool.input_schema,
        };
        let format = |schema: &Value| OutputConfig {
            format: OutputFormat {
                r#type: "json_schema",
                schema: schema::without_bounds(schema),
            },
        };
        Self {
            model: &request.model,
            max_tokens: request.max_output_tokens.unwrap_or_else(limit),
            stream: true,
            messages: Turns::new(provider, names).all(&request.messages),
            system: request.system.as_deref().filter(|text| !text.is_empty()),
            tools: request.tools.iter().map(tool).collect(),
            temperature: request.temperature,
            output_config: request.response_schema.as_ref().map(format),
        }
    }
}

/// Puts a conversation together. The format wants the results of one message's calls in one
/// message, ids that are unique in the whole conversation and of few characters, and no empty
/// texts.
struct Turns<'a, 'p> {
    provider: &'p str,
    names: &'a ToolNames,
    turns: Vec<Turn<'a>>,
    /// Ids of the last message's calls, as they are here and on the wire.
    ids: Vec<(&'a str, String)>,
    taken: HashSet<String>,
}

impl<'a, 'p> Turns<'a, 'p> {
    fn new(provider: &'p str, names: &'a ToolNames) -> Self {
        Self {
            provider,
            names,
            turns: Vec::new(),
            ids: Vec::new(),
            taken: HashSet::new(),
        }
    }

    fn all(mut self, messages: &'a [Message]) -> Vec<Turn<'a>> {
        for message in messages {
            match message {
                Message::User { text, images } => self.user(text, images),
                Message::Assistant {
                    text,
                    tool_calls,
                    keepsake,
                } => self.assistant(text, tool_calls, keepsake.as_ref()),
                Message::ToolResult {
                    tool_call_id,
                    content,
                } => self.result(tool_call_id, content),
            }
        }
        self.turns
    }

    /// Adds blocks to the last turn where it is of the same role.
    fn push(&mut self, role: &'static str, blocks: Vec<Block<'a>>) {
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some(turn) if turn.role == role => turn.content.extend(blocks),
            _ => self.turns.push(Turn {
                role,
                content: blocks,
            }),
        }
    }

    fn user(&mut self, text: &'a str, images: &'a [Image]) {
        let shown = images.iter().map(|image| Block::Image {
            source: Source {
                r#type: "base64",
                media_type: &image.media_type,
                data: &image.base64,
            },
        });
        self.push("user", shown.chain(text_block(text)).collect());
    }

    fn result(&mut self, tool_call_id: &str, content: &'a str) {
        let known = self.ids.iter().find(|(ours, _)| *ours == tool_call_id);
        let tool_use_id = known.map_or_else(|| wire_id(tool_call_id), |(_, wire)| wire.clone());
        self.push(
            "user",
            vec![Block::ToolResult {
                tool_use_id,
                content,
            }],
        );
    }

    fn assistant(&mut self, text: &'a str, calls: &'a [ToolCall], keepsake: Option<&'a Keepsake>) {
        self.ids.clear();
        for call in calls {
            let mut wire = wire_id(&call.id);
            let mut number = 2;
            while !self.taken.insert(wire.clone()) {
                wire = format!("{}_{number}", wire_id(&call.id));
                number += 1;
            }
            self.ids.push((call.id.as_str(), wire));
        }
        let uses: Vec<Block<'a>> = calls
            .iter()
            .zip(&self.ids)
            .map(|(call, (_, id))| tool_use(call, id.clone(), self.names))
            .collect();
        let own = |keepsake: &&Keepsake| keepsake.provider == self.provider;
        let parts = keepsake
            .filter(own)
            .and_then(|keepsake| kept(&keepsake.value));
        let blocks = match parts {
            Some(parts) => in_order(parts, text, uses),
            None => text_block(text).into_iter().chain(uses).collect(),
        };
        self.push("assistant", blocks);
    }
}

fn text_block(text: &str) -> Option<Block<'_>> {
    (!text.trim().is_empty()).then_some(Block::Text { text })
}

fn tool_use<'a>(call: &'a ToolCall, id: String, names: &'a ToolNames) -> Block<'a> {
    let input = match &call.arguments {
        Arguments::Json(value @ Value::Object(_)) => value.clone(),
        // An input must be an object.
        Arguments::Json(value) => serde_json::json!({ "value": value }),
        Arguments::Invalid(text) => serde_json::json!({ "invalid_json": text }),
    };
    Block::ToolUse {
        id,
        name: names.on_wire(&call.name),
        input,
    }
}

/// An id of the characters that the format allows.
fn wire_id(id: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let id: String = id
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    if id.is_empty() { "_".to_owned() } else { id }
}

/// The parts of a keepsake of this format.
fn kept(value: &Value) -> Option<Vec<Part<&Value>>> {
    value.as_array()?.iter().map(Part::read).collect()
}

/// The blocks of a message in the order in which they came. Where text or calls are no longer
/// those of the answer, thoughts come first, then text, then calls.
fn in_order<'a>(
    parts: Vec<Part<&'a Value>>,
    text: &'a str,
    uses: Vec<Block<'a>>,
) -> Vec<Block<'a>> {
    let said: usize = parts.iter().map(Part::text_bytes).sum();
    let called = parts
        .iter()
        .filter(|part| matches!(part, Part::Call))
        .count();
    let same = said == text.len() && called == uses.len();
    let (mut uses, mut rest) = (uses.into_iter(), text);
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Thought(block) => blocks.push(Block::Kept(block)),
            Part::Text(bytes) if same => {
                // A cut inside a character cannot come from this answer.
                let (head, tail) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
                rest = tail;
                blocks.extend(text_block(head));
            }
            Part::Call if same => blocks.extend(uses.next()),
            Part::Text(_) | Part::Call => {}
        }
    }
    blocks.extend(text_block(rest));
    blocks.extend(uses);
    blocks
}
