//! The answers that the makers' own SDKs carry, read by our formats. What they must become is found here by another
//! way: the whole answer is looked at as JSON, not piece by piece.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_model::{
    Arguments, ChatRequest, Chunk, Config, Error, Kind, Message, Models, ProviderConfig, Usage,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::installed;
use crate::Test;

/// An answer as a whole.
#[derive(Debug, Default, PartialEq)]
struct Whole {
    text: String,
    thoughts: String,
    /// Name and arguments of each call.
    calls: Vec<(String, Value)>,
    usage: Option<(u64, u64)>,
    /// The last reason to stop, as the wire has it.
    stop: Option<String>,
}

/// The transcripts of one provider, by path.
fn transcripts(kind: &str) -> Result<Vec<PathBuf>> {
    let folder = installed::folder()?.join("transcripts").join(kind);
    let listed = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut paths = listed
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Gives the file as a provider's answer to one call, and what came of the call.
async fn read(kind: Kind, path: &Path) -> Result<Result<Whole, Error>> {
    let content = std::fs::read(path)?;
    let media_type = match path.extension().and_then(|extension| extension.to_str()) {
        Some("sse") => "text/event-stream",
        _ => "application/json",
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let config = ProviderConfig {
        base_url: Some(format!("http://{}/v1", listener.local_addr()?)),
        ..ProviderConfig::of_kind(kind, None)
    };
    let models = Models::new(Config {
        providers: [("p".to_owned(), config)].into(),
        ..Config::default()
    })?;
    let runtime = Runtime::new();
    let ctx = UserExecutionContext::for_background(&runtime, BackgroundKind::Console);
    let serve = async {
        let (mut stream, _) = listener.accept().await?;
        let mut asked = Vec::new();
        while !asked.ends_with(b"}") {
            ensure!(stream.read_buf(&mut asked).await? > 0, "no request");
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&content).await?;
        stream.flush().await?;
        Ok(stream)
    };
    let request = ChatRequest {
        messages: vec![Message::user("q")],
        ..ChatRequest::default()
    };
    let model = "p/m".parse()?;
    let ask = async {
        let mut stream = models.chat(&ctx, &model, request).await?;
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.next().await {
            chunks.push(chunk?);
        }
        Ok(chunks)
    };
    let (served, asked): (Result<_>, Result<Vec<Chunk>, Error>) = tokio::join!(serve, ask);
    served?;
    Ok(asked.map(whole))
}

fn whole(chunks: Vec<Chunk>) -> Whole {
    let mut whole = Whole::default();
    for chunk in chunks {
        match chunk {
            Chunk::Text(text) => whole.text += &text,
            Chunk::Thinking(text) => whole.thoughts += &text,
            Chunk::ToolCall(call) => {
                let arguments = match call.arguments {
                    Arguments::Json(value) => value,
                    Arguments::Invalid(text) => json!({ "invalid": text }),
                };
                whole.calls.push((call.name, arguments));
            }
            Chunk::Done(done) => {
                let counts = |usage: Usage| (usage.input_tokens, usage.output_tokens);
                whole.usage = done.usage.map(counts);
                whole.stop = Some(format!("{:?}", done.stop));
            }
        }
    }
    whole
}

/// A text as the arguments of a call.
fn arguments(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) if text.is_empty() => json!({}),
        Err(_) => json!({ "invalid": text }),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A reason to stop that has no word of ours; nothing where there is none.
fn unknown(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("Other({reason:?})"))
}

/// What an answer in chat completions holds.
fn openai(answer: &Value) -> Whole {
    let choice = &answer["choices"][0];
    let said = &choice["message"];
    let usage = &answer["usage"];
    let calls = said["tool_calls"].as_array().into_iter().flatten();
    let calls: Vec<_> = calls
        .map(|call| {
            let function = &call["function"];
            let given = function["arguments"].as_str().unwrap_or_default();
            (text(&function["name"]), arguments(given))
        })
        .collect();
    let refused = said["refusal"].is_string();
    let stop = match choice["finish_reason"].as_str() {
        Some("stop") if refused => "Refusal",
        Some("stop") if !calls.is_empty() => "ToolCalls",
        Some("stop") => "Stop",
        Some("length") => "MaxTokens",
        Some("tool_calls") => "ToolCalls",
        Some("content_filter") => "ContentFilter",
        other => &unknown(other),
    };
    Whole {
        text: text(&said["content"]) + &text(&said["refusal"]),
        thoughts: String::new(),
        calls,
        usage: usage["prompt_tokens"]
            .as_u64()
            .zip(usage["completion_tokens"].as_u64()),
        stop: Some(stop.to_owned()),
    }
}

/// What an answer of Gemini holds.
fn gemini(answer: &Value) -> Whole {
    let candidate = &answer["candidates"][0];
    let mut whole = Whole::default();
    for part in candidate["content"]["parts"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if part["thought"] == true {
            whole.thoughts += &text(&part["text"]);
        } else {
            whole.text += &text(&part["text"]);
        }
        if let Some(call) = part.get("functionCall") {
            let given = call.get("args").cloned().unwrap_or_else(|| json!({}));
            whole.calls.push((text(&call["name"]), given));
        }
    }
    let usage = &answer["usageMetadata"];
    let thoughts = usage["thoughtsTokenCount"].as_u64().unwrap_or(0);
    let tools = usage["toolUsePromptTokenCount"].as_u64().unwrap_or(0);
    let prompt = usage["promptTokenCount"]
        .as_u64()
        .map(|prompt| prompt + tools);
    let output = usage["candidatesTokenCount"].as_u64();
    whole.usage = prompt.zip(output.map(|output| output + thoughts));
    let stop = match candidate["finishReason"].as_str() {
        Some("STOP") if !whole.calls.is_empty() => "ToolCalls",
        Some("STOP") => "Stop",
        Some("MAX_TOKENS") => "MaxTokens",
        Some("SAFETY") => "ContentFilter",
        other => &unknown(other),
    };
    whole.stop = Some(stop.to_owned());
    whole
}

/// The message that events of Anthropic are about, put together as its own documents have it.
fn message(events: &str) -> Result<Value> {
    let mut message = Value::Null;
    for line in events.lines() {
        let Some(data) = line.strip_prefix("data:") else {
            continue;
        };
        let event: Value = serde_json::from_str(data)?;
        let index = || usize::try_from(event["index"].as_u64().unwrap_or(0)).unwrap_or(0);
        match event["type"].as_str() {
            Some("message_start") => message = event["message"].clone(),
            Some("content_block_start") => {
                let blocks = message["content"].as_array_mut().context("content")?;
                ensure!(blocks.len() == index(), "blocks come in order");
                blocks.push(event["content_block"].clone());
            }
            Some("content_block_delta") => {
                let block = &mut message["content"][index()];
                for (field, of) in [
                    ("text", "text"),
                    ("thinking", "thinking"),
                    ("written", "partial_json"),
                ] {
                    if let Some(more) = event["delta"][of].as_str() {
                        block[field] = json!(text(&block[field]) + more);
                    }
                }
            }
            Some("message_delta") => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                for (name, count) in event["usage"].as_object().into_iter().flatten() {
                    if !count.is_null() {
                        message["usage"][name] = count.clone();
                    }
                }
            }
            _ => {}
        }
    }
    Ok(message)
}

