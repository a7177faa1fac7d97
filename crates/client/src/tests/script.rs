//! A server that answers as a test tells it, one connection at a time.

use std::collections::HashMap;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::Client;

pub(super) const EPOCH: &str = "9f86d081884c7d65";

pub(super) struct Script(TcpListener);

/// A request over HTTP, and the connection that waits for its answer.
pub(super) struct Asked {
    stream: TcpStream,
    pub(super) line: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

/// The server's end of a WebSocket.
pub(super) struct Line {
    stream: WebSocketStream<TcpStream>,
    pub(super) authorization: Option<String>,
    /// What follows `/ws`.
    pub(super) query: Option<String>,
}

impl Script {
    pub(super) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn client(&self, token: Option<&str>) -> Client {
        let address = self.0.local_addr().unwrap();
        Client::new(&format!("http://{address}"), token.map(str::to_owned)).unwrap()
    }

    pub(super) async fn asked(&self) -> Asked {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let mut bytes = Vec::new();
        let end = loop {
            let mut piece = [0; 1024];
            let read = stream.read(&mut piece).await.unwrap();
            bytes.extend_from_slice(&piece[..read]);
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().to_owned();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = bytes[end..].to_vec();
        while body.len() < length {
            let mut piece = vec![0; length - body.len()];
            let read = stream.read(&mut piece).await.unwrap();
            body.extend_from_slice(&piece[..read]);
        }
        Asked {
            stream,
            line,
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    /// A WebSocket, up to `connection_ready`.
    pub(super) async fn line(&self, heartbeat_ms: u64) -> Line {
        let (stream, _) = self.0.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut authorization, mut query) = (None, None);
        #[expect(clippy::result_large_err, reason = "the library's type")]
        let look = |request: &Request, response: Response| {
            let header = request.headers().get("authorization");
            authorization = header.map(|value| value.to_str().unwrap().to_owned());
            query = request.uri().query().map(str::to_owned);
            Ok(response)
        };
        let stream = tokio_tungstenite::accept_hdr_async(stream, look)
            .await
            .unwrap();
        let mut line = Line {
            stream,
            authorization,
            query,
        };
        line.say(json!({
            "type": "connection_ready", "connection_id": "con_00000000000000000000000001",
            "user_id": "usr_00000000000000000000000001", "protocol": "netra.v1",
            "server_version": "0", "heartbeat_interval_ms": heartbeat_ms, "epoch": EPOCH,
            "latest_seq": 20,
        }))
        .await;
        line
    }

    /// A WebSocket up to its subscription, and what was asked for.
    pub(super) async fn subscribed(&self, after: u64) -> (Line, Value) {
        let mut line = self.line(30_000).await;
        let wish = line.heard().await;
        line.ack(
            &wish,
            json!({"epoch": EPOCH, "after": after, "latest_seq": 20}),
        )
        .await;
        (line, wish)
    }
}

impl Asked {
    pub(super) fn token(&self) -> Option<&str> {
        self.headers.get("authorization")?.strip_prefix("Bearer ")
    }

    pub(super) async fn answer(mut self, status: &str, body: &Value) {
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        self.stream
            .write_all((head + &body).as_bytes())
            .await
            .unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// An answer that breaks off in the middle of its body.
    pub(super) async fn cut(mut self, status: &str) {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\n{{\"id\":");
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// A stream of server-sent events that breaks off behind this text.
    pub(super) async fn stream(mut self, text: &str) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    content-length: 100000\r\n\r\n";
        self.stream
            .write_all((head.to_owned() + text).as_bytes())
            .await
            .unwrap();
        self.stream.shutdown().await.unwrap();
    }
}

impl Line {
    pub(super) async fn say(&mut self, frame: Value) {
        self.stream
            .send(Message::text(frame.to_string()))
            .await
            .unwrap();
    }

    pub(super) async fn ack(&mut self, to: &Value, fields: Value) {
        let mut ack = json!({"type": "ack", "id": to["id"]});
        for (name, value) in fields.as_object().unwrap() {
            ack[name] = value.clone();
        }
        self.say(ack).await;
    }

    /// The next frame with text.
    pub(super) async fn heard(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.message().await {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    pub(super) async fn message(&mut self) -> Message {
        self.stream.next().await.unwrap().unwrap()
    }

    pub(super) async fn close(mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.stream.close(Some(frame)).await.unwrap();
        // The client hangs up.
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}

pub(super) fn event(prev: u64, seq: u64) -> Value {
    json!({
        "prev": prev, "type": "agent_thinking", "seq": seq, "ts": "2026-11-22T18:00:00.000000Z",
        "event_id": format!("evt_{seq:026}"), "thread_id": "thr_00000000000000000000000001",
        "run_id": "run_00000000000000000000000001", "data": {"message": "hm"},
    })
}

pub(super) fn error(code: &str, details: &Value) -> Value {
    json!({
        "code": code, "message": "no", "request_id": "req_00000000000000000000000001",
        "details": details, "docs": "/api/docs",
    })
}
