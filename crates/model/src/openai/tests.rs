//! Tests of how answers are put together, from the bytes that servers send.

use serde_json::{Value, json};

use super::ChatCompletion;
use super::wire::{Body, Options};
use crate::answer::trial::{self, sse};
use crate::names::ToolNames;
use crate::{
    Arguments, ChatRequest, Chunk, Done, Error, Keepsake, MaxTokensField, Message, StopReason,
    ToolCall, Usage,
};

fn read(parts: &[&[u8]]) -> (Vec<Chunk>, Result<(), Error>) {
    trial::read(ChatCompletion::default(), parts)
}

#[test]
fn an_event_that_the_user_has_no_room_for_is_refused_before_it_is_read() {
    let account = netra_context::memory::Account::user();
    account.set_limit(1 << 20);
    let large = sse(&[delta(json!({ "content": "x", "other": vec![0; 50_000] }))]);
    let (chunks, _) = read(&[large.as_bytes()]);
    assert_eq!(chunks.len(), 1, "it can be read where there is room");
    let _entered = account.scope().enter();
    let (_, result) = read(&[large.as_bytes()]);
    assert!(matches!(result, Err(Error::NoRoom(_))), "{result:?}");
    assert_eq!(account.current_bytes(), 0);
}

fn delta(delta: Value) -> Value {
    json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] })
}

fn finish(reason: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
}

fn piece(call: Value) -> Value {
    delta(json!({ "tool_calls": [call] }))
}

fn call(id: &str, name: &str, arguments: Value) -> Chunk {
    let (id, name) = (id.to_owned(), name.to_owned());
    Chunk::ToolCall(ToolCall {
        id,
        name,
        arguments: Arguments::Json(arguments),
    })
}

fn done(stop: StopReason) -> Chunk {
    Chunk::Done(Done {
        usage: None,
        stop,
        keepsake: None,
    })
}

fn complete(events: &[Value]) -> Vec<Chunk> {
    let (chunks, result) = read(&[sse(events).as_bytes()]);
    result.unwrap();
    chunks
}

/// A long answer with everything in it.
fn everything() -> String {
    let mut text = ": OPENROUTER PROCESSING\r\n\r\n".to_owned();
    text += &sse(&[
        delta(json!({ "role": "assistant", "content": "" })),
        delta(json!({ "reasoning_content": "Größe? 🤔" })),
        delta(json!({ "content": "Grüße, 世界\n" })),
        delta(json!({ "content": "\"🦀\"" })),
        piece(json!({ "index": 0, "id": "a", "type": "function",
                      "function": { "name": "look", "arguments": "" } })),
        piece(json!({ "index": 0, "function": { "arguments": "{\"q\":\"ü" } })),
        piece(json!({ "index": 1, "id": "b", "function": { "name": "add", "arguments": "{" } })),
        piece(json!({ "index": 0, "function": { "arguments": "ber\"}" } })),
        piece(json!({ "index": 1, "function": { "arguments": "\"x\":2}" } })),
        finish("tool_calls"),
        json!({ "choices": [], "usage": { "prompt_tokens": 11, "completion_tokens": 7,
                "total_tokens": 18, "prompt_tokens_details": { "cached_tokens": 4 } } }),
    ]);
    text + "data: [DONE]\n\n"
}

fn everything_read() -> Vec<Chunk> {
    let usage = Usage {
        input_tokens: 11,
        output_tokens: 7,
        cached_tokens: Some(4),
        cost_usd: None,
    };
    vec![
        Chunk::Thinking("Größe? 🤔".to_owned()),
        Chunk::Text("Grüße, 世界\n".to_owned()),
        Chunk::Text("\"🦀\"".to_owned()),
        call("a", "look", json!({ "q": "über" })),
        call("b", "add", json!({ "x": 2 })),
        Chunk::Done(Done {
            usage: Some(usage),
            stop: StopReason::ToolCalls,
            keepsake: Some(Keepsake {
                provider: "p".to_owned(),
                value: json!({ "reasoning_content": "Größe? 🤔" }),
            }),
        }),
    ]
}

