//! Event streams over HTTP: the same frames as the WebSocket's, counted like sockets.

use std::time::Duration;

use axum::response::Response;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::sockets::{SOON, listen};
use super::*;

async fn stream(edge: &Edge, path: &str, token: &str) -> Response {
    let request = request(Method::GET, path, Some(token), None);
    edge.router.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn an_event_says_what_was_sent_before_it() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    // So that the second run does not begin at the log's beginning.
    for input in ["one", "two"] {
        let body = json!({"agent": "echo", "input": input});
        let run = edge.post("/api/runs", Some(&token), body).await.body;
        let id = run["id"].as_str().unwrap().to_owned();
        let ended = edge.get(&format!("/api/runs/{id}/wait"), &token).await;
        assert_eq!(ended.body["status"], "completed");
        let answer = stream(&edge, &format!("/api/runs/{id}/events"), &token).await;
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let mut before = None;
        let mut seen = 0;
        for block in text.split("\n\n").filter(|block| block.starts_with("id: ")) {
            let id = block.lines().next().unwrap().rsplit(':').next().unwrap();
            let seq: u64 = id.parse().unwrap();
            if let Some(data) = block.lines().find_map(|line| line.strip_prefix("data: ")) {
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(data["seq"], seq);
                let prev = data["prev"].as_u64().unwrap();
                assert!(before.is_none_or(|before| prev == before), "{text}");
                assert!(prev < seq);
                seen += 1;
            }
            before = Some(seq);
        }
        assert!(seen >= 3, "{text}");
    }
}

#[tokio::test]
async fn streams_count_like_sockets() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.sockets = 2);
    let (_, anna) = edge.user("anna", Role::User).await;
    let (_, bert) = edge.user("bert", Role::User).await;
    let first = stream(&edge, "/api/events", &anna).await;
    let second = stream(&edge, "/api/events", &anna).await;
    assert_eq!(
        (first.status(), second.status()),
        (StatusCode::OK, StatusCode::OK)
    );
    let refused = edge.get("/api/events", &anna).await;
    assert_eq!(refused.refused(), (429, "rate_limited"));
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    assert_eq!(stream(&edge, "/api/events", &bert).await.status(), 200);
    drop(first);
    assert_eq!(stream(&edge, "/api/events", &anna).await.status(), 200);
}

#[tokio::test]
async fn a_full_node_takes_no_stream() {
    let edge = Edge::new(Config {
        max_sockets: 1,
        ..Config::default()
    });
    let (_, anna) = edge.user("anna", Role::User).await;
    let (_, bert) = edge.user("bert", Role::User).await;
    let _first = stream(&edge, "/api/events", &anna).await;
    let refused = edge.get("/api/events", &bert).await;
    assert_eq!(refused.refused(), (503, "overloaded"));
}

#[tokio::test]
async fn a_stream_that_nobody_reads_ends_with_its_token() {
    let edge = Edge::new(Config {
        max_connections: 1,
        ..Config::default()
    });
    let (user, token) = edge.user("anna", Role::User).await;
    // More than fits between the two, also where the system lends much.
    for _ in 0..60 {
        let body = json!({"agent": "echo", "input": "x".repeat(90_000)});
        let run = edge.post("/api/runs", Some(&token), body).await.body;
        let path = format!("/api/runs/{}/wait", run["id"].as_str().unwrap());
        assert_eq!(edge.get(&path, &token).await.body["status"], "completed");
    }
    let address = listen(&edge).await;
    let now = edge.runtime.now();
    let short = edge
        .keys
        .access_token(user, None, now, Duration::from_secs(2))
        .unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut deaf = socket.connect(address).await.unwrap();
    let ask = format!(
        "GET /api/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {short}\r\n\r\n"
    );
    deaf.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    deaf.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // It has the only place, as a user's: another is served once it has been let go, which the
    // connection's own patience would do after the test's.
    let live = reqwest::get(format!("http://{address}/health/live"));
    let live = tokio::time::timeout(SOON, live).await.unwrap();
    assert_eq!(live.unwrap().status(), 200);
}
