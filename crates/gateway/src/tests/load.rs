//! Too many requests: of one address, and of all together.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use serde_json::json;

use super::sockets::{listen, open};
use super::*;

/// A request of this address.
fn from_address(mut request: Request<Body>, address: &str) -> Request<Body> {
    let peer = match address {
        "unix" => Peer::Socket,
        address => Peer::of(address.parse().unwrap()),
    };
    request.extensions_mut().insert(peer);
    request
}

#[tokio::test]
async fn who_is_not_signed_in_is_counted_by_address_and_users_are_not() {
    let edge = Edge::new(Config {
        requests_per_address: 3.into(),
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
    assert_eq!(refused.headers["ratelimit-remaining"], "1");
    let refused = ask("/api/auth/me", None, "192.0.2.1").await;
    assert_eq!(refused.refused(), (401, "unauthenticated"));
    assert_eq!(refused.headers["ratelimit-remaining"], "0");
    for (path, token) in [
        ("/api/openapi.json", None),
        ("/api/auth/me", Some("ntr_guess")),
        ("/api/auth/me", None),
        ("/api/nothing", None),
        ("/", None),
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
    // Who comes by the Unix socket is nobody at an address of this machine, nor the other way round.
    for address in ["unix", "127.0.0.1"] {
        for expected in [200, 200, 200, 429] {
            let answer = ask("/api/openapi.json", None, address).await;
            assert_eq!(answer.status, expected, "{address}");
        }
    }
    assert_eq!(ask("/health/live", None, "192.0.2.1").await.status, 200);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_clients_are_counted_and_nobody_writes_their_own_address() {
    let edge = Edge::new(Config {
        requests_per_address: 1.into(),
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
async fn a_server_that_is_slow_to_write_says_so_at_once_and_not_when_its_queue_is_full() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    edge.gate.close();
    let mut waiting = Vec::new();
    // One that is not answered is enough: the others would be behind it.
    let store = edge.store.clone();
    let mut first = Box::pin(async move { store.health().await });
    assert!((&mut first).now_or_never().is_none());
    waiting.push(first);
    while !edge.store.is_overloaded(true) {
        tokio::task::yield_now().await;
    }
    let refused = edge.post("/api/threads", Some(&token), json!({})).await;
    assert_eq!(refused.refused(), (503, "overloaded"));
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    // Reading goes on, and so does whoever looks after the server.
    assert_eq!(edge.get("/api/threads", &token).await.status, 200);
    assert!(!edge.store.is_overloaded(false));
    assert_eq!(edge.get("/health/live", &token).await.status, 200);
    edge.gate.open();
    for write in waiting {
        write.await.unwrap();
    }
    // The writer answers before it sees that nobody waits any more.
    while edge.store.is_overloaded(true) {
        tokio::task::yield_now().await;
    }
    let made = edge.post("/api/threads", Some(&token), json!({})).await;
    assert_eq!(made.status, 201);
}

/// The server waits for a turn for a second already.
fn make_late(edge: &Edge) -> Instant {
    let since = Instant::now() - Duration::from_secs(1);
    edge.lag.asked(since);
    since
}

#[tokio::test]
async fn a_server_that_gets_to_its_tasks_late_refuses_all_but_what_ends_something() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("root", Role::Admin).await;
    let ask = async |method: Method, path: &str| {
        let body = (method == Method::POST).then(|| json!({}));
        edge.send(request(method, path, Some(&token), body)).await
    };
    let since = make_late(&edge);
    for (method, path) in [
        (Method::GET, "/api/auth/me"),
        (Method::GET, "/api/openapi.json"),
        (Method::GET, "/ws"),
        (Method::POST, "/api/auth/login"),
        (Method::POST, "/api/threads"),
        (Method::POST, "/api/runs"),
    ] {
        let refused = ask(method, path).await;
        assert_eq!(refused.refused(), (503, "overloaded"), "{path}");
        let after = refused.headers[header::RETRY_AFTER].to_str().unwrap();
        assert!((1..=3).contains(&after.parse::<u8>().unwrap()), "{after}");
    }
    let key = netra_protocol::id::KeyId::from_parts(1, 1);
    let session = netra_protocol::id::SessionId::from_parts(1, 1);
    let run = netra_protocol::id::RunId::from_parts(1, 1);
    let approval = netra_protocol::id::ApprovalId::from_parts(1, 1);
    for (method, path, expected) in [
        (Method::GET, "/health/live".to_owned(), 200),
        (Method::GET, "/health/ready".to_owned(), 200),
        (Method::GET, "/api/metrics".to_owned(), 200),
        (Method::POST, "/api/auth/refresh".to_owned(), 401),
        (Method::POST, "/api/auth/logout".to_owned(), 204),
        (Method::DELETE, format!("/api/auth/sessions/{session}"), 404),
        (Method::DELETE, format!("/api/keys/{key}"), 404),
        (Method::POST, format!("/api/runs/{run}/cancel"), 404),
        (Method::POST, format!("/api/admin/runs/{run}/cancel"), 404),
        (Method::POST, format!("/api/approvals/{approval}"), 404),
    ] {
        let answer = ask(method, &path).await;
        assert_eq!(answer.status, expected, "{path} {}", answer.body);
    }
    // The page too, whether or not it was built into this program.
    assert_ne!(ask(Method::GET, "/").await.code(), "overloaded");
    // It had its turn, after a second; the next one at once.
    let now = Instant::now();
    edge.lag.served(since, now);
    assert_eq!(ask(Method::POST, "/api/threads").await.status, 503);
    edge.lag.served(now, now);
    assert_eq!(ask(Method::POST, "/api/threads").await.status, 201);
    assert_eq!(ask(Method::GET, "/api/auth/me").await.status, 200);
    // A little late, so soon after that: what is small is let in.
    let late = now - Duration::from_millis(30);
    edge.lag.served(late, now);
    assert_eq!(ask(Method::POST, "/api/threads").await.status, 503);
    assert_eq!(ask(Method::GET, "/api/auth/me").await.status, 200);
}

#[tokio::test]
async fn a_socket_of_a_server_that_is_late_starts_nothing_and_cancels() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let (run, _) = edge.asked(&token).await;
    let mut client = open(listen(&edge).await, &token).await;
    make_late(&edge);
    let start = json!({"type": "run.start", "id": 1, "agent": "echo", "input": "x"});
    let refused = client.ask(start).await;
    assert_eq!(refused["error"]["code"], "overloaded");
    let cancel = json!({"type": "run.cancel", "id": 2, "run_id": run});
    assert_eq!(client.ask(cancel).await["type"], "ack");
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
async fn what_bounds_sign_ins_can_be_set_while_the_server_runs_and_is_no_users_limit() {
    let config = Config::default();
    let logins = config.logins_per_minute.clone();
    let edge = Edge::new(config);
    let (_, token) = edge.user("anna", Role::Admin).await;
    let guess = async |name: &str| {
        let body = json!({"name": name, "password": "not the right password"});
        let answer = edge.post("/api/auth/login", None, body).await;
        answer.status.as_u16()
    };
    logins.set(1);
    assert_eq!((guess("anna").await, guess("anna").await), (401, 429));
    // An account that there is not is bounded alike.
    assert_eq!((guess("bert").await, guess("bert").await), (401, 429));
    logins.set(3);
    assert_eq!((guess("anna").await, guess("anna").await), (401, 429));
    let me = edge.get("/api/auth/me", &token).await;
    assert_eq!(me.body["limits"].get("logins_per_minute"), None);
    let plan = json!({"free": {"logins_per_minute": 9}});
    let plans = request(Method::PUT, "/api/admin/plans", Some(&token), Some(plan));
    assert_eq!(edge.send(plans).await.refused(), (400, "unknown_field"));
}

#[tokio::test]
async fn guesses_at_a_password_from_one_network_of_ip_version_6_are_counted_together() {
    let edge = Edge::new(Config::default());
    let guess = async |peer: String| {
        let body = json!({"name": "anna", "password": "not the right password"});
        let asked = request(Method::POST, "/api/auth/login", None, Some(body));
        edge.send(from_address(asked, &peer)).await.status.as_u16()
    };
    for number in 0..Config::default().logins_per_minute.get() {
        assert_eq!(guess(format!("2001:db8::{number}")).await, 401);
    }
    assert_eq!(guess("2001:db8::ffff".into()).await, 429);
    assert_eq!(guess("2001:db8:0:1::1".into()).await, 401);
}
