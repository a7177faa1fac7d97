//! The stream of events: order, chain, filters, both ways to read it.

use anyhow::ensure;
use futures::StreamExt as _;
use netra_client::{Incoming, Method, Socket};
use netra_integration::{TestServer, soon, start};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::frame::{After, RunStart, Subscribe};

use crate::Test;
use crate::expect::{names, refused, until_end};

fn after(after: After) -> Subscribe {
    Subscribe {
        after,
        epoch: None,
        threads: None,
        deltas: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_tells_its_story_in_order() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let start = RunStart {
        thread_id: None,
        idempotency_key: None,
        start: start("echo", "a b c"),
    };
    let accepted = socket.run_start(start).await?;
    let events = until_end(&mut socket, accepted.run_id).await?;
    assert_eq!(
        names(&events),
        [
            "run_started",
            "agent_started",
            "message_completed",
            "agent_completed",
            "run_completed"
        ]
    );
    let written: String = events
        .iter()
        .filter_map(|received| match &received.event.event.kind {
            EventKind::MessageDelta { delta, .. } => Some(delta.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(written, "a b c", "the pieces joined are the text");
    for pair in events.windows(2) {
        assert_eq!(pair[1].event.prev, pair[0].event.seq);
        ensure!(pair[1].event.event.ts >= pair[0].event.event.ts);
    }
    ensure!(
        events
            .iter()
            .all(|received| received.event.event.thread_id == accepted.thread_id)
    );
    let usage = match &events[events.len() - 1].event.event.kind {
        EventKind::RunCompleted { result, usage, .. } => {
            assert_eq!(result["text"], "a b c");
            usage.clone()
        }
        other => anyhow::bail!("{other:?}"),
    };
    assert_eq!(
        user.client.run(accepted.run_id).await?.usage,
        usage,
        "stored as told"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sse_and_websocket_tell_the_same() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut feed = user.feed().await?;
    let run = user.run("echo", "hello").await?;
    let mut live = Vec::new();
    while live
        .last()
        .is_none_or(|last: &netra_client::Received| !last.event.event.kind.is_terminal())
    {
        live.push(soon("an event", feed.next_event()).await?);
    }
    let whole = |events: Vec<netra_client::Received>| -> Vec<_> {
        let events = events
            .into_iter()
            .map(|received| (received.event.seq, received.event.event));
        events.filter(|(_, event)| !event.kind.is_delta()).collect()
    };
    let read = user.events(run.id).await?;
    assert_eq!(whole(read.clone()), whole(live));

    // Taken up again behind its second event, it gives the rest; behind its last, nothing.
    let mut rest = user
        .client
        .run_events(run.id)
        .after(read[1].event.seq.to_string());
    let mut again = Vec::new();
    while let Some(received) = rest.next().await? {
        again.push(received);
    }
    assert_eq!(whole(again), whole(read[2..].to_vec()));
    let last = read[read.len() - 1].event.seq;
    let path = format!("/api/runs/{}/events?after={last}", run.id);
    let answer = user
        .client
        .send(user.client.request(Method::GET, &path))
        .await?;
    assert_eq!(answer.status(), 204);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_all_events_carries_ids_to_resume_by() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    user.run("echo", "before").await?;
    let request = user
        .client
        .request(Method::GET, "/api/events?after=0&deltas=false");
    let answer = user.client.send(request).await?;
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("run_completed") {
        let piece = soon("the events before", body.next()).await;
        text.push_str(&String::from_utf8_lossy(
            &piece.ok_or_else(|| anyhow::anyhow!("ended"))??,
        ));
    }
    let ids: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id:"))
        .collect();
    let socket = Socket::connect(&user.client).await?;
    let epoch = &socket.ready().epoch;
    ensure!(
        !ids.is_empty()
            && ids
                .iter()
                .all(|id| id.trim().starts_with(&format!("{epoch}:")))
    );
    ensure!(!text.contains("message_delta"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_the_log_does_not_have_is_refused() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let run = user.run("echo", "x").await?;
    let mut socket = Socket::connect(&user.client).await?;
    let latest = socket.ready().latest_seq;
    let beyond = socket.subscribe(after(After::Seq(latest + 1))).await;
    let error = refused(beyond, 0, ErrorCode::CursorExpired)?;
    let netra_client::Error::CursorExpired { detail, .. } = error else {
        anyhow::bail!("refused")
    };
    let details = detail.details.unwrap_or_default();
    assert_eq!(details["latest_seq"], latest);
    assert_eq!(details["epoch"], socket.ready().epoch.as_str());
    ensure!(details["oldest_seq"].is_u64());
    let other = Subscribe {
        epoch: Some("another".into()),
        ..after(After::Seq(0))
    };
    refused(socket.subscribe(other).await, 0, ErrorCode::CursorExpired)?;
    let path = format!("/api/runs/{}/events?after=another:1", run.id);
    let answer = user
        .client
        .send(user.client.request(Method::GET, &path))
        .await;
    refused(answer, 410, ErrorCode::CursorExpired)?;
    // The socket is still good.
    assert_eq!(
        socket
            .subscribe(after(After::Seq(latest)))
            .await?
            .latest_seq,
        latest
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_leave_no_hole_in_the_chain() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let wanted = user.run("echo", "one").await?;
    user.run("echo", "two").await?;
    let again = user
        .client
        .run_start(Some(wanted.thread_id), &start("echo", "three"), None)
        .await?;
    user.client.run_end(again.id).await?;

    let mut socket = Socket::connect(&user.client).await?;
    let filter = Subscribe {
        threads: Some(vec![wanted.thread_id]),
        deltas: false,
        ..after(After::Seq(0))
    };
    socket.subscribe(filter).await?;
    // The client checks each `prev` itself.
    let mut events = until_end(&mut socket, wanted.id).await?;
    events.extend(until_end(&mut socket, again.id).await?);
    ensure!(
        events
            .iter()
            .all(|received| received.event.event.thread_id == wanted.thread_id)
    );
    ensure!(
        events
            .iter()
            .all(|received| !received.event.event.kind.is_delta())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_socket_of_a_user_sees_everything_and_none_without_subscribing() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let (mut one, mut two) = (user.socket().await?, user.socket().await?);
    let mut silent = Socket::connect(&user.client).await?;
    let run = user.run("echo", "hello").await?;
    let first = until_end(&mut one, run.id).await?;
    let second = until_end(&mut two, run.id).await?;
    assert_eq!(first, second);
    silent.ping().await?;
    silent.send_text(r#"{"type":"ping","id":"last"}"#).await?;
    let next = soon("the pong", silent.next_incoming()).await?;
    ensure!(
        matches!(next, Incoming::Frame(_)),
        "no events were asked for: {next:?}"
    );
    Ok(())
}
