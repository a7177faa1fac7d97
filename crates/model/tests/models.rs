//! The registry, its configuration, and the scripted model under the same bounds as any other.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use futures::{FutureExt, StreamExt};
use netra_context::memory::Account;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel, gate};
use netra_model::{
    Arguments, ChatRequest, Chunk, Config, Done, Error, Message, ModelRef, Models, StopReason,
    ToolCall, Usage,
};
use netra_protocol::ErrorCode;
use serde_json::json;

fn context() -> UserExecutionContext {
    UserExecutionContext::for_background(&Runtime::new(), BackgroundKind::Console)
}

fn config(text: &str) -> Result<Config, toml::de::Error> {
    toml::from_str(text)
}

fn problem(config: Config) -> String {
    Models::new(config).err().unwrap().to_string()
}

fn scripted(answers: impl IntoIterator<Item = Answer>) -> (Arc<ScriptedModel>, Models, ModelRef) {
    let script = Arc::new(ScriptedModel::new("script", answers));
    let models = Models::new(Config::default()).unwrap().with(script.clone());
    (script, models, "script/one".parse().unwrap())
}

#[test]
fn a_configuration_and_what_it_lists() {
    let config = config(
        r#"
        default = "near/big"
        [providers.near]
        base_url = "http://localhost:1234/v1"
        models = ["small", "big"]
        [providers.far]
        base_url = "https://api.openai.com/v1"
        models = ["gpt"]
        "#,
    );
    let models = Models::new(config.unwrap()).unwrap();
    let listed: Vec<_> = models
        .list()
        .into_iter()
        .map(|info| (info.name, info.default, info.problem))
        .collect();
    let keyless = "the model provider far needs an api_key".to_owned();
    assert_eq!(
        listed,
        vec![
            ("far/gpt".to_owned(), false, Some(keyless)),
            ("near/big".to_owned(), true, None),
            ("near/small".to_owned(), false, None),
        ]
    );
    assert_eq!(models.resolve(None).unwrap().to_string(), "near/big");
    assert_eq!(
        models.resolve(Some("default")).unwrap().to_string(),
        "near/big"
    );
    let deep = models.resolve(Some("near/org/model:tag")).unwrap();
    assert_eq!(
        (deep.provider.as_str(), deep.model.as_str()),
        ("near", "org/model:tag")
    );
    for unknown in ["near/other", "nowhere/x"] {
        let error = models.is_ready(&unknown.parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ModelNotConfigured);
    }
}

#[test]
fn without_a_provider_the_error_says_what_to_do() {
    let models = Models::new(Config::default()).unwrap();
    assert!(models.list().is_empty());
    let error = models.resolve(None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelNotConfigured);
    assert!(error.to_string().contains("models.default"), "{error}");
    assert!(
        models
            .resolve(Some("nameless"))
            .unwrap_err()
            .to_string()
            .contains("provider/model")
    );
}

#[test]
fn wrong_configurations_are_refused_without_showing_secrets() {
    assert!(config("[providers.a]\nbase_url = \"http://x\"\nkey = \"k\"").is_err());
    let cases = [
        "[providers.a]\nbase_url = \"ftp://user:hush-hush@x\"",
        "[providers.a]\nbase_url = \"hush-hush\"",
        "[providers.a]\nbase_url = \"http://x\"\napi_key = \"hush-hush\\n\"",
        "[providers.a]\nbase_url = \"http://x\"\nheaders = { \"a b\" = \"hush-hush\" }",
        "[providers.a]\nbase_url = \"http://x\"\nproxy = \"::hush-hush\"",
        "[providers.\"a/b\"]\nbase_url = \"http://hush-hush\"",
    ];
    for case in cases {
        let config = config(case).unwrap();
        let shown = problem(config);
        assert!(!shown.contains("hush-hush"), "{shown}");
    }
    let secret = config("[providers.a]\nbase_url = \"http://x\"\napi_key = \"hush-hush\"").unwrap();
    assert!(!format!("{secret:?}").contains("hush-hush"));
}

