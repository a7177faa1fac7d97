//! Tests of Gemini, with bytes as the provider sends them.

use serde_json::{Value, json};

use super::format::Content;
use super::wire::Body;
use crate::answer::trial::{self, sse};
use crate::names::ToolNames;
use crate::{
    Arguments, ChatRequest, Chunk, Done, Error, Image, Keepsake, Message, StopReason, ToolCall,
    ToolSpec, Usage,
};

fn read(parts: &[&[u8]]) -> (Vec<Chunk>, Result<(), Error>) {
    trial::read(Content::default(), parts)
}

fn parts(parts: Value) -> Value {
    json!({ "candidates": [{ "content": { "parts": parts, "role": "model" }, "index": 0 }],
            "usageMetadata": { "promptTokenCount": 11, "totalTokenCount": 11 } })
}

fn end(reason: &str) -> Value {
    json!({ "candidates": [{ "content": { "parts": [{ "text": "" }] }, "finishReason": reason }],
            "usageMetadata": { "promptTokenCount": 11, "candidatesTokenCount": 5,
                "thoughtsTokenCount": 20, "cachedContentTokenCount": 4, "totalTokenCount": 36 } })
}

/// Thoughts, text and two calls, one with an id and a signature.
fn events() -> Vec<Value> {
    vec![
        parts(json!([{ "text": "Hm", "thought": true }])),
        parts(json!([{ "text": "Grüße, 世界" }])),
        parts(json!([
            { "functionCall": { "id": "x1", "name": "look", "args": { "q": "über" } },
              "thoughtSignature": "c2ln" },
            { "functionCall": { "name": "now" } } ])),
        end("STOP"),
    ]
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
        value: json!(["c2ln", null]),
    }
}

fn events_read() -> Vec<Chunk> {
    vec![
        Chunk::Thinking("Hm".to_owned()),
        Chunk::Text("Grüße, 世界".to_owned()),
        Chunk::ToolCall(call("x1", "look", json!({ "q": "über" }))),
        Chunk::ToolCall(call("call_1", "now", json!({}))),
        Chunk::Done(Done {
            usage: Some(Usage {
                input_tokens: 11,
                output_tokens: 25,
                cached_tokens: Some(4),
                cost_usd: None,
            }),
            stop: StopReason::ToolCalls,
            keepsake: Some(keepsake()),
        }),
    ]
}

#[test]
fn any_cut_any_end_and_any_bytes_are_read_or_refused() {
    let whole = (&*sse(&events()), &*events_read());
    trial::hold_against_any_bytes::<Content>(whole, "\"finishReason\"");
}

#[test]
fn a_list_of_all_events_is_an_answer_too() {
    let chunks = trial::read_document(Content::default(), &json!(events()));
    assert_eq!(chunks, events_read());
}

#[test]
fn reasons_to_stop() {
    let done = |events: &[Value]| {
        let (chunks, result) = read(&[sse(events).as_bytes()]);
        result.unwrap();
        let Some(Chunk::Done(done)) = chunks.into_iter().last() else {
            panic!()
        };
        done.stop
    };
    assert_eq!(done(&[end("STOP")]), StopReason::Stop);
    assert_eq!(done(&[end("MAX_TOKENS")]), StopReason::MaxTokens);
    assert_eq!(done(&[end("SAFETY")]), StopReason::ContentFilter);
    let language = StopReason::Other("LANGUAGE".to_owned());
    assert_eq!(done(&[end("LANGUAGE")]), language);
    let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
    assert_eq!(done(&[blocked]), StopReason::ContentFilter);
    let (_, result) = read(&[sse(&[end("MALFORMED_FUNCTION_CALL")]).as_bytes()]);
    assert!(matches!(result, Err(Error::Malformed { .. })));
}

#[test]
fn an_error_in_the_stream_comes_after_the_text_before_it() {
    let error = json!({ "error": { "code": 503, "status": "UNAVAILABLE", "message": "secret" } });
    let text = sse(&[parts(json!([{ "text": "a" }])), error]);
    let (chunks, result) = read(&[text.as_bytes()]);
    assert_eq!(chunks, vec![Chunk::Text("a".to_owned())]);
    let expected = Error::Overloaded {
        provider: "p".to_owned(),
        retry_after: None,
    };
    assert_eq!(result, Err(expected));
}

fn conversation(model: &str, keepsake: Option<Keepsake>) -> ChatRequest {
    ChatRequest {
        model: model.to_owned(),
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
                text: "so".to_owned(),
                tool_calls: vec![
                    call("x1", "a.b", json!({ "x": 1 })),
                    call("call_1", "a.b", json!({})),
                ],
                keepsake,
            },
            Message::ToolResult {
                tool_call_id: "x1".to_owned(),
                content: "{\"n\":1}".to_owned(),
            },
            Message::ToolResult {
                tool_call_id: "call_1".to_owned(),
                content: "no json".to_owned(),
            },
        ],
        tools: vec![ToolSpec {
            name: "a.b".to_owned(),
            description: "does".to_owned(),
            input_schema: json!({ "type": "object" }),
        }],
        max_output_tokens: Some(9),
        response_schema: Some(json!({ "type": "array" })),
        ..ChatRequest::default()
    }
}

fn sent(request: &ChatRequest) -> Value {
    let names = ToolNames::of(request);
    serde_json::to_value(Body::new("p", request, &names)).unwrap()
}

#[test]
fn a_whole_conversation_on_the_wire() {
    let request = conversation("gemini-3-pro", Some(keepsake()));
    assert_eq!(
        sent(&request),
        json!({
            "contents": [
                { "role": "user", "parts": [
                    { "inlineData": { "mimeType": "image/png", "data": "AAAA" } }, { "text": "q" } ] },
                { "role": "model", "parts": [
                    { "text": "so" },
                    { "functionCall": { "id": "x1", "name": "a_b", "args": { "x": 1 } },
                      "thoughtSignature": "c2ln" },
                    { "functionCall": { "name": "a_b", "args": {} } } ] },
                { "role": "user", "parts": [
                    { "functionResponse": { "id": "x1", "name": "a_b", "response": { "n": 1 } } },
                    { "functionResponse": { "name": "a_b",
                                            "response": { "result": "no json" } } } ] },
            ],
            "systemInstruction": { "parts": [{ "text": "be brief" }] },
            "tools": [{ "functionDeclarations": [{ "name": "a_b", "description": "does",
                "parametersJsonSchema": { "type": "object" } }] }],
            "generationConfig": { "maxOutputTokens": 9, "responseMimeType": "application/json",
                "responseJsonSchema": { "type": "array" } },
        })
    );
}

#[test]
fn calls_of_another_model_have_what_stands_for_a_signature_where_one_is_demanded() {
    let signatures = |model: &str| {
        let body = sent(&conversation(model, None));
        let parts = body["contents"][1]["parts"].as_array().unwrap();
        let signature = |part: &Value| part.get("thoughtSignature").cloned();
        parts.iter().map(signature).collect::<Vec<_>>()
    };
    let stand_in = Some(json!("skip_thought_signature_validator"));
    assert_eq!(signatures("gemini-3-pro"), [None, stand_in, None]);
    assert_eq!(signatures("gemini-2.5-flash"), [None, None, None]);
}
