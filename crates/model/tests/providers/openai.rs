//! Calls of a provider over real connections: a server in the test speaks the wire format, and
//! misbehaves.

use std::time::Duration;

use futures::StreamExt;
use netra_model::{
    Arguments, ChatRequest, Chunk, Done, Error, Message, ModelRef, Models, ProviderConfig, Secret,
    StopReason, ToolCall, ToolSpec, Usage,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::server::{KEY, STREAM, Server, collect, context, event, part, status};

const QUESTION: &str = "a private question";

fn models(server: &Server) -> Models {
    let url = format!("{}/v1/", server.address());
    server.models(ProviderConfig::openai_compatible(
        url,
        Some(Secret::new(KEY)),
    ))
}

fn text(text: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }))
}

fn end(reason: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
}

const DONE: &str = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";

fn model() -> ModelRef {
    "local/m-1".parse().unwrap()
}

fn question() -> ChatRequest {
    let tools = vec![ToolSpec {
        name: "data.look".to_owned(),
        description: "looks".to_owned(),
        input_schema: json!({ "type": "object" }),
    }];
    let messages = vec![Message::user(QUESTION)];
    ChatRequest {
        messages,
        tools,
        ..ChatRequest::default()
    }
}

/// One call against one prepared answer.
async fn call(answer: &str) -> (Vec<Chunk>, Option<Error>, (String, Value)) {
    let server = Server::start().await;
    let (models, ctx, model) = (models(&server), context(120_000), model());
    let client = async { collect(models.chat(&ctx, &model, question()).await).await };
    let ((chunks, error), seen) = tokio::join!(client, server.answer(answer));
    if let Some(error) = &error {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(KEY) && !shown.contains(QUESTION), "{shown}");
        assert!(!shown.contains("127.0.0.1"), "{shown}");
    }
    (chunks, error, seen)
}

