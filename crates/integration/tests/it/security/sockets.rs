//! WebSockets as attackers use them: from foreign pages, with stolen tickets, with frames that no
//! library sends, with clients that read nothing or come by the thousand.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Credential, Method, Socket};
use netra_integration::{ProcessOptions, TestProcess, TestServer, TestUser, soon};
use netra_protocol::account::Role;
use netra_protocol::frame::MAX_INBOUND_BYTES;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::raw::{CLOSE, GO_ON, PING, PONG, Raw, TEXT, connection};
use super::world::{PASSWORD, unlimited, upgrading};
use crate::Test;
use crate::expect::{until, until_end};

/// Asks for a socket at this address with these headers; gives the status.
async fn knock(client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<u16> {
    let mut request = upgrading(client.request(Method::GET, path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(soon("an answer", request.send()).await?.status().as_u16())
}

/// A ticket that a page of this origin asked for.
async fn ticket(client: &Client, origin: Option<&str>) -> Result<String> {
    let mut request = client.request(Method::POST, "/api/auth/ws-ticket");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let answer: Value = serde_json::from_str(&client.send(request).await?.text().await?)?;
    Ok(format!(
        "/ws?ticket={}",
        crate::expect::text(&answer, "/ticket")?
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_opens_no_socket_whatever_credentials_it_got() -> Test {
    let options = unlimited().set("server.allowed_origins", "https://good.example");
    let server = TestServer::start_with(options).await?;
    let user = server.user_as(Role::User, Some(PASSWORD)).await?;
    let nobody = server.anonymous()?;
    let token = user.client.token().context("a token")?;
    let bearer = format!("Bearer {token}");
    let protocols = format!("netra.v1, bearer.{token}");
    let tokens = nobody.login(&user.name, PASSWORD).await?;
    let cookie = format!("netra_refresh={}", tokens.refresh_token);
    let own = server.url();
    for origin in [
        "https://evil.example",
        "null",
        "https://good.example.evil.example",
        "http://good.example",
        "http://127.0.0.1",
        &format!("{own}0"),
    ] {
        for header in [
            ("authorization", bearer.as_str()),
            ("sec-websocket-protocol", &protocols),
            ("cookie", &cookie),
            ("x-unused", "x"),
        ] {
            let status = knock(&nobody, "/ws", &[header, ("origin", origin)]).await?;
            assert_eq!(status, 403, "{origin} with {}", header.0);
        }
        let stolen = ticket(&user.client, Some(own)).await?;
        assert_eq!(knock(&nobody, &stolen, &[("origin", origin)]).await?, 403);
    }
    // A cookie alone opens nothing, on the own page either: it is sent without a page's doing.
    assert_eq!(
        knock(&nobody, "/ws", &[("cookie", &cookie), ("origin", own)]).await?,
        401
    );
    for origin in ["https://good.example", own] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        assert_eq!(knock(&nobody, "/ws", &headers).await?, 101, "{origin}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_credential_in_an_address_opens_anything() -> Test {
    let server = TestServer::start_with(unlimited()).await?;
    let user = server.user().await?;
    let nobody = server.anonymous()?;
    let token = user.client.token().context("a token")?;
    let bearer = format!("Bearer {token}");
    for name in [
        "token",
        "access_token",
        "Access_Token",
        "bearer",
        "jwt",
        "api_key",
        "key",
        "auth",
    ] {
        for path in ["/ws", "/api/events", "/api/auth/me"] {
            let path = format!("{path}?{name}={token}");
            assert_eq!(knock(&nobody, &path, &[]).await?, 401, "{name}");
            // Nor is one let pass that came by a good way too: it stands in a log by now.
            let status = knock(&nobody, &path, &[("authorization", &bearer)]).await?;
            assert_eq!(status, 401, "{name} beside a good one");
        }
    }
    let ticket = ticket(&user.client, None).await?;
    let elsewhere = ticket.replace("/ws", "/api/events");
    assert_eq!(
        knock(&nobody, &elsewhere, &[]).await?,
        401,
        "a ticket is for sockets"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_socket_of_its_user_from_its_page() -> Test {
    let server = TestServer::start_with(unlimited()).await?;
    let user = server.user_as(Role::User, Some(PASSWORD)).await?;
    let other = server.user().await?;
    let nobody = server.anonymous()?;
    let socket = Socket::connect_with(&user.client, Credential::Ticket).await?;
    assert_eq!(socket.ready().user_id, user.id);

    // Used at once from many places, it opens one of them.
    let raced = ticket(&user.client, None).await?;
    let knocks = (0..20).map(|_| knock(&nobody, &raced, &[]));
    let mut opened = futures::future::try_join_all(knocks).await?;
    opened.sort_unstable();
    assert_eq!(opened[..2], [101, 401]);
    assert_eq!(opened[19], 401);
    // Again by its own user, and by another with credentials of their own.
    assert_eq!(knock(&user.client, &raced, &[]).await?, 401);
    assert_eq!(knock(&other.client, &raced, &[]).await?, 401);

    // From another page than asked for it, or from none; tried there, it is used up.
    let own = server.url();
    for (asked, used) in [(Some(own), None), (None, Some(own))] {
        let bound = ticket(&user.client, asked).await?;
        let headers: Vec<_> = used.iter().map(|origin| ("origin", *origin)).collect();
        assert_eq!(
            knock(&nobody, &bound, &headers).await?,
            401,
            "{asked:?} {used:?}"
        );
        let headers: Vec<_> = asked.iter().map(|origin| ("origin", *origin)).collect();
        assert_eq!(knock(&nobody, &bound, &headers).await?, 401, "afterwards");
    }

    // After the sign-in that asked for it has ended.
    let tokens = nobody.login(&user.name, PASSWORD).await?;
    let signed_in = nobody.with_token(tokens.access_token);
    let late = ticket(&signed_in, None).await?;
    signed_in.logout().await?;
    assert_eq!(knock(&nobody, &late, &[]).await?, 401);
    Ok(())
}

fn ping(id: &str) -> String {
    json!({"type": "ping", "id": id}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_pieces_is_one_message_and_over_64_kib_it_closes() -> Test {
    let server = TestServer::start_with(unlimited()).await?;
    let user = server.user().await?;
    // One byte per frame, with a sign of life and an empty piece in between.
    let mut raw = Raw::open(&user.client).await?;
    let text = ping("in pieces");
    for (number, byte) in text.bytes().enumerate() {
        let opcode = if number == 0 { TEXT } else { GO_ON };
        raw.send(opcode, false, &[byte]).await?;
    }
    raw.send(PING, true, b"alive").await?;
    raw.send(GO_ON, true, b"").await?;
    assert_eq!(raw.next().await?.0, PONG);
    assert_eq!(raw.text().await?["id"], "in pieces");

    let piece = vec![b'x'; MAX_INBOUND_BYTES / 4];
    for (what, frames, code) in [
        // Never ended, so that it would grow for ever.
        ("in pieces", vec![(TEXT, false, &piece[..]); 1], 1009),
        (
            "a second beginning",
            vec![(TEXT, false, b"a"), (TEXT, true, b"b")],
            1002,
        ),
        ("a piece of nothing", vec![(GO_ON, true, b"a")], 1002),
        ("a ping in pieces", vec![(PING, false, b"a")], 1002),
    ] {
        let mut raw = Raw::open(&user.client).await?;
        for (opcode, last, payload) in frames {
            raw.send(opcode, last, payload).await?;
        }
        if code == 1009 {
            for _ in 0..4 {
                raw.send(GO_ON, false, &piece).await?;
            }
        }
        assert_eq!(raw.close_code().await?, code, "{what}");
    }
    // A length is refused when it is told, not when all of it has come.
    for length in [MAX_INBOUND_BYTES as u64 + 1, 1 << 40, (1 << 63) - 1] {
        let mut raw = Raw::open(&user.client).await?;
        raw.announce(TEXT, true, length).await?;
        assert_eq!(raw.close_code().await?, 1009, "{length}");
    }
    let mut raw = Raw::open(&user.client).await?;
    raw.announce(TEXT, true, u64::MAX).await?;
    ensure!(matches!(raw.close_code().await?, 1002 | 1009));
    Ok(())
}

/// Runs that make more events than fit into what lies between server and client.
async fn flood(user: &TestUser, runs: usize) -> Result<()> {
    let large = "x".repeat(90_000);
    for _ in 0..runs / 5 {
        let five = (0..5).map(|_| user.run("echo", large.as_str()));
        futures::future::try_join_all(five).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_nobody_and_gets_everything_later() -> Test {
    let server = TestServer::start_with(unlimited()).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    let mut slow = Raw::open(&ada.client).await?;
    let subscribe = json!({"type": "subscribe", "id": 1, "after": 0}).to_string();
    slow.send(TEXT, true, subscribe.as_bytes()).await?;
    assert_eq!(slow.text().await?["type"], "ack");
    let (mut quick, mut of_bob) = (ada.socket().await?, bob.socket().await?);
    // Nothing of this is read on the slow one.
    let runs = 40;
    flood(&ada, runs).await?;
    for _ in 0..runs {
        until(&mut quick, "run_completed").await?;
    }
    let run = bob.start("echo", "meanwhile").await?;
    until_end(&mut of_bob, run.id).await?;

    let (mut ended, mut last) = (0, 0);
    while ended < runs {
        let event = slow.text().await?;
        match event["type"].as_str().context("a type")? {
            "position" => {}
            name => {
                assert_eq!(event["prev"], last, "nothing is missing");
                ended += usize::from(name == "run_completed");
            }
        }
        last = event["seq"].as_u64().context("a number")?;
    }
    Ok(())
}

/// How many files the server has open, and the number of sockets that it counts.
async fn open_in(server: &TestProcess, admin: &Client) -> Result<(usize, u64)> {
    let pid = server.pid().context("it runs")?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let metrics = admin.request(Method::GET, "/api/metrics");
    let metrics = admin.send(metrics).await?.text().await?;
    let sockets = metrics
        .lines()
        .find_map(|line| line.strip_prefix("netra_sockets_open "));
    Ok((files, sockets.unwrap_or("0").parse()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connects_that_end_in_every_way_leave_nothing() -> Test {
    let data = tempfile::tempdir()?;
    let options = ProcessOptions {
        environment: [
            unlimited().environment(),
            vec![("NETRA__METRICS__TOKEN".into(), "for the metrics".into())],
        ]
        .concat(),
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(data.path(), options).await?;
    let user = server.user("ada").await?;
    let admin = user.client.with_token("for the metrics");
    let (files, _) = open_in(&server, &admin).await?;
    for round in 0..100 {
        let connects = (0..20).map(async |number: usize| -> Result<()> {
            match number % 5 {
                // Goes without a word, before asking, while asking, and after.
                0 => drop(connection(&user.client).await?),
                1 => {
                    let mut stream = connection(&user.client).await?;
                    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: x\r\n").await?;
                }
                2 => drop(Raw::open(&user.client).await?),
                // Is reset with bytes under way.
                3 => {
                    let mut raw = Raw::open(&user.client).await?;
                    raw.send(TEXT, true, br#"{"type": "subscribe", "id": 1, "after": 0}"#)
                        .await?;
                    raw.0.set_zero_linger()?;
                }
                _ => {
                    let mut raw = Raw::open(&user.client).await?;
                    raw.send(CLOSE, true, &1000_u16.to_be_bytes()).await?;
                    raw.close_code().await?;
                }
            }
            Ok(())
        });
        let done = futures::future::try_join_all(connects).await;
        done.with_context(|| format!("round {round}"))?;
    }
    // The server sees the ends when they come to it.
    let settled = async {
        loop {
            let (now, sockets) = open_in(&server, &admin).await?;
            // The database and the workers open some more under load; connections were 2,000.
            if sockets == 0 && now <= files + 100 {
                return Ok::<_, anyhow::Error>(());
            }
        }
    };
    soon("every socket's end", settled).await?;
    user.run("echo", "as if nothing had been").await?;
    Ok(())
}

/// Answers pings for as long as there are any.
async fn alive(mut raw: Raw) -> Result<()> {
    loop {
        if let (PING, _) = raw.next().await? {
            raw.send(PONG, true, b"").await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_leaves_two_pings_unanswered_is_dropped_and_its_neighbour_stays() -> Test {
    let options = unlimited().set("server.heartbeat_ms", 1_000);
    let server = TestServer::start_with(options).await?;
    let (ada, admin) = (
        server.user().await?,
        server.user_as(Role::Admin, None).await?,
    );
    let mut silent = Raw::open(&ada.client).await?;
    let neighbour = alive(Raw::open(&ada.client).await?);
    let pings = async {
        let mut pings = 0;
        loop {
            match silent.next().await {
                Ok((PING, _)) => pings += 1,
                Ok((CLOSE, _)) | Err(_) => return pings,
                Ok(_) => {}
            }
        }
    };
    let dropped = async {
        let pings = pings.await;
        let seen = admin.client.isolation().await?;
        let holds = seen.users.into_iter().find(|holds| holds.user_id == ada.id);
        Ok::<_, anyhow::Error>((pings, holds.context("she has a socket")?.sockets))
    };
    tokio::select! {
        gone = neighbour => gone,
        dropped = dropped => {
            assert_eq!(dropped?, (2, 1), "pings of the silent one, and sockets left");
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_take_no_place_of_others_and_do_not_hold_a_stop_up() -> Test {
    let server = TestServer::start_with(unlimited().set("limits.sockets", 5)).await?;
    let (ada, bob) = (server.user().await?, server.user().await?);
    // The other side of these is gone without a word: nothing is read, no ping is answered.
    let mut gone = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::open(&ada.client).await?;
        let subscribe = json!({"type": "subscribe", "id": 1, "after": 0}).to_string();
        raw.send(TEXT, true, subscribe.as_bytes()).await?;
        gone.push(raw);
    }
    for _ in 0..5 {
        gone.push(Raw(connection(&ada.client).await?));
    }
    flood(&ada, 20).await?;
    let mut socket = bob.socket().await?;
    let run = bob.start("echo", "hello").await?;
    until_end(&mut socket, run.id).await?;
    let (_, left) = soon("the stop", server.stop()).await;
    assert_eq!(left, 0, "no task waits for a client that is gone");
    Ok(())
}
