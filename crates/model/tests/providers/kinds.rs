//! What each kind of provider sends where, and what it costs.

use netra_model::{
    ChatRequest, Chunk, Done, Error, Image, Kind, Message, ProviderConfig, Secret, StopReason,
    Usage,
};
use serde_json::{Value, json};

use crate::server::{KEY, STREAM, Server, collect, context, event, part, status};

/// A small answer of each kind: the text `Hi`, 1,000 tokens in, 100 out.
fn answer(kind: Kind) -> String {
    let events = match kind {
        Kind::Openai | Kind::Azure | Kind::Ollama => vec![
            json!({ "choices": [{ "delta": { "content": "Hi" }, "finish_reason": "stop" }] }),
            json!({ "choices": [],
                    "usage": { "prompt_tokens": 1000, "completion_tokens": 100 } }),
        ],
        Kind::Anthropic => vec![
            json!({ "type": "message_start", "message": { "usage": { "input_tokens": 1000 } } }),
            json!({ "type": "content_block_start", "index": 0,
                    "content_block": { "type": "text", "text": "Hi" } }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
                    "usage": { "output_tokens": 100 } }),
            json!({ "type": "message_stop" }),
        ],
        Kind::Gemini => vec![json!({
            "candidates": [{ "content": { "parts": [{ "text": "Hi" }] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 1000, "candidatesTokenCount": 100 },
        })],
    };
    let events: String = events.iter().map(event).collect();
    format!("{STREAM}{events}{}", part(""))
}

/// Every kind at one local server.
fn provider(kind: Kind, server: &Server) -> ProviderConfig {
    ProviderConfig {
        base_url: Some(server.address()),
        ..ProviderConfig::of_kind(kind, Some(Secret::new(KEY)))
    }
}

/// One call, and the request that it made.
async fn call(
    server: &Server,
    provider: ProviderConfig,
    model: &str,
    answer: &str,
) -> (Vec<Chunk>, Option<Error>, (String, Value)) {
    let models = server.models(provider);
    let model = format!("local/{model}").parse().unwrap();
    let ctx = context(120_000);
    let request = ChatRequest {
        messages: vec![Message::User {
            text: "q".to_owned(),
            images: vec![Image {
                media_type: "image/png".to_owned(),
                base64: "QUJD".into(),
            }],
        }],
        response_schema: Some(json!({ "type": "object" })),
        ..ChatRequest::default()
    };
    let client = async { collect(models.chat(&ctx, &model, request).await).await };
    let ((chunks, error), seen) = tokio::join!(client, server.answer(answer));
    (chunks, error, seen)
}

fn hi(cost_usd: Option<f64>) -> Vec<Chunk> {
    let usage = Usage {
        input_tokens: 1000,
        output_tokens: 100,
        cached_tokens: None,
        cost_usd,
    };
    vec![
        Chunk::Text("Hi".to_owned()),
        Chunk::Done(Done {
            usage: Some(usage),
            stop: StopReason::Stop,
            keepsake: None,
        }),
    ]
}

#[tokio::test]
async fn each_kind_has_its_address_its_header_and_its_place_for_a_picture() {
    let bearer = format!("authorization: bearer {KEY}");
    let own = |name: &str| format!("{name}: {KEY}");
    let cases = [
        (
            Kind::Openai,
            "/chat/completions",
            bearer.clone(),
            "/messages/0/content/1/image_url/url",
        ),
        (
            Kind::Ollama,
            "/chat/completions",
            bearer,
            "/messages/0/content/1/image_url/url",
        ),
        (
            Kind::Azure,
            "/openai/v1/chat/completions",
            own("api-key"),
            "/messages/0/content/1/image_url/url",
        ),
        (
            Kind::Anthropic,
            "/v1/messages",
            own("x-api-key"),
            "/messages/0/content/0/source/data",
        ),
        (
            Kind::Gemini,
            "/v1beta/models/m-1:streamgeneratecontent?alt=sse",
            own("x-goog-api-key"),
            "/contents/0/parts/0/inlineData/data",
        ),
    ];
    for (kind, path, header, picture) in cases {
        let server = Server::start().await;
        let (chunks, error, (head, body)) =
            call(&server, provider(kind, &server), "m-1", &answer(kind)).await;
        assert_eq!((chunks, error), (hi(None), None), "{kind:?}");
        assert!(
            head.starts_with(&format!("post {path} http/1.1\r\n")),
            "{head}"
        );
        assert!(head.contains(&format!("{header}\r\n")), "{head}");
        assert_eq!(head.matches(KEY).count(), 1, "{head}");
        let picture = body.pointer(picture).and_then(Value::as_str).unwrap();
        assert!(picture.ends_with("QUJD"), "{picture}");
    }
}

#[tokio::test]
async fn azure_with_a_version_goes_by_deployment() {
    let server = Server::start().await;
    let config = ProviderConfig {
        api_version: Some("2024-10-21".to_owned()),
        ..provider(Kind::Azure, &server)
    };
    let (chunks, _, (head, body)) = call(&server, config, "mine", &answer(Kind::Azure)).await;
    assert_eq!(chunks, hi(None));
    let path = "/openai/deployments/mine/chat/completions?api-version=2024-10-21";
    assert!(
        head.starts_with(&format!("post {path} http/1.1\r\n")),
        "{head}"
    );
    assert_eq!(body["response_format"]["json_schema"]["strict"], false);
}

#[tokio::test]
async fn a_call_costs_what_the_list_says_where_it_is_said_whose_prices_hold() {
    let cases = [
        (Kind::Openai, "openai", "gpt-4o-mini", Some(0.000_21)),
        (
            Kind::Anthropic,
            "anthropic",
            "claude-sonnet-4-5-20250929",
            Some(0.004_5),
        ),
        (Kind::Gemini, "google", "gemini-2.5-flash", Some(0.000_55)),
        (Kind::Gemini, "google", "gemini-of-nobody", None),
        (Kind::Openai, "anthropic", "gpt-4o-mini", None),
    ];
    for (kind, prices, model, cost) in cases {
        let server = Server::start().await;
        let config = ProviderConfig {
            prices: Some(prices.to_owned()),
            ..provider(kind, &server)
        };
        let (chunks, error, _) = call(&server, config, model, &answer(kind)).await;
        assert_eq!((chunks, error), (hi(cost), None), "{model}");
    }
}

#[tokio::test]
async fn further_fields_stand_in_the_body() {
    let server = Server::start().await;
    let fields = json!({ "thinking": { "type": "adaptive" }, "max_tokens": 7 });
    let config = ProviderConfig {
        body: fields.as_object().unwrap().clone(),
        ..provider(Kind::Anthropic, &server)
    };
    let (_, _, (_, body)) = call(&server, config, "claude-x", &answer(Kind::Anthropic)).await;
    assert_eq!(body["thinking"]["type"], "adaptive");
    assert_eq!(
        (&body["max_tokens"], &body["model"]),
        (&json!(7), &json!("claude-x"))
    );
}

#[tokio::test]
async fn whether_a_model_holds_to_a_schema_goes_by_its_name_unless_it_is_said() {
    let server = Server::start().await;
    let says = |kind: Kind, model: &str, tools: bool, said: Option<bool>| {
        let models = server.models(ProviderConfig {
            native_schema: said,
            ..provider(kind, &server)
        });
        models.native_schema(&format!("local/{model}").parse().unwrap(), tools)
    };
    assert!(!says(Kind::Openai, "any", false, None));
    assert!(says(Kind::Openai, "any", false, Some(true)));
    assert!(!says(Kind::Openai, "any", true, Some(true)));
    assert!(!says(Kind::Azure, "any", true, Some(false)));
    assert!(says(Kind::Ollama, "any", false, None));
    assert!(!says(Kind::Ollama, "any", true, None));
    assert!(says(Kind::Azure, "any", true, None));
    assert!(says(Kind::Anthropic, "claude-sonnet-4-5", true, None));
    assert!(!says(
        Kind::Anthropic,
        "claude-3-5-haiku-latest",
        true,
        None
    ));
    assert!(!says(
        Kind::Anthropic,
        "claude-sonnet-4-20250514",
        false,
        None
    ));
    assert!(says(Kind::Gemini, "gemini-2.5-pro", false, None));
    assert!(!says(Kind::Gemini, "gemini-2.5-pro", true, None));
    assert!(says(Kind::Gemini, "gemini-3-pro", true, None));
    let request_of_a_server_that_does_not = provider(Kind::Openai, &server);
    let (_, _, (_, body)) = call(
        &server,
        request_of_a_server_that_does_not,
        "m",
        &answer(Kind::Openai),
    )
    .await;
    assert_eq!(body.get("response_format"), None);
}

#[tokio::test]
async fn errors_of_each_kind_carry_no_word_of_the_provider() {
    let cases = [
        (
            Kind::Anthropic,
            "529 Overloaded",
            json!({ "type": "error",
                    "error": { "type": "overloaded_error", "message": "you said q" } }),
            "the model provider local is overloaded",
        ),
        (
            Kind::Gemini,
            "400 Bad Request",
            json!({ "error": { "code": 400, "status": "INVALID_ARGUMENT", "message": "you said q",
                    "details": [{ "reason": "API_KEY_INVALID", "@type": "x" }] } }),
            "the model provider local refused the credentials (status 400)",
        ),
        (
            Kind::Anthropic,
            "400 Bad Request",
            json!({ "type": "error",
                    "error": { "type": "invalid_request_error", "message": "you said q" } }),
            "the model provider local refused the request (status 400): invalid_request_error",
        ),
    ];
    for (kind, line, body, expected) in cases {
        let server = Server::start().await;
        let answer = status(
            line,
            "content-type: application/json\r\n",
            &body.to_string(),
        );
        let (_, error, _) = call(&server, provider(kind, &server), "m", &answer).await;
        assert_eq!(error.unwrap().to_string(), expected);
    }
}