#[tokio::test]
async fn text_tools_and_usage_over_the_wire() {
    let piece = |call: Value| {
        event(&json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] } }] }))
    };
    let answer = [
        STREAM,
        &text("Hel"),
        &text("lo"),
        &piece(json!({ "index": 0, "id": "a", "function": { "name": "data_look", "arguments": "{\"x" } })),
        &piece(json!({ "index": 1, "id": "b", "function": { "name": "other", "arguments": "{}" } })),
        &piece(json!({ "index": 0, "function": { "arguments": "\":1}" } })),
        &end("tool_calls"),
        &event(&json!({ "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 3 } })),
        DONE,
    ]
    .concat();
    let (chunks, error, (head, body)) = call(&answer).await;
    assert_eq!(error, None);
    let call = |id: &str, name: &str, arguments| {
        let (id, name, arguments) = (id.to_owned(), name.to_owned(), Arguments::Json(arguments));
        Chunk::ToolCall(ToolCall {
            id,
            name,
            arguments,
        })
    };
    let usage = Usage {
        input_tokens: 5,
        output_tokens: 3,
        cached_tokens: None,
        cost_usd: None,
    };
    let expected = vec![
        Chunk::Text("Hel".to_owned()),
        Chunk::Text("lo".to_owned()),
        call("a", "data.look", json!({ "x": 1 })),
        call("b", "other", json!({})),
        Chunk::Done(Done {
            usage: Some(usage),
            stop: StopReason::ToolCalls,
            keepsake: None,
        }),
    ];
    assert_eq!(chunks, expected);
    assert!(
        head.starts_with("post /v1/chat/completions http/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("authorization: bearer {KEY}\r\n")),
        "{head}"
    );
    assert_eq!(body["model"], "m-1");
    assert_eq!(body["stream_options"], json!({ "include_usage": true }));
    assert_eq!(
        body["messages"],
        json!([{ "role": "user", "content": QUESTION }])
    );
    assert_eq!(body["tools"][0]["function"]["name"], "data_look");
}

#[tokio::test]
async fn a_server_that_does_not_stream() {
    let body = json!({ "choices": [{ "message": { "content": "all at once" }, "finish_reason": "stop" }],
                       "usage": { "prompt_tokens": 1, "completion_tokens": 2 } });
    let answer = status(
        "200 OK",
        "content-type: application/json\r\n",
        &body.to_string(),
    );
    let (chunks, error, _) = call(&answer).await;
    assert_eq!(error, None);
    let usage = Usage {
        input_tokens: 1,
        output_tokens: 2,
        cached_tokens: None,
        cost_usd: None,
    };
    let done = Done {
        usage: Some(usage),
        stop: StopReason::Stop,
        keepsake: None,
    };
    assert_eq!(
        chunks,
        vec![Chunk::Text("all at once".to_owned()), Chunk::Done(done)]
    );
}

#[tokio::test]
async fn every_status_becomes_its_error() {
    let provider = || "local".to_owned();
    let echo =
        json!({ "error": { "message": format!("{KEY} said: {QUESTION}"), "code": "bad_value",
                                  "param": "messages[0]" } })
        .to_string();
    let wait = Some(Duration::from_secs(7));
    let cases = [
        (
            "429 Too Many Requests",
            Error::RateLimited {
                provider: provider(),
                retry_after: wait,
            },
        ),
        (
            "503 Service Unavailable",
            Error::Overloaded {
                provider: provider(),
                retry_after: wait,
            },
        ),
        (
            "500 Internal Server Error",
            Error::Unavailable {
                provider: provider(),
                reason: "it answered with status 500".to_owned(),
                sent: true,
            },
        ),
        (
            "401 Unauthorized",
            Error::Unauthorized {
                provider: provider(),
                status: 401,
            },
        ),
        (
            "400 Bad Request",
            Error::InvalidRequest {
                provider: provider(),
                status: 400,
                code: Some("bad_value".to_owned()),
                param: Some("messages[0]".to_owned()),
            },
        ),
    ];
    for (line, expected) in cases {
        let (chunks, error, _) = call(&status(line, "retry-after: 7\r\n", &echo)).await;
        assert_eq!((chunks, error), (vec![], Some(expected)));
    }
    let moved = status(
        "307 Temporary Redirect",
        "location: http://127.0.0.1:9/\r\n",
        "",
    );
    let (_, error, _) = call(&moved).await;
    assert!(matches!(error, Some(Error::NotConfigured(_))), "{error:?}");
}

#[tokio::test]
async fn malformed_and_cut_streams() {
    let malformed = [
        STREAM,
        &text("a"),
        &part("data: {\"choices\": nonsense}\n\n"),
        DONE,
    ]
    .concat();
    let (chunks, error, _) = call(&malformed).await;
    assert_eq!(chunks, vec![Chunk::Text("a".to_owned())]);
    assert!(matches!(error, Some(Error::Malformed { .. })), "{error:?}");

    let cut = Some(Error::Cut {
        provider: "local".to_owned(),
    });
    // The connection ends inside the body, then the body ends properly but the answer does not.
    for rest in ["", "5\r\nda", "0\r\n\r\n"] {
        let (chunks, error, _) = call(&[STREAM, &text("a"), rest].concat()).await;
        assert_eq!(
            (chunks, error),
            (vec![Chunk::Text("a".to_owned())], cut.clone()),
            "{rest:?}"
        );
    }
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start().await;
    let models = models(&server);
    drop(server);
    let error = models
        .chat(&context(120_000), &model(), question())
        .await
        .err()
        .unwrap();
    let reason = "no connection (connection refused)".to_owned();
    assert_eq!(
        error,
        Error::Unavailable {
            provider: "local".to_owned(),
            reason,
            sent: false,
        }
    );
}

/// The server's side of a call that is given up: sends `first`, then waits until the connection
/// is closed from the other end.
async fn until_closed(server: &Server, first: &str) {
    let (_, _, mut stream) = server.accept().await;
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    // A reset is a close too.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_slow_stream_ends_at_the_limit_and_its_connection_closes() {
    let server = Server::start().await;
    let (models, ctx, model) = (models(&server), context(60_000), model());
    let client = async {
        let mut stream = models.chat(&ctx, &model, question()).await.unwrap();
        assert_eq!(stream.next().await, Some(Ok(Chunk::Text("a".to_owned()))));
        // From here the clock jumps to the next timer as soon as everybody waits.
        tokio::time::pause();
        let timeout = Error::Timeout {
            provider: "local".to_owned(),
            limit_ms: 60_000,
        };
        assert_eq!(stream.next().await, Some(Err(timeout)));
        assert_eq!(stream.next().await, None);
        tokio::time::resume();
        stream
    };
    // The stream still lives when the server sees the close: the error alone closes it.
    let answer = [STREAM, &text("a")].concat();
    let (stream, ()) = tokio::join!(client, until_closed(&server, &answer));
    drop(stream);
}

#[tokio::test]
async fn a_server_that_says_nothing_runs_into_the_deadline() {
    let server = Server::start().await;
    let models = models(&server);
    let (model, ctx) = (model(), context(120_000).within(Duration::from_secs(60)));
    let client = async { models.chat(&ctx, &model, question()).await.err() };
    let silent = async {
        let (_, _, mut stream) = server.accept().await;
        // The request is here; from now on the clock jumps to the next timer.
        tokio::time::pause();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    };
    let (error, ()) = tokio::join!(client, silent);
    assert_eq!(error, Some(Error::DeadlineExceeded));
}

#[tokio::test]
async fn cancel_and_drop_close_the_connection() {
    let server = Server::start().await;
    let (models, ctx, model) = (models(&server), context(120_000), model());
    let answer = [STREAM, &text("a")].concat();
    let client = async {
        let mut stream = models.chat(&ctx, &model, question()).await.unwrap();
        assert_eq!(stream.next().await, Some(Ok(Chunk::Text("a".to_owned()))));
        drop(stream);
    };
    tokio::join!(client, until_closed(&server, &answer));

    let client = async {
        let mut stream = models.chat(&ctx, &model, question()).await.unwrap();
        assert_eq!(stream.next().await, Some(Ok(Chunk::Text("a".to_owned()))));
        let cancel = async { ctx.cancel_token().cancel() };
        let (end, ()) = tokio::join!(stream.next(), cancel);
        assert_eq!(end, Some(Err(Error::Cancelled)));
        stream
    };
    let (stream, ()) = tokio::join!(client, until_closed(&server, &answer));
    drop(stream);

    let late = models.chat(&ctx, &model, question()).await.err();
    assert_eq!(late, Some(Error::Cancelled));
}
