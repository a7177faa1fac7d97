//! Tests of Anthropic's Messages, with bytes as the provider sends them.

use serde_json::{Value, json};

use super::format::Message as Reader;
use super::wire::Body;
use crate::answer::trial::{self, sse};
use crate::names::ToolNames;
use crate::{
    Arguments, ChatRequest, Chunk, Done, Error, Image, Keepsake, Message, StopReason, ToolCall,
    ToolSpec, Usage,
};

fn read(parts: &[&[u8]]) -> (Vec<Chunk>, Result<(), Error>) {
    trial::read(Reader::default(), parts)
}

fn start(index: u32, block: Value) -> Value {
    json!({ "type": "content_block_start", "index": index, "content_block": block })
}

fn delta(index: u32, delta: Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn stop(index: u32) -> Value {
    json!({ "type": "content_block_stop", "index": index })
}

/// Thoughts, text, thoughts that cannot be read, and two calls.
fn everything() -> String {
    sse(&[
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message",
            "role": "assistant", "content": [], "model": "claude", "stop_reason": null,
            "usage": { "input_tokens": 10, "cache_creation_input_tokens": 2,
                       "cache_read_input_tokens": 30, "output_tokens": 1 } } }),
        start(
            0,
            json!({ "type": "thinking", "thinking": "", "signature": "" }),
        ),
        json!({ "type": "ping" }),
        delta(0, json!({ "type": "thinking_delta", "thinking": "Hm" })),
        delta(0, json!({ "type": "thinking_delta", "thinking": "…" })),
        delta(0, json!({ "type": "signature_delta", "signature": "c2ln" })),
        stop(0),
        start(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "Grüße, " })),
        delta(1, json!({ "type": "text_delta", "text": "世界" })),
        stop(1),
        start(2, json!({ "type": "redacted_thinking", "data": "secret" })),
        stop(2),
        start(
            3,
            json!({ "type": "tool_use", "id": "toolu_1", "name": "look", "input": {} }),
        ),
        delta(3, json!({ "type": "input_json_delta", "partial_json": "" })),
        delta(
            3,
            json!({ "type": "input_json_delta", "partial_json": "{\"q\": \"ü" }),
        ),
        delta(
            3,
            json!({ "type": "input_json_delta", "partial_json": "ber\"}" }),
        ),
        stop(3),
        start(
            4,
            json!({ "type": "tool_use", "id": "toolu_2", "name": "now", "input": {} }),
        ),
        stop(4),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use" },
                "usage": { "output_tokens": 89 } }),
        json!({ "type": "message_stop" }),
    ])
}

fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: Arguments::Json(arguments),
    }
}

fn keepsake() -> Keepsake {
    Keepsake {
        provider: "p".to_owned(),
        value: json!([
            { "type": "thinking", "thinking": "Hm…", "signature": "c2ln" },
            "Grüße, 世界".len(),
            { "type": "redacted_thinking", "data": "secret" },
            null, null,
        ]),
    }
}

fn everything_read() -> Vec<Chunk> {
    vec![
        Chunk::Thinking("Hm".to_owned()),
        Chunk::Thinking("…".to_owned()),
        Chunk::Text("Grüße, ".to_owned()),
        Chunk::Text("世界".to_owned()),
        Chunk::ToolCall(call("toolu_1", "look", json!({ "q": "über" }))),
        Chunk::ToolCall(call("toolu_2", "now", json!({}))),
        Chunk::Done(Done {
            usage: Some(Usage {
                input_tokens: 42,
                output_tokens: 89,
                cached_tokens: Some(30),
                cost_usd: None,
            }),
            stop: StopReason::ToolCalls,
            keepsake: Some(keepsake()),
        }),
    ]
}

#[test]
fn any_cut_any_end_and_any_bytes_are_read_or_refused() {
    let whole = (&*everything(), &*everything_read());
    trial::hold_against_any_bytes::<Reader>(whole, "\"message_delta\"");
}

#[test]
fn an_answer_that_comes_whole() {
    let chunks = trial::read_document(
        Reader::default(),
        &json!({ "type": "message", "role": "assistant", "stop_reason": "tool_use",
            "content": [
                { "type": "thinking", "thinking": "Hm…", "signature": "c2ln" },
                { "type": "text", "text": "Grüße, 世界" },
                { "type": "redacted_thinking", "data": "secret" },
                { "type": "tool_use", "id": "toolu_1", "name": "look", "input": { "q": "über" } },
                { "type": "tool_use", "id": "toolu_2", "name": "now", "input": {} },
            ],
            "usage": { "input_tokens": 10, "cache_creation_input_tokens": 2,
                       "cache_read_input_tokens": 30, "output_tokens": 89 } }),
    );
    let (streamed, whole) = (everything_read(), chunks);
    assert_eq!(whole.len(), 5);
    assert_eq!(whole[0], Chunk::Thinking("Hm…".to_owned()));
    assert_eq!(whole[1], Chunk::Text("Grüße, 世界".to_owned()));
    assert_eq!(whole[2..], streamed[4..]);
}

