//! The wire format of chat completions: what is sent, and the shapes that come back.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::names::ToolNames;
use crate::{Arguments, ChatRequest, Image, Keepsake, MaxTokensField, Message, ToolCall, schema};

/// What differs between servers.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// The field that carries the limit on output tokens.
    pub(super) max_tokens: MaxTokensField,
    /// Whether to ask for usage.
    pub(super) usage: bool,
}

/// The body of a request. Borrows everything from the [`ChatRequest`].
#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    json_schema: NamedSchema<'a>,
}

#[derive(Serialize)]
struct NamedSchema<'a> {
    name: &'static str,
    strict: bool,
    schema: &'a Value,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum Turn<'a> {
    System {
        content: &'a str,
    },
    User {
        content: Said<'a>,
    },
    Assistant {
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_content: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reasoning_details: Option<&'a Value>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Call<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

/// Text alone goes as a string, which every server understands.
#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

impl<'a> Said<'a> {
    fn new(text: &'a str, images: &'a [Image]) -> Self {
        if images.is_empty() {
            return Self::Text(text);
        }
        let shown = images.iter().map(|image| Part::ImageUrl {
            image_url: ImageUrl {
                url: DataUrl(image),
            },
        });
        Self::Parts(std::iter::once(Part::Text { text }).chain(shown).collect())
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: DataUrl<'a>,
}

/// A picture as an address, written without a copy of its own.
struct DataUrl<'a>(&'a Image);

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Image { media_type, base64 } = self.0;
        serializer.collect_str(&format_args!("data:{media_type};base64,{base64}"))
    }
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledFunction<'a>,
}

#[derive(Serialize)]
struct CalledFunction<'a> {
    name: &'a str,
    arguments: String,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> Body<'a> {
    /// The body for a request, with tool names as the wire wants them.
    pub(super) fn new(
        provider: &str,
        request: &'a ChatRequest,
        names: &'a ToolNames,
        options: Options,
    ) -> Self {
        let system = request
            .system
            .as_deref()
            .map(|content| Turn::System { content });
        let turns = request.messages.iter();
        let turns = turns.map(|message| turn(provider, message, names));
        let limit = request.max_output_tokens;
        Self {
            model: &request.model,
            messages: system.into_iter().chain(turns).collect(),
            stream: true,
            stream_options: options.usage.then_some(StreamOptions {
                include_usage: true,
            }),
            tools: request
                .tools
                .iter()
                .map(|tool| Tool {
                    r#type: "function",
                    function: Function {
                        name: names.on_wire(&tool.name),
                        description: &tool.description,
                        parameters: &tool.input_schema,
                    },
                })
                .collect(),
            temperature: request.temperature,
            max_tokens: limit.filter(|_| options.max_tokens == MaxTokensField::MaxTokens),
            max_completion_tokens: limit
                .filter(|_| options.max_tokens == MaxTokensField::MaxCompletionTokens),
            response_format: request
                .response_schema
                .as_ref()
                .map(|schema| ResponseFormat {
                    r#type: "json_schema",
                    json_schema: NamedSchema {
                        name: "answer",
                        // The server would refuse the request otherwise.
                        strict: schema::is_strict(schema),
                        schema,
                    },
                }),
        }
    }
}

fn turn<'a>(provider: &str, message: &'a Message, names: &'a ToolNames) -> Turn<'a> {
    match message {
        Message::User { text, images } => Turn::User {
            content: Said::new(text, images),
        },
        Message::Assistant {
            text,
            tool_calls,
            keepsake,
        } => Turn::Assistant {
            reasoning_content: kept(provider, keepsake.as_ref(), "reasoning_content"),
            reasoning_details: kept(provider, keepsake.as_ref(), "reasoning_details"),
            content: (!text.is_empty() || tool_calls.is_empty()).then_some(text),
            tool_calls: tool_calls.iter().map(|call| called(call, names)).collect(),
        },
        Message::ToolResult {
            tool_call_id,
            content,
        } => Turn::Tool {
            tool_call_id,
            content,
        },
    }
}

