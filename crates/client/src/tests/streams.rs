//! Server-sent events over connections that break.

use futures::future::join;
use serde_json::{Value, json};

use super::script::{EPOCH, Script, error, event};
use crate::Error;

fn block(prev: u64, seq: u64) -> String {
    format!(
        "id: {EPOCH}:{seq}\nevent: agent_thinking\ndata: {}\n\n",
        event(prev, seq)
    )
}

#[tokio::test]
async fn all_events_of_a_user_go_on_behind_the_last_event_or_position() {
    let script = Script::start().await;
    let thread = "thr_00000000000000000000000001";
    let mut events = script
        .client(Some("t"))
        .events()
        .of_threads([thread.parse().unwrap()])
        .without_deltas();
    let serving = async {
        let first = script.asked().await;
        let wanted = format!("GET /api/events?deltas=false&threads={thread} HTTP/1.1");
        assert_eq!(first.line, wanted);
        assert_eq!(first.headers.get("last-event-id"), None);
        first
            .stream(&format!("{}: keep-alive\n\nid: {EPOCH}:7\n\n", block(2, 3)))
            .await;
        let second = script.asked().await;
        assert_eq!(second.headers["last-event-id"], format!("{EPOCH}:7"));
        // 8 is missing behind 9, so the stream is taken up again behind 8.
        second
            .stream(&format!("{}{}", block(7, 8), block(9, 10)))
            .await;
        let third = script.asked().await;
        assert_eq!(third.headers["last-event-id"], format!("{EPOCH}:8"));
        let away = json!({"error": error("store_unavailable", &Value::Null)});
        third
            .stream(&format!("{}event: error\ndata: {away}\n\n", block(8, 9)))
            .await;
        let fourth = script.asked().await;
        assert_eq!(fourth.headers["last-event-id"], format!("{EPOCH}:9"));
        fourth.stream(&block(9, 10)).await;
    };
    let reading = async {
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(events.next().await.unwrap().unwrap().event.seq);
        }
        seen
    };
    assert_eq!(join(reading, serving).await.0, [3, 8, 9, 10]);
    assert_eq!(events.last_id(), Some(&*format!("{EPOCH}:10")));
}

#[tokio::test]
async fn an_event_that_is_missing_at_the_start_of_a_new_connection_is_noticed() {
    let script = Script::start().await;
    let mut events = script
        .client(Some("t"))
        .events()
        .after(format!("{EPOCH}:3"));
    let serving = async {
        // 4 is missing: what was asked for follows 3.
        script.asked().await.stream(&block(4, 5)).await;
        let again = script.asked().await;
        assert_eq!(again.headers["last-event-id"], format!("{EPOCH}:3"));
        again.stream(&block(3, 4)).await;
    };
    let (came, ()) = join(events.next(), serving).await;
    assert_eq!(came.unwrap().unwrap().event.seq, 4);
}

#[tokio::test]
async fn a_cursor_that_the_log_does_not_hold_ends_the_stream() {
    let script = Script::start().await;
    let mut events = script.client(Some("t")).events().after("old:3");
    let serving = async {
        let asked = script.asked().await;
        assert_eq!(asked.headers["last-event-id"], "old:3");
        let log = json!({"epoch": EPOCH, "oldest_seq": 2, "latest_seq": 9});
        let gone = json!({"error": error("cursor_expired", &log)});
        asked.answer("410 Gone", &gone).await;
    };
    let (ended, ()) = join(events.next(), serving).await;
    let Err(Error::CursorExpired { log, status, .. }) = ended else {
        panic!("{ended:?}")
    };
    assert_eq!(
        (status, &*log.epoch, log.oldest_seq, log.latest_seq),
        (410, EPOCH, 2, 9)
    );
}