#[test]
fn arguments_of_the_providers_own_tools_are_left_out() {
    let own = json!({ "type": "server_tool_use", "id": "s", "name": "web_search", "input": {} });
    let text = sse(&[
        start(0, own),
        delta(
            0,
            json!({ "type": "input_json_delta", "partial_json": "{\"q\":1}" }),
        ),
        start(
            1,
            json!({ "type": "tool_use", "id": "t", "name": "look", "input": {} }),
        ),
        delta(
            1,
            json!({ "type": "input_json_delta", "partial_json": "{\"q\":2}" }),
        ),
        json!({ "type": "message_stop" }),
    ]);
    let (chunks, result) = read(&[text.as_bytes()]);
    result.unwrap();
    assert_eq!(
        chunks[0],
        Chunk::ToolCall(call("t", "look", json!({ "q": 2 })))
    );
    assert_eq!(chunks.len(), 2, "{chunks:?}");
}

#[test]
fn reasons_to_stop() {
    for (reason, expected) in [
        ("end_turn", StopReason::Stop),
        ("stop_sequence", StopReason::Stop),
        ("max_tokens", StopReason::MaxTokens),
        ("model_context_window_exceeded", StopReason::MaxTokens),
        ("refusal", StopReason::Refusal),
        ("pause_turn", StopReason::Other("pause_turn".to_owned())),
    ] {
        let text = sse(&[
            json!({ "type": "message_delta", "delta": { "stop_reason": reason } }),
            json!({ "type": "message_stop" }),
        ]);
        let done = Done {
            usage: None,
            stop: expected,
            keepsake: None,
        };
        assert_eq!(read(&[text.as_bytes()]), (vec![Chunk::Done(done)], Ok(())));
    }
}

#[test]
fn an_error_in_the_stream_comes_after_the_text_before_it() {
    let error = json!({ "type": "error", "error": { "type": "overloaded_error",
                        "message": "secret words" } });
    let text = sse(&[start(0, json!({ "type": "text", "text": "a" })), error]);
    let (chunks, result) = read(&[text.as_bytes()]);
    assert_eq!(chunks, vec![Chunk::Text("a".to_owned())]);
    let expected = Error::Overloaded {
        provider: "p".to_owned(),
        retry_after: None,
    };
    assert_eq!(result, Err(expected));
}

fn conversation(keepsake: Option<Keepsake>, text: &str) -> ChatRequest {
    ChatRequest {
        model: "claude-sonnet-4-5".to_owned(),
        system: Some("be brief".to_owned()),
        messages: vec![
            Message::User {
                text: "q".to_owned(),
                images: vec![Image {
                    media_type: "image/png".to_owned(),
                    base64: "AAAA".into(),
                }],
            },
            Message::Assistant {
                text: text.to_owned(),
                tool_calls: vec![
                    call("c:1", "a.b", json!({ "x": 1 })),
                    call("c:1", "a.b", json!([])),
                ],
                keepsake,
            },
            Message::ToolResult {
                tool_call_id: "c:1".to_owned(),
                content: "1".to_owned(),
            },
            Message::user("and?"),
        ],
        tools: vec![ToolSpec {
            name: "a.b".to_owned(),
            description: "does".to_owned(),
            input_schema: json!({ "type": "object" }),
        }],
        response_schema: Some(json!({ "type": "object", "properties": {} })),
        ..ChatRequest::default()
    }
}

fn sent(request: &ChatRequest) -> Value {
    let names = ToolNames::of(request);
    serde_json::to_value(Body::new("p", request, &names)).unwrap()
}

#[test]
fn a_whole_conversation_on_the_wire() {
    assert_eq!(
        sent(&conversation(None, "")),
        json!({
            "model": "claude-sonnet-4-5", "max_tokens": 16_384, "stream": true, "system": "be brief",
            "messages": [
                { "role": "user", "content": [
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png",
                                                   "data": "AAAA" } },
                    { "type": "text", "text": "q" } ] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "c_1", "name": "a_b", "input": { "x": 1 } },
                    { "type": "tool_use", "id": "c_1_2", "name": "a_b", "input": { "value": [] } } ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "c_1", "content": "1" },
                    { "type": "text", "text": "and?" } ] },
            ],
            "tools": [{ "name": "a_b", "description": "does", "input_schema": { "type": "object" } }],
            "output_config": { "format": { "type": "json_schema", "schema": {
                "type": "object", "properties": {}, "additionalProperties": false } } },
        })
    );
}

#[test]
fn signed_thoughts_go_back_where_they_stood_and_to_their_provider_only() {
    let kinds = |request: &ChatRequest| -> Vec<String> {
        let body = sent(request);
        let blocks = body["messages"][1]["content"].as_array().unwrap();
        let kind = |block: &Value| block["type"].as_str().unwrap().to_owned();
        blocks.iter().map(kind).collect()
    };
    let request = conversation(Some(keepsake()), "Grüße, 世界");
    let whole = [
        "thinking",
        "text",
        "redacted_thinking",
        "tool_use",
        "tool_use",
    ];
    assert_eq!(kinds(&request), whole);
    let thought = &sent(&request)["messages"][1]["content"][0];
    assert_eq!(
        *thought,
        json!({ "type": "thinking", "thinking": "Hm…", "signature": "c2ln" })
    );
    let shortened = conversation(Some(keepsake()), "Grüße");
    let sorted = [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
        "tool_use",
    ];
    assert_eq!(kinds(&shortened), sorted);
    let other = Keepsake {
        provider: "other".to_owned(),
        ..keepsake()
    };
    let without = ["text", "tool_use", "tool_use"];
    assert_eq!(kinds(&conversation(Some(other), "Grüße, 世界")), without);
}