#[tokio::test]
async fn a_script_is_said_in_order_and_its_requests_are_kept() {
    let (script, models, model) = scripted([
        Answer::new()
            .thinking("hm")
            .text("a")
            .tool_call("1", "f", json!({ "x": 1 }))
            .usage(3, 4),
        Answer::new()
            .invalid_tool_call("2", "f", "{")
            .error(Error::Cut {
                provider: "s".to_owned(),
            }),
        Answer::refuse(Error::RateLimited {
            provider: "s".to_owned(),
            retry_after: None,
        }),
    ]);
    let ctx = context();
    let messages = vec![Message::user("q")];
    let request = ChatRequest {
        messages,
        ..ChatRequest::default()
    };
    let first: Vec<_> = models
        .chat(&ctx, &model, request.clone())
        .await
        .unwrap()
        .collect()
        .await;
    let (id, name) = ("1".to_owned(), "f".to_owned());
    let call = ToolCall {
        id,
        name,
        arguments: Arguments::Json(json!({ "x": 1 })),
    };
    let usage = Usage {
        input_tokens: 3,
        output_tokens: 4,
        cached_tokens: None,
        cost_usd: None,
    };
    let expected = vec![
        Ok(Chunk::Thinking("hm".to_owned())),
        Ok(Chunk::Text("a".to_owned())),
        Ok(Chunk::ToolCall(call)),
        Ok(Chunk::Done(Done {
            usage: Some(usage),
            stop: StopReason::ToolCalls,
            keepsake: None,
        })),
    ];
    assert_eq!(first, expected);
    let second: Vec<_> = models
        .chat(&ctx, &model, request.clone())
        .await
        .unwrap()
        .collect()
        .await;
    assert_eq!(second.len(), 2);
    assert_eq!(
        second[1],
        Err(Error::Cut {
            provider: "s".to_owned()
        })
    );
    let third = models
        .chat(&ctx, &model, request.clone())
        .await
        .err()
        .unwrap();
    assert!(third.retryable());
    let fourth = models
        .chat(&ctx, &model, request.clone())
        .await
        .err()
        .unwrap();
    assert!(matches!(fourth, Error::NotConfigured(_)));
    let sent = ChatRequest {
        model: "one".to_owned(),
        ..request
    };
    assert_eq!(script.requests(), vec![sent; 4]);
}

#[tokio::test]
async fn a_gate_holds_an_answer_and_a_dropped_stream_is_seen() {
    let (gate, opener) = gate();
    let (script, models, model) = scripted([Answer::new().text("a").wait(gate).text("b").hang()]);
    let ctx = context();
    let mut open = script.open_streams();
    let mut stream = models
        .chat(&ctx, &model, ChatRequest::default())
        .await
        .unwrap();
    assert_eq!(*open.borrow_and_update(), 1);
    assert_eq!(stream.next().await, Some(Ok(Chunk::Text("a".to_owned()))));
    assert_eq!(stream.next().now_or_never(), None);
    opener.reached().await;
    opener.open();
    assert_eq!(stream.next().await, Some(Ok(Chunk::Text("b".to_owned()))));
    assert_eq!(stream.next().now_or_never(), None);
    ctx.cancel_token().cancel();
    assert_eq!(stream.next().await, Some(Err(Error::Cancelled)));
    assert_eq!(*open.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_the_configuration_holds_where_there_is_no_user() {
    let script = Arc::new(ScriptedModel::from_fn("script", |_| Answer::new().hang()));
    let config = Config {
        model_call_ms: 1_500,
        ..Config::default()
    };
    let models = Models::new(config).unwrap().with(script);
    let model: ModelRef = "script/one".parse().unwrap();
    let mut stream = models
        .chat(&context(), &model, ChatRequest::default())
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    let timeout = Error::Timeout {
        provider: "script".to_owned(),
        limit_ms: 1_500,
    };
    assert_eq!(stream.next().await, Some(Err(timeout)));
    let taken = begun.elapsed().as_millis();
    assert!((1_499..=1_502).contains(&taken), "{taken} ms");
}

#[tokio::test]
async fn a_request_that_there_is_no_room_to_copy_is_not_sent() {
    let (script, models, model) = scripted([Answer::new().text("ok")]);
    let account = Account::user();
    account.set_limit(1 << 20);
    let request = |bytes: usize| ChatRequest {
        messages: vec![Message::user("x".repeat(bytes))],
        ..ChatRequest::default()
    };
    let ctx = context();
    let call = async |bytes| {
        let request = request(bytes);
        let call = models.call(&ctx, &model, &request, &());
        account.scope().wrap(call).await
    };
    let refused = call(1 << 20).await;
    assert!(matches!(refused.err(), Some(Error::NoRoom(_))));
    assert!(script.requests().is_empty());
    assert!(call(1 << 19).await.is_ok());
    assert_eq!(account.current_bytes(), 0);
}
