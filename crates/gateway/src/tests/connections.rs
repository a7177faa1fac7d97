//! Connections over a real listener: what brings nothing goes, what takes nothing goes, and nobody
//! else notices.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::sockets::{SOON, listen};
use super::*;

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n";

async fn open(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything up to the end of the connection, which has to come soon.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end too.
    let read = stream.read_to_end(&mut text);
    tokio::time::timeout(SOON, read).await.unwrap().ok();
    String::from_utf8(text).unwrap()
}

/// Asks once on a connection of its own.
async fn ask(address: SocketAddr, text: &str) -> String {
    rest(&mut open(address, text).await).await
}

#[tokio::test]
async fn half_a_request_does_not_hold_a_connection() {
    let edge = Edge::new(Config {
        header_timeout: Duration::from_millis(100),
        ..Config::default()
    });
    let address = listen(&edge).await;
    let mut silent = open(address, "").await;
    let mut half = open(address, "GET / HT").await;
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut half).await, "");
    let answer = ask(address, &format!("{LIVE}Connection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_a_large_one_is_not() {
    let edge = Edge::new(Config::default());
    let address = listen(&edge).await;
    let with = |bytes: usize| {
        let filling = "x".repeat(bytes);
        format!("{LIVE}X-Filling: {filling}\r\nConnection: close\r\n\r\n")
    };
    let answer = ask(address, &with(16 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(address, &with(256 * 1024)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = "X-A: b\r\n".repeat(101);
    let answer = ask(address, &format!("{LIVE}{many}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_body_that_brings_nothing_is_refused() {
    let edge = Edge::new(Config {
        body_stall: Duration::from_millis(100),
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let boundary = "Content-Type: multipart/form-data; boundary=b\r\n";
    for (path, more, body) in [
        ("/api/auth/login", "Content-Type: application/json\r\n", "{"),
        ("/api/files?name=a.csv", "Content-Type: text/csv\r\n", "a,b"),
        ("/api/files", boundary, "--b\r\n"),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{more}\
             Content-Length: 1000\r\n\r\n{body}"
        );
        let answer = ask(address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(answer.contains("brought nothing"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_brings_a_byte_now_and_then_is_refused() {
    let edge = Edge::new(Config {
        body_stall: Duration::from_millis(200),
        ..Config::default()
    });
    let address = listen(&edge).await;
    let head = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 1000000\r\n\r\n{";
    let mut stream = open(address, head).await;
    let (mut answers, mut body) = stream.split();
    let trickle = async {
        let mut now_and_then = tokio::time::interval(Duration::from_millis(10));
        while body.write_all(b" ").await.is_ok() {
            now_and_then.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = [0; 12];
    let read = answers.read_exact(&mut answer);
    tokio::select! {
        read = tokio::time::timeout(SOON, read) => read.unwrap().unwrap(),
        () = trickle => 0,
    };
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn silent_connections_make_room_for_whoever_asks() {
    let edge = Edge::new(Config {
        max_connections: 3,
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    // The first to come is a user's, and stays.
    let signed_in =
        format!("GET /api/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut user = open(address, &signed_in).await;
    let mut answer = [0; 12];
    user.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(open(address, "GET / HT").await);
    }
    let live = ask(address, &format!("{LIVE}Connection: close\r\n\r\n")).await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
    for stream in &mut silent[..8] {
        assert_eq!(rest(stream).await, "", "the oldest have gone");
    }
    let last = signed_in.replace("Host: x", "Host: x\r\nConnection: close");
    user.write_all(last.as_bytes()).await.unwrap();
    assert!(rest(&mut user).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_idle_connections() {
    let edge = Edge::new(Config::default());
    let address = listen(&edge).await;
    let mut silent = open(address, "").await;
    let mut half = open(address, "GET / HT").await;
    let mut idle = open(address, &format!("{LIVE}\r\n")).await;
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(edge.runtime.drain(SOON).await, 0, "no task is left");
    for stream in [&mut silent, &mut half, &mut idle] {
        rest(stream).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_let_go() {
    let edge = Edge::new(Config {
        write_stall: Duration::from_millis(50),
        max_connections: 1,
        ..Config::default()
    });
    let (_, token) = edge.user("anna", Role::User).await;
    let address = listen(&edge).await;
    let content = vec![b'x'; 32 * 1024 * 1024];
    let stored = reqwest::Client::new()
        .post(format!("http://{address}/api/files?name=a.bin"))
        .bearer_auth(&token)
        .body(content)
        .send()
        .await
        .unwrap();
    let file: Value = serde_json::from_str(&stored.text().await.unwrap()).unwrap();
    let path = format!("/api/files/{}/content", file["id"].as_str().unwrap());
    let ask_for_it =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut deaf = open(address, &ask_for_it).await;
    let mut answer = [0; 12];
    deaf.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // It has the only place, as a user's, and is never read again.
    let live = ask(address, &format!("{LIVE}Connection: close\r\n\r\n")).await;
    assert!(live.starts_with("HTTP/1.1 200"), "{live}");
}

#[tokio::test]
async fn a_request_names_one_host_only() {
    let edge = Edge::new(Config {
        dev: true,
        ..Config::default()
    });
    let address = listen(&edge).await;
    for (line, hosts) in [
        (
            "/api/auth/refresh",
            "Host: 127.0.0.1\r\nHost: evil.example\r\n",
        ),
        (
            "http://evil.example/api/auth/refresh",
            "Host: 127.0.0.1\r\n",
        ),
        ("/api/auth/refresh", "Host: [::1].evil.example\r\n"),
        ("/api/auth/refresh", "Host: localhost:80@evil.example\r\n"),
        ("/api/auth/refresh", ""),
    ] {
        let head = format!("POST {line} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = ask(address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts}: {answer}");
    }
    let own = "POST /api/auth/refresh HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let answer = ask(address, own).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
