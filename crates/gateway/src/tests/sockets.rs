//! The WebSocket over a real connection: order, refusals, limits, close codes.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;

type Opened = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Headers<'a> = &'a [(&'static str, &'a str)];

/// How long a test waits for what must come.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Client(pub(super) Opened);

/// Listens, and serves until the test's runtime ends.
pub(super) async fn listen(edge: &Edge) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = crate::serve(listener, (edge.parts)());
    edge.runtime
        .spawn(netra_context::runtime::TaskKind::Listener, served);
    address
}

pub(super) async fn connect(
    address: SocketAddr,
    query: &str,
    headers: Headers<'_>,
) -> Result<(Client, HeaderMap), u16> {
    let mut request = format!("ws://{address}/ws{query}")
        .into_client_request()
        .unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((opened, answer)) => Ok((Client(opened), answer.headers().clone())),
        Err(tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

pub(super) async fn open(address: SocketAddr, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let (mut client, _) = connect(address, "", &[("authorization", &bearer)])
        .await
        .unwrap();
    assert_eq!(client.next().await["type"], "connection_ready");
    client
}

impl Client {
    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            if !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                return message;
            }
        }
    }

    pub(super) async fn next(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The answer to this frame; answers have no order against events and positions.
    pub(super) async fn ask(&mut self, frame: Value) -> Value {
        let id = frame["id"].clone();
        self.send(frame).await;
        loop {
            let answer = self.next().await;
            if answer.get("id") == Some(&id) {
                return answer;
            }
        }
    }

    /// The code that the server closes with, whatever it sends before.
    pub(super) async fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.message().await {
                return frame.unwrap().code.into();
            }
        }
    }
}

#[tokio::test]
async fn credentials_are_checked_before_the_upgrade() {
    let edge = Edge::new(Config {
        max_sockets: 2,
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let bearer = format!("Bearer {token}");
    let refused = async |query: &str, headers: Headers<'_>| {
        connect(address, query, headers)
            .await
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(refused("", &[]).await, 401);
    assert_eq!(refused(&format!("?token={token}"), &[]).await, 401);
    assert_eq!(
        refused("?ticket=guess", &[("authorization", &bearer)]).await,
        401
    );
    let foreign = [
        ("authorization", bearer.as_str()),
        ("origin", "https://evil.example"),
    ];
    assert_eq!(refused("", &foreign).await, 403);

    let offered = format!("netra.v1, bearer.{token}");
    let (_first, answer) = connect(address, "", &[("sec-websocket-protocol", &offered)])
        .await
        .unwrap();
    assert_eq!(answer["sec-websocket-protocol"], "netra.v1");
    let _second = open(address, &token).await;
    assert_eq!(
        refused("", &[("authorization", &bearer)]).await,
        503,
        "the node is full"
    );
}

#[tokio::test]
async fn a_ticket_opens_one_socket_from_the_page_that_asked() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let page = format!("http://{address}");
    let ticket = async || {
        let asked = request(Method::POST, "/api/auth/ws-ticket", Some(&token), None);
        let asked = with(with(asked, "host", &address.to_string()), "origin", &page);
        // Tickets are the store's, so the router without a listener makes them too.
        let made = edge.send(asked).await;
        assert_eq!(made.body["expires_in_ms"], 30_000);
        format!("?ticket={}", made.body["ticket"].as_str().unwrap())
    };
    let own = ticket().await;
    assert!(connect(address, &own, &[("origin", &page)]).await.is_ok());
    assert_eq!(
        connect(address, &own, &[("origin", &page)])
            .await
            .map(|_| ())
            .unwrap_err(),
        401
    );
    let pageless = ticket().await;
    assert_eq!(
        connect(address, &pageless, &[])
            .await
            .map(|_| ())
            .unwrap_err(),
        401
    );
}

#[tokio::test]
async fn a_run_is_started_and_seen_in_order() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    let ack = client
        .ask(json!({"type": "subscribe", "id": 1, "after": 0}))
        .await;
    assert_eq!(
        (&ack["type"], &ack["id"], &ack["after"]),
        (&json!("ack"), &json!(1), &json!(0))
    );
    client
        .send(
            json!({"type": "run.start", "id": "r", "agent": "echo", "input": "hi",
        "idempotency_key": "once"}),
        )
        .await;
    let (mut seen, mut before, mut run_id) = (Vec::new(), 0, Value::Null);
    while !seen.contains(&"run_completed".to_owned()) || run_id.is_null() {
        let frame = client.next().await;
        match frame["type"].as_str().unwrap() {
            "ack" => run_id = frame["run_id"].clone(),
            "position" => before = frame["seq"].as_u64().unwrap(),
            name => {
                assert_eq!(frame["prev"], before);
                before = frame["seq"].as_u64().unwrap();
                seen.push(name.to_owned());
            }
        }
    }
    assert_eq!(seen[0], "run_started");
    // The same key over REST is the same run.
    let again = json!({"agent": "echo", "input": "hi"});
    let again = request(Method::POST, "/api/runs", Some(&token), Some(again));
    let again = edge.send(with(again, "idempotency-key", "once")).await;
    assert_eq!(again.body["run_id"], run_id);
    let cancel = client
        .ask(json!({"type": "run.cancel", "id": 2, "run_id": run_id}))
        .await;
    assert_eq!(cancel["error"]["code"], "run_ended");
    let beyond = client
        .ask(json!({"type": "subscribe", "id": 3, "after": 999}))
        .await;
    assert_eq!(beyond["error"]["code"], "cursor_expired");
}

