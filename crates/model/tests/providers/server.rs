//! A server in the test that answers what the test wrote, byte by byte.

use std::sync::Arc;

use futures::StreamExt;
use netra_context::{Principal, Rights, Runtime, UserExecutionContext};
use netra_model::{ChatStream, Chunk, Config, Error, Models, ProviderConfig};
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_protocol::limits::Limits;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "sk-test-5f2e9a";

pub(crate) fn context(model_call_ms: u64) -> UserExecutionContext {
    let runtime = Runtime::new();
    let principal = Principal {
        user_id: runtime.new_id(UserId::from_parts),
        role: Role::User,
        plan: Plan::Free,
        groups: Arc::default(),
        rights: Rights::of_role(Role::User),
        limits: Arc::new(Limits {
            model_call_ms,
            ..Limits::default()
        }),
        session: None,
    };
    UserExecutionContext::for_test(&runtime, principal)
}

pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    /// The models of one provider, `local`, at this server.
    pub(crate) fn models(&self, provider: ProviderConfig) -> Models {
        let providers = [("local".to_owned(), provider)].into();
        Models::new(Config {
            providers,
            ..Config::default()
        })
        .unwrap()
    }

    /// Takes one request and gives its head, its body and the connection.
    pub(crate) async fn accept(&self) -> (String, Value, TcpStream) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut bytes = Vec::new();
        let head_end = loop {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        let length: usize = length.trim().parse().unwrap();
        while bytes.len() < head_end + length {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        (
            head,
            serde_json::from_slice(&bytes[head_end..]).unwrap(),
            stream,
        )
    }

    /// Answers one request with these bytes and closes the connection.
    pub(crate) async fn answer(&self, bytes: &str) -> (String, Value) {
        let (head, body, mut stream) = self.accept().await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        (head, body)
    }
}

pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// One part of a chunked body.
pub(crate) fn part(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

pub(crate) fn event(value: &Value) -> String {
    part(&format!("data: {value}\n\n"))
}

pub(crate) fn status(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {line}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// All that comes, and the error that ends it.
pub(crate) async fn collect(stream: Result<ChatStream, Error>) -> (Vec<Chunk>, Option<Error>) {
    let mut chunks = Vec::new();
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return (chunks, Some(error)),
    };
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => chunks.push(chunk),
            Err(error) => {
                assert!(
                    stream.next().await.is_none(),
                    "nothing comes after an error"
                );
                return (chunks, Some(error));
            }
        }
    }
    (chunks, None)
}
