//! A socket that falls silent, and a feed over sockets that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{join, pending};
use netra_protocol::frame::{After, MAX_INBOUND_BYTES, RunStart, ServerFrame, Subscribe};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::script::{EPOCH, Script, error, event};
use crate::{Access, Client, Credential, Error, Feed, Incoming, LogRange, Place, Socket};

fn wish(after: u64) -> Subscribe {
    Subscribe {
        after: After::Seq(after),
        epoch: None,
        threads: None,
        deltas: true,
    }
}

/// Gives `token 1`, `token 2` and so on after `token 0`, each with this life.
fn renewing(client: &Client, life: Duration) -> Client {
    let number = AtomicU32::new(1);
    let source = move || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Access::new(format!("token {number}")).lasting(life)) }
    };
    client.with_source(source, Some(Access::new("token 0").lasting(life)))
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_line_on_which_nothing_comes_is_dead() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (socket, line) = join(Socket::connect(&client), script.line(30)).await;
    let silent = socket.unwrap().next_event().await;
    assert!(matches!(silent, Err(Error::Silent)), "{silent:?}");
    drop(line);
}

#[tokio::test]
async fn a_line_whose_server_answers_is_alive() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (socket, mut line) = join(Socket::connect(&client), script.line(600)).await;
    let mut socket = socket.unwrap();
    let serving = async {
        // Read and so answered by the library.
        for _ in 0..2 {
            assert!(matches!(line.message().await, Message::Ping(_)));
        }
        line.say(json!({"type": "position", "seq": 3})).await;
    };
    let (came, ()) = join(socket.next_incoming(), serving).await;
    assert_eq!(
        came.unwrap(),
        Incoming::Frame(ServerFrame::Position { seq: 3 })
    );
}

#[tokio::test]
async fn an_open_socket_gets_the_next_token_before_the_old_one_ends() {
    let script = Script::start().await;
    let client = renewing(&script.client(None), Duration::from_millis(400));
    let opening = Feed::open(&client, wish(0));
    let (feed, (mut line, _)) = join(opening, script.subscribed(0)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        let first = line.authorization.clone().unwrap();
        for told in 0.. {
            let refresh = line.heard().await;
            assert_eq!(refresh["type"], "auth.refresh");
            let token = refresh["token"].as_str().unwrap();
            assert_ne!(format!("Bearer {token}"), first);
            line.ack(&refresh, json!({})).await;
            line.say(event(told, told + 1)).await;
        }
    };
    tokio::select! {
        came = feed.next_event() => assert_eq!(came.unwrap().event.seq, 1),
        () = serving => {}
    }
    assert_eq!(feed.connects(), 1);
}

#[tokio::test]
async fn after_4001_a_feed_renews_and_goes_on_where_it_was() {
    let script = Script::start().await;
    let client = renewing(&script.client(None), HOUR);
    let (feed, (mut line, _)) = join(Feed::open(&client, wish(0)), script.subscribed(0)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        assert_eq!(line.authorization.as_deref(), Some("Bearer token 0"));
        line.say(event(0, 4)).await;
        line.close(4001).await;
        let (mut line, wish) = script.subscribed(4).await;
        assert_eq!(line.authorization.as_deref(), Some("Bearer token 1"));
        assert_eq!((&wish["after"], &wish["epoch"]), (&json!(4), &json!(EPOCH)));
        line.say(event(4, 5)).await;
    };
    let reading = async {
        let first = feed.next_event().await.unwrap().event.seq;
        (first, feed.next_event().await.unwrap().event.seq)
    };
    assert_eq!(join(reading, serving).await.0, (4, 5));
}

