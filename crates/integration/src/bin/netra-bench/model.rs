//! `model`: what Netra itself adds to a call of a model, beside a local provider that takes its time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt as _;
use hdrhistogram::Histogram;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_model::{
    ChatRequest, Chunk, Config, Message, ModelRef, Models, ProviderConfig, ToolSpec,
};
use rand::Rng as _;
use serde_json::{Value, json};

use crate::{note, say};

/// How long the provider thinks before its first piece, in milliseconds, and between two pieces.
const FIRST_MS: std::ops::Range<u64> = 80..120;
const BETWEEN: Duration = Duration::from_millis(10);
/// How many pieces of text an answer has.
const PIECES: usize = 10;
/// The most that the median may be.
const MOST_MS: f64 = 1.0;

/// When the provider had a request whole, and when it gave its first piece, by the model's name.
type Seen = Arc<Mutex<HashMap<String, (Instant, Instant)>>>;

pub(crate) async fn model(calls: usize, time: Duration, json: bool) -> Result<()> {
    let seen = Seen::default();
    let address = provider(Arc::clone(&seen))?;
    let config = ProviderConfig::openai_compatible(format!("http://{address}/v1"), None);
    let models = Models::new(Config {
        providers: [("local".to_owned(), config)].into(),
        ..Config::default()
    })?;
    let runtime = Runtime::new();
    let ctx = UserExecutionContext::for_background(&runtime, BackgroundKind::Console);
    note(&format!(
        "{calls} calls at once for {} s; the provider takes {} to {} ms to its first piece, then sends {PIECES}, \
         {} ms apart. Netra's own: from the call to the request at the provider, and from the provider's first \
         piece to ours",
        time.as_secs(),
        FIRST_MS.start,
        FIRST_MS.end,
        BETWEEN.as_millis()
    ));
    let began = Instant::now();
    let each = (0..calls).map(|caller| {
        let (models, ctx, seen) = (&models, &ctx, &seen);
        async move {
            let mut times = Histogram::<u64>::new(3)?;
            let mut number = 0_u64;
            while began.elapsed() < time {
                number += 1;
                let model: ModelRef = format!("local/{caller}-{number}").parse()?;
                let own = one_call(models, ctx, &model, seen).await?;
                // The first call makes a connection.
                if number > 1 {
                    times.record(u64::try_from(own.as_nanos() / 1000)?)?;
                }
            }
            anyhow::Ok(times)
        }
    });
    let mut times = Histogram::<u64>::new(3)?;
    for part in futures::future::try_join_all(each).await? {
        times.add(part)?;
    }
    let at = |percent: f64| times.value_at_quantile(percent / 100.0) as f64 / 1000.0;
    let (p50, p90, p99) = (at(50.0), at(90.0), at(99.0));
    if json {
        let report = json!({
            "benchmark": "model", "calls_at_once": calls, "calls": times.len(),
            "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": times.max() as f64 / 1000.0,
        });
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        say(&format!(
            "{} calls: p50 {p50:.3} ms   p90 {p90:.3} ms   p99 {p99:.3} ms   max {:.3} ms",
            times.len(),
            times.max() as f64 / 1000.0
        ));
    }
    ensure!(
        p50 < MOST_MS,
        "the median is {p50:.3} ms, and must be under {MOST_MS} ms"
    );
    Ok(())
}

/// One call to its end; what of the time to its first piece was not the provider's.
async fn one_call(
    models: &Models,
    ctx: &UserExecutionContext,
    model: &ModelRef,
    seen: &Seen,
) -> Result<Duration> {
    let request = request();
    let asked = Instant::now();
    // As agents call it: with its circuit, and what another try would need.
    let mut stream = models.call(ctx, model, &request, &()).await?;
    let mut first = None;
    let mut pieces = 0;
    while let Some(chunk) = stream.next().await {
        first.get_or_insert_with(Instant::now);
        if let Chunk::Text(_) = chunk? {
            pieces += 1;
        }
    }
    ensure!(pieces == PIECES, "{pieces} pieces");
    let first = first.context("a first piece")?;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let (received, gave) = seen.remove(&model.model).context("the provider's times")?;
    Ok((received - asked) + (first - gave))
}

/// A conversation as agents have it: twenty messages, ten tools.
fn request() -> ChatRequest {
    let words = "The quick brown fox jumps over the lazy dog. ".repeat(10);
    let tool = |number: usize| ToolSpec {
        name: format!("tool.number_{number}"),
        description: "Looks something up, and tells what it has found.".to_owned(),
        input_schema: json!({
            "type": "object", "required": ["query"], "additionalProperties": false,
            "properties": { "query": { "type": "string" }, "most": { "type": "integer" } },
        }),
    };
    let message = |number: usize| match number % 2 {
        0 => Message::user(words.clone()),
        _ => Message::Assistant {
            text: words.clone(),
            tool_calls: Vec::new(),
            keepsake: None,
        },
    };
    ChatRequest {
        system: Some(words.clone()),
        messages: (0..21).map(message).collect(),
        tools: (0..10).map(tool).collect(),
        ..ChatRequest::default()
    }
}

/// Starts the provider on a thread of its own, for as long as the program lives.
fn provider(seen: Seen) -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let router = Router::new()
                .route("/v1/chat/completions", post(answer))
                .with_state(seen);
            axum::serve(listener, router).await
        });
        if let Err(error) = served {
            note(&format!("the provider has ended: {error}"));
        }
    });
    Ok(address)
}

async fn answer(State(seen): State<Seen>, body: Bytes) -> Response {
    let received = Instant::now();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = asked["model"].as_str().unwrap_or_default().to_owned();
    let first = Duration::from_millis(rand::rng().random_range(FIRST_MS));
    let pieces = futures::stream::unfold(0, move |number| {
        let (seen, name) = (Arc::clone(&seen), name.clone());
        async move {
            let event = match number {
                0 => {
                    tokio::time::sleep(first).await;
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.insert(name, (received, Instant::now()));
                    piece(&json!({ "content": "words " }), None)
                }
                n if n < PIECES => {
                    tokio::time::sleep(BETWEEN).await;
                    piece(&json!({ "content": "words " }), None)
                }
                n if n == PIECES => piece(&json!({}), Some("stop")) + "data: [DONE]\n\n",
                _ => return None,
            };
            Some((Ok::<_, Infallible>(event), number + 1))
        }
    });
    (
        [(CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(pieces),
    )
        .into_response()
}

fn piece(delta: &Value, finish: Option<&str>) -> String {
    let event = json!({ "id": "c", "object": "chat.completion.chunk",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
    format!("data: {event}\n\n")
}