#[test]
fn any_cut_any_end_and_any_bytes_are_read_or_refused() {
    let whole = (&*everything(), &*everything_read());
    trial::hold_against_any_bytes::<ChatCompletion>(whole, "\"finish_reason\":\"tool_calls\"");
}

#[test]
fn one_byte_at_a_time() {
    let text = everything();
    let parts: Vec<_> = text.as_bytes().chunks(1).collect();
    assert_eq!(read(&parts), (everything_read(), Ok(())));
}

#[test]
fn calls_of_servers_that_number_everything_zero_or_nothing() {
    let function = |name: &str| json!({ "name": name, "arguments": "{\"n\":1}" });
    for index in [json!(0), Value::Null] {
        let chunks = complete(&[
            piece(json!({ "index": index, "id": "a", "function": function("f") })),
            piece(json!({ "index": index, "id": "b", "function": function("g") })),
            finish("stop"),
        ]);
        let expected = vec![
            call("a", "f", json!({ "n": 1 })),
            call("b", "g", json!({ "n": 1 })),
            done(StopReason::ToolCalls),
        ];
        assert_eq!(chunks, expected, "index {index}");
    }
}

#[test]
fn a_call_without_id_or_arguments_or_with_an_object() {
    let chunks = complete(&[
        piece(json!({ "index": 0, "function": { "name": "now" } })),
        piece(
            json!({ "index": 1, "id": "x", "function": { "name": "f", "arguments": { "a": [1] } } }),
        ),
        finish("tool_calls"),
    ]);
    let expected = vec![
        call("call_0", "now", json!({})),
        call("x", "f", json!({ "a": [1] })),
        done(StopReason::ToolCalls),
    ];
    assert_eq!(chunks, expected);
}

#[test]
fn arguments_that_are_cut_are_invalid_and_kept() {
    let chunks = complete(&[
        piece(
            json!({ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{\"a\":" } }),
        ),
        finish("length"),
    ]);
    let arguments = Arguments::Invalid("{\"a\":".to_owned());
    let cut = ToolCall {
        id: "a".to_owned(),
        name: "f".to_owned(),
        arguments,
    };
    assert_eq!(
        chunks,
        vec![Chunk::ToolCall(cut), done(StopReason::MaxTokens)]
    );
}

#[test]
fn thoughts_refusals_and_typed_parts() {
    let chunks = complete(&[
        delta(json!({ "reasoning": "hm", "reasoning_content": null })),
        delta(json!({ "content": [
            { "type": "thinking", "thinking": [{ "type": "text", "text": "so" }] },
            { "type": "text", "text": "No" } ] })),
        delta(json!({ "content": null, "refusal": ", I will not." })),
        finish("stop"),
    ]);
    let expected = vec![
        Chunk::Thinking("hm".to_owned()),
        Chunk::Thinking("so".to_owned()),
        Chunk::Text("No".to_owned()),
        Chunk::Text(", I will not.".to_owned()),
        done(StopReason::Refusal),
    ];
    assert_eq!(chunks, expected);
}

