//! Too many requests: of one address, and of all together.

use futures::FutureExt as _;
use serde_json::json;

use super::*;

/// A request of this address.
fn from_address(mut request: Request<Body>, address: &str) -> Request<Body> {
    let peer: SocketAddr = format!("{address}:9").parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

#[tokio::test]
async fn who_is_not_signed_in_is_counted_by_address_and_users_are_not() {
    let edge = Edge::new(Config {
        requests_per_address: 3,
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let ask = async |path: &str, token: Option<&str>, address: &str| {
        let asked = request(Method::GET, path, token, None);
        edge.send(from_address(asked, address)).await
    };
    let first = ask("/api/openapi.json", None, "192.0.2.1").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers["ratelimit-limit"], "3");
    assert_eq!(first.headers["ratelimit-remaining"], "2");
    // Wrong credentials and none are counted with it.
    let refused = ask("/api/auth/me", Some("ntr_guess"), "192.0.2.1").await;
    assert_eq!(refused.refused(), (401, "unauthenticated"));
    let refused = ask("/api/auth/me", None, "192.0.2.1").await;
    assert_eq!(refused.refused(), (401, "unauthenticated"));
    for (path, token) in [
        ("/api/openapi.json", None),
        ("/api/auth/me", Some("ntr_guess")),
        ("/api/auth/me", None),
    ] {
        let refused = ask(path, token, "192.0.2.1").await;
        assert_eq!(refused.refused(), (429, "rate_limited"), "{path}");
        assert!(refused.headers.contains_key(header::RETRY_AFTER));
        assert_eq!(refused.headers.get_all("ratelimit-limit").iter().count(), 1);
    }
    // Neither other addresses, nor users there, nor whoever looks after the server.
    assert_eq!(
        ask("/api/openapi.json", None, "192.0.2.2").await.status,
        200
    );
    assert_eq!(
        ask("/api/auth/me", Some(&token), "192.0.2.1").await.status,
        200
    );
    assert_eq!(ask("/health/live", None, "192.0.2.1").await.status, 200);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_clients_are_counted_and_nobody_writes_their_own_address() {
    let edge = Edge::new(Config {
        requests_per_address: 1,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..Config::default()
    });
    let ask = async |peer: &str, forwarded: &str| {
        let asked = request(Method::GET, "/api/openapi.json", None, None);
        let asked = with(asked, "x-forwarded-for", forwarded);
        edge.send(from_address(asked, peer)).await.status.as_u16()
    };
    assert_eq!(ask("10.0.0.1", "192.0.2.1").await, 200);
    assert_eq!(ask("10.0.0.1", "192.0.2.2").await, 200);
    assert_eq!(ask("10.0.0.2", "192.0.2.1").await, 429);
    assert_eq!(ask("10.0.0.1", "192.0.2.9, 192.0.2.1").await, 429);
    assert_eq!(ask("198.51.100.7", "192.0.2.3").await, 200);
    assert_eq!(ask("198.51.100.7", "192.0.2.4").await, 429);
}

#[tokio::test]
async fn a_server_with_more_to_write_than_it_can_says_so_at_once() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    edge.gate.close();
    let mut waiting = Vec::new();
    while !edge.store.is_full() {
        let store = edge.store.clone();
        let mut write = Box::pin(async move { store.health().await });
        assert!((&mut write).now_or_never().is_none());
        waiting.push(write);
    }
    // It does not wait for a place: nothing gets one before the gate opens.
    let refused = edge.post("/api/threads", Some(&token), json!({})).await;
    assert_eq!(refused.refused(), (503, "overloaded"));
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    // Reading goes on.
    assert_eq!(edge.get("/api/threads", &token).await.status, 200);
    edge.gate.open();
    for write in waiting {
        write.await.unwrap();
    }
    let made = edge.post("/api/threads", Some(&token), json!({})).await;
    assert_eq!(made.status, 201);
}

#[tokio::test]
async fn a_trace_goes_through_and_a_new_one_begins_where_there_is_none() {
    let edge = Edge::new(Config::default());
    let line = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = request(Method::GET, "/health/live", None, None);
    let answer = edge.send(with(asked, "traceparent", line)).await;
    let told = answer.headers["traceparent"].to_str().unwrap();
    assert!(told.starts_with(&line[..36]) && told != line, "{told}");
    let answer = edge
        .send(request(Method::GET, "/health/live", None, None))
        .await;
    assert_eq!(answer.headers["traceparent"].len(), line.len());
}

#[tokio::test]
async fn guesses_at_a_password_from_one_network_of_ip_version_6_are_counted_together() {
    let edge = Edge::new(Config::default());
    let guess = async |peer: String| {
        let body = json!({"name": "anna", "password": "not the right password"});
        let asked = request(Method::POST, "/api/auth/login", None, Some(body));
        edge.send(from_address(asked, &peer)).await.status.as_u16()
    };
    for number in 0..Config::default().limits.logins_per_minute {
        assert_eq!(guess(format!("[2001:db8::{number}]")).await, 401);
    }
    assert_eq!(guess("[2001:db8::ffff]".into()).await, 429);
    assert_eq!(guess("[2001:db8:0:1::1]".into()).await, 401);
}
