//! Requests of users who hold as much memory as they may.

use axum::http::Method;
use netra_protocol::account::Role;
use serde_json::json;

use super::{Edge, request};
use crate::Config;

const MIB: u64 = 1024 * 1024;

fn small(memory_mib: u64) -> Edge {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.memory_mib = memory_mib);
    edge
}

#[tokio::test]
async fn a_user_over_the_limit_without_a_run_is_refused_and_others_are_not() {
    let edge = small(8);
    let (anna, token) = edge.user("anna", Role::User).await;
    let (_, other) = edge.user("bert", Role::User).await;
    let account = edge.runtime.account_of(anna, 8);
    let held = account.add_external();
    held.set(9 * MIB);
    let answer = edge.get("/api/threads", &token).await;
    assert_eq!(answer.refused(), (429, "rate_limited"));
    let details = &answer.body["error"]["details"];
    assert_eq!(details["limit"], "memory_mib");
    assert_eq!(details["limit_bytes"], 8 * MIB);
    assert_eq!(details["used_bytes"], 9 * MIB);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(edge.get("/api/threads", &other).await.status, 200);
    drop(held);
    assert_eq!(edge.get("/api/threads", &token).await.status, 200);
}

#[tokio::test]
async fn a_body_that_would_become_too_large_is_refused_before_it_is_read() {
    let edge = small(8);
    let (_, token) = edge.user("anna", Role::User).await;
    let zeros =
        |count: usize| json!({ "agent": "echo", "input": { "text": "x", "n": vec![0; count] } });
    let small = edge.post("/api/runs", Some(&token), zeros(100)).await;
    assert_ne!(small.status, 429, "{:?}", small.body);
    // 200 kB of text, and some 6 MB of values.
    let large = edge.post("/api/runs", Some(&token), zeros(100_000)).await;
    assert_eq!(large.refused(), (429, "rate_limited"));
    assert_eq!(large.body["error"]["details"]["limit"], "memory_mib");
}

#[tokio::test]
async fn an_upload_asks_for_its_buffer_first() {
    let edge = small(4);
    let (anna, token) = edge.user("anna", Role::User).await;
    let account = edge.runtime.account_of(anna, 4);
    let held = account.add_external();
    held.set(3 * MIB);
    let upload = || {
        let mut request = request(Method::POST, "/api/files?name=a.txt", Some(&token), None);
        *request.body_mut() = "some text".into();
        request
    };
    assert_eq!(edge.send(upload()).await.refused(), (429, "rate_limited"));
    drop(held);
    assert_eq!(edge.send(upload()).await.status, 201);
}