#[test]
fn thoughts_in_blocks_go_back_with_the_calls_that_they_led_to() {
    let details = |block: Value| json!({ "reasoning": "hm", "reasoning_details": [block] });
    let text = json!({ "type": "reasoning.text", "text": "hm", "index": 0 });
    let signed = json!({ "type": "reasoning.text", "signature": "s", "index": 0 });
    let chunks = complete(&[
        delta(details(text)),
        delta(json!({ "reasoning_details": [signed] })),
        piece(json!({ "index": 0, "id": "a", "function": { "name": "f", "arguments": "{}" } })),
        finish("tool_calls"),
    ]);
    assert_eq!(chunks[0], Chunk::Thinking("hm".to_owned()), "told once");
    let Some(Chunk::Done(Done { keepsake, .. })) = chunks.last() else {
        panic!("{chunks:?}");
    };
    let blocks = json!([{ "type": "reasoning.text", "text": "hm", "index": 0, "signature": "s" }]);
    let kept = json!({ "reasoning_details": blocks });
    assert_eq!(
        keepsake.as_ref().map(|keepsake| &keepsake.value),
        Some(&kept)
    );
    let [Chunk::Thinking(_), Chunk::ToolCall(call), _] = &chunks[..] else {
        panic!("{chunks:?}");
    };
    let request = ChatRequest {
        messages: vec![Message::Assistant {
            text: String::new(),
            tool_calls: vec![call.clone()],
            keepsake: keepsake.clone(),
        }],
        ..ChatRequest::default()
    };
    let names = ToolNames::of(&request);
    let options = Options {
        max_tokens: MaxTokensField::MaxTokens,
        usage: false,
    };
    let sent = |provider| json!(Body::new(provider, &request, &names, options));
    assert_eq!(sent("p")["messages"][0]["reasoning_details"], blocks);
    let stranger = &sent("another")["messages"][0];
    assert!(stranger.get("reasoning_details").is_none(), "{stranger}");
}

#[test]
fn what_is_no_answer() {
    let malformed = |what| {
        Err(Error::Malformed {
            provider: "p".to_owned(),
            what,
        })
    };
    let nameless = sse(&[
        piece(json!({ "index": 0, "id": "a", "function": {} })),
        finish("stop"),
    ]);
    let cases = [
        (
            "data: {\"choices\": [\n\n",
            malformed("an event is not as agreed"),
        ),
        ("data: [DONE]\n\n", malformed("the answer is empty")),
        ("data: \u{0}\n\n", malformed("an event is not as agreed")),
        (&nameless, malformed("a tool call has no name")),
        (
            "<html>no stream</html>",
            Err(Error::Cut {
                provider: "p".to_owned(),
            }),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(&[text.as_bytes()]), (vec![], expected), "{text:?}");
    }
    let bad = read(&[b"data: \xff\xfe\n\n"]);
    assert_eq!(bad, (vec![], malformed("a line is not text")));
}

#[test]
fn limits_on_length_and_calls() {
    let malformed = |what| {
        Err(Error::Malformed {
            provider: "p".to_owned(),
            what,
        })
    };
    let part = sse(&[delta(json!({ "content": "x".repeat(3 * 1024 * 1024) }))]);
    let (chunks, result) = read(&[part.as_bytes(); 6]);
    assert_eq!(
        (chunks.len(), result),
        (5, malformed("the answer is too long"))
    );
    let calls: Vec<_> = (0..257)
        .map(|index| piece(json!({ "index": index, "function": { "name": "f" } })))
        .collect();
    let (_, result) = read(&[sse(&calls).as_bytes()]);
    assert_eq!(result, malformed("too many tool calls"));
}

#[test]
fn an_error_in_the_stream_comes_after_the_text_before_it() {
    let cases = [
        (
            json!({ "message": "secret words", "type": "server_error" }),
            "unavailable",
        ),
        (
            json!({ "message": "secret words", "code": 429 }),
            "rate_limited",
        ),
        (
            json!({ "message": "secret words", "type": "overloaded_error" }),
            "overloaded",
        ),
        (
            json!({ "message": "secret words", "code": "context_length_exceeded" }),
            "invalid_request",
        ),
        (json!("secret words"), "unavailable"),
    ];
    for (error, outcome) in cases {
        let text = sse(&[delta(json!({ "content": "a" })), json!({ "error": error })]);
        let (chunks, result) = read(&[text.as_bytes()]);
        assert_eq!(chunks, vec![Chunk::Text("a".to_owned())]);
        let error = result.unwrap_err();
        assert_eq!(error.outcome(), outcome);
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}