#[tokio::test]
async fn a_session_that_is_revoked_ends_a_feed() {
    let script = Script::start().await;
    let source = || async {
        let detail = serde_json::from_value(error("unauthenticated", &json!(null))).unwrap();
        Err(Error::refused(401, detail, None))
    };
    let client = script
        .client(None)
        .with_source(source, Some(Access::new("first")));
    let (feed, (line, _)) = join(Feed::open(&client, wish(0)), script.subscribed(0)).await;
    let mut feed = feed.unwrap();
    let (ended, ()) = join(feed.next_event(), line.close(4001)).await;
    assert!(matches!(ended, Err(Error::Renewal(_))), "{ended:?}");
}

#[tokio::test]
async fn a_position_is_kept_and_a_gap_is_read_again() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (feed, (mut line, _)) = join(Feed::open(&client, wish(2)), script.subscribed(2)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        line.say(json!({"type": "position", "seq": 9})).await;
        line.close(1001).await;
        let (mut line, wish) = script.subscribed(9).await;
        assert_eq!(wish["after"], 9);
        // 10 is missing.
        line.say(event(10, 11)).await;
        let (mut line, wish) = script.subscribed(9).await;
        assert_eq!(wish["after"], 9);
        line.say(event(9, 10)).await;
    };
    let (came, ()) = join(feed.next_event(), serving).await;
    assert_eq!(came.unwrap().event.seq, 10);
    let place = Place {
        epoch: EPOCH.into(),
        seq: 10,
    };
    assert_eq!(feed.place(), Some(place));
}

#[tokio::test]
async fn a_log_that_is_another_one_is_told_with_what_it_holds() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (feed, (line, _)) = join(Feed::open(&client, wish(2)), script.subscribed(2)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        line.close(1001).await;
        let mut line = script.line(30_000).await;
        let wish = line.heard().await;
        let log = json!({"epoch": "other", "oldest_seq": 1, "latest_seq": 5});
        let error = error("cursor_expired", &log);
        line.say(json!({"type": "error", "id": wish["id"], "error": error}))
            .await;
    };
    let (came, ()) = join(feed.next_event(), serving).await;
    let Err(Error::CursorExpired { log, .. }) = came else {
        panic!("{came:?}")
    };
    let held = LogRange {
        epoch: "other".into(),
        oldest_seq: 1,
        latest_seq: 5,
    };
    assert_eq!(log, held);
}

#[tokio::test]
async fn a_renewal_that_hangs_holds_no_event_back() {
    let script = Script::start().await;
    let (begun, life) = (Arc::new(Notify::new()), Duration::from_millis(200));
    let told = Arc::clone(&begun);
    let source = move || {
        told.notify_one();
        pending()
    };
    let client = script
        .client(None)
        .with_source(source, Some(Access::new("first").lasting(life)));
    let (feed, (mut line, _)) = join(Feed::open(&client, wish(0)), script.subscribed(0)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        begun.notified().await;
        line.say(event(0, 1)).await;
    };
    let both = join(feed.next_event(), serving);
    let (came, ()) = timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(came.unwrap().event.seq, 1);
}

#[tokio::test]
async fn a_socket_opened_by_a_ticket_gets_the_next_token_and_another_ticket_each_time() {
    let script = Script::start().await;
    let client = renewing(&script.client(None), Duration::from_millis(400));
    let ticket = async |ticket: &str| {
        let asked = script.asked().await;
        assert!(asked.line.starts_with("POST /api/auth/ws-ticket "));
        let token = asked.token().unwrap().to_owned();
        let answer = json!({"ticket": ticket, "expires_in_ms": 30_000});
        asked.answer("200 OK", &answer).await;
        token
    };
    let opening = Feed::open_with(&client, wish(0), Credential::Ticket);
    let serving = async {
        let token = ticket("one").await;
        (token, script.subscribed(0).await.0)
    };
    let (feed, (first, mut line)) = join(opening, serving).await;
    let mut feed = feed.unwrap();
    assert_eq!(
        (line.query.as_deref(), &line.authorization),
        (Some("ticket=one"), &None)
    );
    let serving = async {
        let refresh = line.heard().await;
        assert_eq!(refresh["type"], "auth.refresh");
        assert_ne!(refresh["token"], json!(first));
        line.ack(&refresh, json!({})).await;
        line.close(1001).await;
        ticket("two").await;
        let (mut line, _) = script.subscribed(0).await;
        assert_eq!(line.query.as_deref(), Some("ticket=two"));
        line.say(event(0, 1)).await;
    };
    let (came, ()) = join(feed.next_event(), serving).await;
    assert_eq!(came.unwrap().event.seq, 1);
    assert_eq!(feed.connects(), 2);
}

