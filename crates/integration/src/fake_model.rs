//! A language model's HTTP endpoint whose answers a test gives.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the model answers to one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Text, in these pieces.
    Text(Vec<String>),
    /// Text, with this much time before each piece.
    Slowly(Vec<String>, Duration),
    /// A call of a tool with these arguments.
    ToolCall(String, Value),
    /// Calls of tools at once, each with arguments that need be no JSON.
    ToolCalls(Vec<(String, String)>),
    /// A first piece of text, then nothing until the caller goes away.
    Hang(String),
    /// No answer: this status, with this `Retry-After`.
    Refuse(u16, Option<u32>),
}

type Answer = Arc<dyn Fn(&Value) -> Reply + Send + Sync>;

/// Speaks OpenAI's streaming chat completions.
pub struct FakeModel {
    url: String,
    open: watch::Receiver<usize>,
    came: Came,
    runtime: Runtime,
}

/// What came with requests besides their bodies, in order.
#[derive(Default)]
struct Headers {
    keys: Vec<String>,
    traces: Vec<String>,
}

type Came = Arc<watch::Sender<Headers>>;

impl FakeModel {
    /// Answers each request with what `answer` makes of its body.
    pub async fn start(answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let runtime = Runtime::new();
        let (count, open) = watch::channel(0);
        let tasks = runtime.clone();
        let (answer, count): (Answer, _) = (Arc::new(answer), Arc::new(count));
        let came = Came::new(watch::Sender::default());
        let comes = Arc::clone(&came);
        runtime.spawn(TaskKind::Listener, async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                let came = Arc::clone(&comes);
                tasks.spawn(TaskKind::Part, async move {
                    // A caller that goes away is what some tests want.
                    serve(stream, &answer, &count, &came).await.ok();
                });
            }
        });
        Ok(Self {
            url,
            open,
            came,
            runtime,
        })
    }

    /// The base URL for a provider's configuration.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The keys that came with requests, in their order.
    pub fn keys(&self) -> Vec<String> {
        self.came.borrow().keys.clone()
    }

    /// The places in traces that came with requests, in their order.
    pub fn traces(&self) -> Vec<String> {
        self.came.borrow().traces.clone()
    }

    /// The host and port, as secrets are bound to it.
    pub fn place(&self) -> &str {
        let host = self.url.trim_start_matches("http://");
        host.split('/').next().unwrap_or(host)
    }

    /// Waits until so many requests are being answered.
    pub async fn until_open(&self, count: usize) -> Result<()> {
        let mut open = self.open.clone();
        tokio::time::timeout(crate::PATIENCE, open.wait_for(|now| *now == count)).await??;
        Ok(())
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.runtime.shutdown().cancel();
    }
}

/// Counts a request as open for as long as it lives.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|open| *open += 1);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

async fn serve(
    stream: TcpStream,
    answer: &Answer,
    count: &watch::Sender<usize>,
    came: &Came,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let body = read_body(&mut stream, came).await?;
    let _open = Open::new(count);
    let reply = answer(&body);
    if let Reply::Refuse(status, retry_after) = reply {
        return refuse(&mut stream, status, retry_after).await;
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    match reply {
        Reply::Text(pieces) => write_text(&mut stream, pieces, Duration::ZERO).await?,
        Reply::Slowly(pieces, pause) => write_text(&mut stream, pieces, pause).await?,
        Reply::ToolCall(name, arguments) => {
            write_calls(&mut stream, vec![(name, arguments.to_string())]).await?;
        }
        Reply::ToolCalls(calls) => write_calls(&mut stream, calls).await?,
        Reply::Hang(text) => {
            stream
                .write_all(chunk(&json!({"content": text}), None).as_bytes())
                .await?;
            // Ends when the caller closes.
            stream.read_u8().await?;
        }
        Reply::Refuse(..) => {}
    }
    let usage = json!({"id": "c", "object": "chat.completion.chunk", "choices": [],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}});
    stream
        .write_all(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes())
        .await?;
    stream.shutdown().await?;
    Ok(())
}

async fn refuse(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    retry_after: Option<u32>,
) -> Result<()> {
    let retry_after =
        retry_after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {status} Refused\r\n{retry_after}content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn write_text(
    stream: &mut BufReader<TcpStream>,
    pieces: Vec<String>,
    pause: Duration,
) -> Result<()> {
    for piece in pieces {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        stream
            .write_all(chunk(&json!({"content": piece}), None).as_bytes())
            .await?;
    }
    stream
        .write_all(chunk(&json!({}), Some("stop")).as_bytes())
        .await?;
    Ok(())
}

async fn write_calls(
    stream: &mut BufReader<TcpStream>,
    calls: Vec<(String, String)>,
) -> Result<()> {
    for (index, (name, arguments)) in calls.into_iter().enumerate() {
        let call = json!({"index": index, "id": format!("call_{index}"), "type": "function",
            "function": {"name": name, "arguments": arguments}});
        let delta = json!({"tool_calls": [call]});
        stream.write_all(chunk(&delta, None).as_bytes()).await?;
    }
    let last = chunk(&json!({}), Some("tool_calls"));
    Ok(stream.write_all(last.as_bytes()).await?)
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "choices": [choice]});
    format!("data: {chunk}\n\n")
}

async fn read_body(stream: &mut BufReader<TcpStream>, came: &Came) -> Result<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        if name.eq_ignore_ascii_case("authorization") {
            let key = value.trim().trim_start_matches("Bearer ");
            came.send_modify(|came| came.keys.push(key.to_owned()));
        }
        if name.eq_ignore_ascii_case("traceparent") {
            came.send_modify(|came| came.traces.push(value.trim().to_owned()));
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}