/// What a message of Anthropic holds.
fn anthropic(message: &Value) -> Whole {
    let mut whole = Whole::default();
    for block in message["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => whole.text += &text(&block["text"]),
            Some("thinking") => whole.thoughts += &text(&block["thinking"]),
            Some("tool_use") => {
                let given = match block["written"].as_str() {
                    Some(written) => arguments(written),
                    None => block["input"].clone(),
                };
                whole.calls.push((text(&block["name"]), given));
            }
            _ => {}
        }
    }
    let usage = &message["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    let input = [
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
    ];
    whole.usage = Some((input.map(count).iter().sum(), count("output_tokens")));
    let stop = match message["stop_reason"].as_str() {
        Some("end_turn" | "stop_sequence") if !whole.calls.is_empty() => "ToolCalls",
        Some("end_turn" | "stop_sequence") => "Stop",
        Some("tool_use") => "ToolCalls",
        Some("max_tokens") => "MaxTokens",
        Some("refusal") => "Refusal",
        other => &unknown(other),
    };
    whole.stop = Some(stop.to_owned());
    whole
}

/// Reads each transcript and holds it against what it must become; an answer without an end, or with nothing in it,
/// must be an error. Gives what the good ones were.
async fn all(kind: Kind, expected: fn(&str, &Path) -> Result<Whole>) -> Result<Vec<Whole>> {
    let mut good = Vec::new();
    for path in transcripts(kind.as_str())? {
        let shown = path.display();
        let content = std::fs::read_to_string(&path)?;
        let expected = expected(&content, &path)?;
        match read(kind, &path).await? {
            Ok(whole) => {
                ensure!(
                    whole == expected,
                    "{shown}: {whole:#?}\nis not {expected:#?}"
                );
                good.push(whole);
            }
            Err(error) => ensure!(expected.stop.as_deref() == Some(""), "{shown}: {error}"),
        }
    }
    Ok(good)
}

#[tokio::test]
async fn answers_of_openais_sdk() -> Test {
    let good = all(Kind::Openai, |content, _| {
        Ok(openai(&serde_json::from_str(content)?))
    })
    .await?;
    ensure!(good.len() >= 12, "{} answers", good.len());
    let has = |check: fn(&Whole) -> bool| good.iter().any(check);
    ensure!(has(|whole| whole.calls.len() > 1), "parallel calls");
    ensure!(
        has(|whole| whole.stop.as_deref() == Some("Refusal")),
        "a refusal"
    );
    ensure!(
        has(|whole| whole.stop.as_deref() == Some("MaxTokens")),
        "a limit"
    );
    Ok(())
}

#[tokio::test]
async fn answers_of_googles_sdk() -> Test {
    let good = all(Kind::Gemini, |content, _| {
        Ok(gemini(&serde_json::from_str(content)?))
    })
    .await?;
    ensure!(good.len() >= 8, "{} answers", good.len());
    Ok(())
}

#[tokio::test]
async fn answers_of_anthropics_sdk() -> Test {
    let good = all(Kind::Anthropic, |content, path| {
        let message = if path.extension().is_some_and(|extension| extension == "sse") {
            message(content)?
        } else {
            serde_json::from_str(content)?
        };
        Ok(anthropic(&message))
    })
    .await?;
    ensure!(good.len() >= 30, "{} answers", good.len());
    let has = |check: fn(&Whole) -> bool| good.iter().any(check);
    ensure!(has(|whole| !whole.calls.is_empty()), "calls");
    ensure!(
        has(|whole| whole.stop.as_deref() == Some("Refusal")),
        "a refusal"
    );
    Ok(())
}