/// The thoughts that a server sent in this field and wants back.
fn kept<'a>(provider: &str, keepsake: Option<&'a Keepsake>, field: &str) -> Option<&'a Value> {
    let own = keepsake.filter(|keepsake| keepsake.provider == provider)?;
    own.value.get(field)
}

fn called<'a>(call: &'a ToolCall, names: &'a ToolNames) -> Call<'a> {
    let arguments = match &call.arguments {
        Arguments::Json(value) => value.to_string(),
        // Several servers parse the history's arguments and refuse the whole conversation for
        // one bad call, so text that is no JSON goes back inside an object.
        Arguments::Invalid(text) => serde_json::json!({ "invalid_json": text }).to_string(),
    };
    let function = CalledFunction {
        name: names.on_wire(&call.name),
        arguments,
    };
    Call {
        id: &call.id,
        r#type: "function",
        function,
    }
}

/// One event of the stream, or a whole answer of a server that does not stream.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) choices: Option<Vec<Choice>>,
    pub(super) usage: Option<WireUsage>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice {
    #[serde(alias = "message")]
    pub(super) delta: Option<Delta>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<Content>,
    pub(super) refusal: Option<String>,
    pub(super) reasoning_content: Option<Value>,
    pub(super) reasoning: Option<Value>,
    pub(super) reasoning_details: Option<Value>,
    pub(super) tool_calls: Option<Vec<CallDelta>>,
}

/// Text is a string nearly everywhere; some servers send a list of typed parts.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Value>),
}

#[derive(Debug, Deserialize)]
pub(super) struct CallDelta {
    pub(super) index: Option<u32>,
    pub(super) id: Option<String>,
    pub(super) function: Option<FunctionDelta>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) prompt_tokens_details: Option<TokenDetails>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenDetails {
    pub(super) cached_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ToolSpec;

    fn spec(name: &str) -> ToolSpec {
        ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            input_schema: json!({ "type": "object" }),
        }
    }

    #[test]
    fn a_whole_conversation_on_the_wire() {
        let request = ChatRequest {
            model: "m".to_owned(),
            system: Some("be brief".to_owned()),
            messages: vec![
                Message::user("q"),
                Message::Assistant {
                    text: String::new(),
                    tool_calls: vec![
                        ToolCall {
                            id: "c1".to_owned(),
                            name: "a.b".to_owned(),
                            arguments: Arguments::Json(json!({ "x": 1 })),
                        },
                        ToolCall {
                            id: "c2".to_owned(),
                            name: "a.b".to_owned(),
                            arguments: Arguments::Invalid("{x".to_owned()),
                        },
                    ],
                    keepsake: None,
                },
                Message::ToolResult {
                    tool_call_id: "c1".to_owned(),
                    content: "1".to_owned(),
                },
            ],
            tools: vec![spec("a.b")],
            max_output_tokens: Some(9),
            ..ChatRequest::default()
        };
        let names = ToolNames::of(&request);
        let options = Options {
            max_tokens: MaxTokensField::MaxCompletionTokens,
            usage: true,
        };
        let body = Body::new("p", &request, &names, options);
        assert_eq!(
            serde_json::to_value(&body).unwrap(),
            json!({
                "model": "m", "stream": true, "stream_options": { "include_usage": true },
                "max_completion_tokens": 9,
                "messages": [
                    { "role": "system", "content": "be brief" },
                    { "role": "user", "content": "q" },
                    { "role": "assistant", "content": null, "tool_calls": [
                        { "id": "c1", "type": "function",
                          "function": { "name": "a_b", "arguments": "{\"x\":1}" } },
                        { "id": "c2", "type": "function",
                          "function": { "name": "a_b",
                                        "arguments": "{\"invalid_json\":\"{x\"}" } },
                    ] },
                    { "role": "tool", "tool_call_id": "c1", "content": "1" },
                ],
                "tools": [{ "type": "function", "function": {
                    "name": "a_b", "description": "", "parameters": { "type": "object" } } }],
            })
        );
    }
}
