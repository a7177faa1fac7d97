//! The wire format of Gemini: what is sent.

use serde::Serialize;
use serde_json::{Value, json};

use super::is_newer;
use crate::names::ToolNames;
use crate::{Arguments, ChatRequest, Image, Keepsake, Message, ToolCall, ToolSpec};

/// Stands for the signature of a call that no Gemini has made, where one is demanded.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// The body of a request. Borrows what is large from the [`ChatRequest`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    generation_config: Generation<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    description: &'a str,
    parameters_json_schema: &'a Value,
}

#[derive(Serialize)]
struct Turn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inline_data: Option<InlineData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<FunctionResponse<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InlineData<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Value,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Value,
}

impl<'a> Body<'a> {
    /// The body for a request, with tool names as the wire wants them.
    pub(super) fn new(provider: &str, request: &'a ChatRequest, names: &'a ToolNames) -> Self {
        let declared = |tool: &'a ToolSpec| Declaration {
            name: names.on_wire(&tool.name),
            description: &tool.description,
            parameters_json_schema: &tool.input_schema,
        };
        let declared: Vec<_> = request.tools.iter().map(declared).collect();
        let tools = (!declared.is_empty()).then_some(Tools {
            function_declarations: declared,
        });
        let system = request.system.as_deref().filter(|text| !text.is_empty());
        let schema = request.response_schema.as_ref();
        Self {
            contents: turns(provider, request, names),
            system_instruction: system.map(|text| Turn {
                role: None,
                parts: vec![Part::text(text)],
            }),
            tools: tools.into_iter().collect(),
            generation_config: Generation {
                temperature: request.temperature,
                max_output_tokens: request.max_output_tokens,
                response_mime_type: schema.map(|_| "application/json"),
                response_json_schema: schema,
            },
        }
    }
}

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Self {
            text: Some(text),
            ..Self::default()
        }
    }

    fn image(image: &'a Image) -> Self {
        Self {
            inline_data: Some(InlineData {
                mime_type: &image.media_type,
                data: &image.base64,
            }),
            ..Self::default()
        }
    }

    fn call(call: &'a ToolCall, names: &'a ToolNames, signature: Option<&'a str>) -> Self {
        let args = match &call.arguments {
            Arguments::Json(value @ Value::Object(_)) => value.clone(),
            // Arguments must be an object.
            Arguments::Json(value) => json!({ "value": value }),
            Arguments::Invalid(text) => json!({ "invalid_json": text }),
        };
        Self {
            function_call: Some(FunctionCall {
                id: own_id(&call.id),
                name: names.on_wire(&call.name),
                args,
            }),
            thought_signature: signature,
            ..Self::default()
        }
    }

    fn response(id: &'a str, name: &'a str, content: &str) -> Self {
        let response = match serde_json::from_str(content) {
            Ok(value @ Value::Object(_)) => value,
            Ok(value) => json!({ "result": value }),
            Err(_) => json!({ "result": content }),
        };
        Self {
            function_response: Some(FunctionResponse {
                id: own_id(id),
                name,
                response,
            }),
            ..Self::default()
        }
    }
}

/// An id that came from a provider. Those that we count up, where it gives none, it does not know:
/// it tells results apart by their order then.
fn own_id(id: &str) -> Option<&str> {
    let counted = id
        .strip_prefix("call_")
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    (!id.is_empty() && !counted).then_some(id)
}

fn turns<'a>(provider: &str, request: &'a ChatRequest, names: &'a ToolNames) -> Vec<Turn<'a>> {
    let mut turns: Vec<Turn<'a>> = Vec::new();
    let mut calls: &[ToolCall] = &[];
    for message in &request.messages {
        let (role, parts): (_, Vec<Part<'a>>) = match message {
            Message::User { text, images } => {
                let shown = images.iter().map(Part::image);
                let text = (!text.is_empty()).then(|| Part::text(text));
                ("user", shown.chain(text).collect())
            }
            Message::Assistant {
                text,
                tool_calls,
                keepsake,
            } => {
                calls = tool_calls;
                let signatures = signatures(provider, request, tool_calls, keepsake.as_ref());
                let text = (!text.is_empty()).then(|| Part::text(text));
                let called = tool_calls.iter().zip(signatures);
                let called = called.map(|(call, signature)| Part::call(call, names, signature));
                ("model", text.into_iter().chain(called).collect())
            }
            Message::ToolResult {
                tool_call_id,
                content,
            } => {
                let call = calls.iter().find(|call| call.id == *tool_call_id);
                let name = call.map_or("unknown", |call| names.on_wire(&call.name));
                ("user", vec![Part::response(tool_call_id, name, content)])
            }
        };
        match turns.last_mut() {
            _ if parts.is_empty() => {}
            Some(turn) if turn.role == Some(role) => turn.parts.extend(parts),
            _ => turns.push(Turn {
                role: Some(role),
                parts,
            }),
        }
    }
    turns
}

/// The signature of each call. Newer models refuse a conversation whose calls have none, so the
/// first call of a message that is of another model gets what stands for one.
fn signatures<'a>(
    provider: &str,
    request: &ChatRequest,
    calls: &[ToolCall],
    keepsake: Option<&'a Keepsake>,
) -> Vec<Option<&'a str>> {
    let own = keepsake.filter(|keepsake| keepsake.provider == provider);
    let kept = own.and_then(|keepsake| keepsake.value.as_array());
    let signature = |number: usize| kept?.get(number)?.as_str();
    let mut found: Vec<_> = (0..calls.len()).map(signature).collect();
    if is_newer(&request.model)
        && found.iter().all(Option::is_none)
        && let Some(first) = found.first_mut()
    {
        *first = Some(NO_SIGNATURE);
    }
    found
}