fn start(input: &str) -> RunStart {
    serde_json::from_value(json!({"agent": "echo", "input": input})).unwrap()
}

#[tokio::test]
async fn a_start_over_a_socket_has_a_key_of_its_own_unless_the_caller_gives_one() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (socket, mut line) = join(Socket::connect(&client), script.line(30_000)).await;
    let mut socket = socket.unwrap();
    let mut keys = Vec::new();
    let mine = RunStart {
        idempotency_key: Some("mine".into()),
        ..start("hi")
    };
    for start in [start("hi"), start("hi"), mine] {
        let serving = async {
            let frame = line.heard().await;
            let accepted = json!({
                "run_id": "run_00000000000000000000000001",
                "thread_id": "thr_00000000000000000000000001",
            });
            line.ack(&frame, accepted).await;
            frame["idempotency_key"].as_str().unwrap().to_owned()
        };
        let (accepted, key) = join(socket.run_start(start), serving).await;
        accepted.unwrap();
        keys.push(key);
    }
    assert_eq!((keys[0].len(), &*keys[2]), (32, "mine"));
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_start_too_long_for_a_socket_is_refused_at_once_and_keeps_the_socket() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (socket, mut line) = join(Socket::connect(&client), script.line(30_000)).await;
    let mut socket = socket.unwrap();
    let refused = socket
        .run_start(start(&"x".repeat(MAX_INBOUND_BYTES)))
        .await;
    assert!(matches!(refused, Err(Error::TooLong { .. })), "{refused:?}");
    let serving = async {
        let ping = line.heard().await;
        line.say(json!({"type": "pong", "id": ping["id"]})).await;
        ping
    };
    let (answered, ping) = join(socket.ping(), serving).await;
    answered.unwrap();
    assert_eq!(ping["type"], "ping");
}

#[tokio::test]
async fn a_subscription_that_the_server_ends_is_made_again() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (feed, (mut line, _)) = join(Feed::open(&client, wish(2)), script.subscribed(2)).await;
    let mut feed = feed.unwrap();
    let serving = async {
        line.say(event(2, 3)).await;
        let away = error("store_unavailable", &json!(null));
        line.say(json!({"type": "error", "id": null, "error": away}))
            .await;
        let (mut line, wish) = script.subscribed(3).await;
        assert_eq!(wish["after"], 3);
        line.say(event(3, 4)).await;
    };
    let reading = async {
        let first = feed.next_event().await.unwrap().event.seq;
        (first, feed.next_event().await.unwrap().event.seq)
    };
    let both = timeout(Duration::from_secs(5), join(reading, serving));
    assert_eq!(both.await.unwrap().0, (3, 4));
}

#[tokio::test]
async fn a_server_that_answers_pings_and_never_the_question_is_not_waited_for_for_ever() {
    let script = Script::start().await;
    let client = script.client(Some("t"));
    let (socket, mut line) = join(Socket::connect(&client), script.line(600_000)).await;
    let mut socket = socket.unwrap();
    let serving = async {
        let wish = line.heard().await;
        // From here on time passes as soon as everybody waits.
        tokio::time::pause();
        line.message().await;
        wish
    };
    let answer = tokio::select! {
        answer = socket.subscribe(wish(0)) => answer,
        wish = serving => panic!("nothing more was asked: {wish}"),
    };
    assert!(matches!(answer, Err(Error::Silent)), "{answer:?}");
}