#[tokio::test]
async fn garbage_is_answered_and_the_socket_stays() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let (_, other) = edge.user("bert", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    for garbage in [
        Message::text("{"),
        Message::text("[1]"),
        Message::binary(vec![1, 2, 3]),
    ] {
        client.0.send(garbage).await.unwrap();
        let answer = client.next().await;
        assert_eq!(
            (&answer["type"], &answer["id"]),
            (&json!("error"), &Value::Null)
        );
        assert_eq!(answer["error"]["code"], "invalid_request");
    }
    client.send(json!({"type": "delivered", "seq": 1})).await;
    let pong = client.ask(json!({"type": "ping", "id": "p"})).await;
    assert_eq!(pong, json!({"type": "pong", "id": "p"}));
    let approval = netra_protocol::id::ApprovalId::from_parts(1, 1);
    let answer = client
        .ask(
            json!({"type": "approval.respond", "id": 4, "approval_id": approval,
        "decision": "approve"}),
        )
        .await;
    assert_eq!(answer["error"]["code"], "not_found");
    let own = client
        .ask(json!({"type": "auth.refresh", "id": 5, "token": token}))
        .await;
    assert_eq!(own["type"], "ack");
    let foreign = client
        .ask(json!({"type": "auth.refresh", "id": 6, "token": other}))
        .await;
    assert_eq!(foreign["error"]["code"], "forbidden");
}

#[tokio::test]
async fn a_message_over_64_kib_closes_with_1009() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    let frame = |len: usize| {
        let empty = json!({"type": "ping", "id": 1, "x": ""}).to_string().len();
        json!({"type": "ping", "id": 1, "x": "y".repeat(len - empty)})
    };
    let whole = client.ask(frame(64 * 1024)).await;
    assert_eq!(whole["error"]["code"], "unknown_field", "64 KiB are read");
    client.send(frame(64 * 1024 + 1)).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn too_many_messages_close_with_4003_and_delivered_does_not_count() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    for seq in 0..100 {
        client.send(json!({"type": "delivered", "seq": seq})).await;
    }
    for id in 0..30 {
        assert_eq!(
            client.ask(json!({"type": "ping", "id": id})).await["type"],
            "pong"
        );
    }
    client.send(json!({"type": "ping", "id": 30})).await;
    assert_eq!(client.close_code().await, 4003);
}

#[tokio::test]
async fn one_socket_too_many_is_closed_with_4009_and_the_others_live() {
    let edge = Edge::new(Config::default());
    edge.limit(|limits| limits.sockets = 1);
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut first = open(address, &token).await;
    let bearer = format!("Bearer {token}");
    let (mut second, _) = connect(address, "", &[("authorization", &bearer)])
        .await
        .unwrap();
    assert_eq!(second.close_code().await, 4009);
    assert_eq!(
        first.ask(json!({"type": "ping", "id": 1})).await["type"],
        "pong"
    );
}

#[tokio::test]
async fn the_end_of_the_token_and_of_the_session_close_with_4001() {
    let edge = Edge::new(Config {
        registration: crate::Registration::Open,
        ..Config::default()
    });
    let (user, _) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let brief = edge
        .keys
        .access_token(user, None, edge.runtime.now(), Duration::from_secs(2));
    let mut expiring = open(address, &brief.unwrap()).await;
    assert_eq!(expiring.close_code().await, 4001);

    // Sign in over the served router: the one that holds the socket hears of the end.
    let http = reqwest::Client::new();
    let base = format!("http://{address}/api/auth");
    let body = json!({"name": "bert", "password": PASSWORD}).to_string();
    let signed_in = http
        .post(format!("{base}/register"))
        .header("content-type", "application/json");
    let signed_in = signed_in
        .body(body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let tokens: Value = serde_json::from_str(&signed_in).unwrap();
    let access = tokens["access_token"].as_str().unwrap();
    let mut socket = open(address, access).await;
    let out = http
        .post(format!("{base}/logout"))
        .bearer_auth(access)
        .send()
        .await
        .unwrap();
    assert_eq!(out.status(), 204);
    assert_eq!(socket.close_code().await, 4001);
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_let_go() {
    let edge = Edge::new(Config {
        heartbeat: Duration::from_millis(50),
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    // Reading answers pings; so read the bytes beneath the protocol.
    let MaybeTlsStream::Plain(bytes) = client.0.get_mut() else {
        unreachable!()
    };
    let mut heap = [0; 1024];
    let ended = async {
        while tokio::io::AsyncReadExt::read(bytes, &mut heap)
            .await
            .is_ok_and(|read| read > 0)
        {}
    };
    tokio::time::timeout(SOON, ended).await.unwrap();
}

#[tokio::test]
async fn a_server_that_stops_closes_with_1001() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let mut client = open(address, &token).await;
    edge.runtime.shutdown().cancel();
    assert_eq!(client.close_code().await, 1001);
    drop(client);
    assert_eq!(edge.runtime.drain(SOON).await, 0, "no task is left");
}
