//! A run survives its client.

use std::collections::HashSet;

use anyhow::ensure;
use netra_client::{Client, Feed, Received, Socket};
use netra_integration::{Proxy, TestServer, TestUser, soon, start};
use netra_protocol::event::EventKind;
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::run::RunStatus;

use crate::Test;
use crate::expect::hanging_model;

fn from(seq: u64, epoch: Option<String>) -> Subscribe {
    Subscribe {
        after: After::Seq(seq),
        epoch,
        threads: None,
        deltas: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_socket_takes_nothing_along() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let epoch = socket.ready().epoch.clone();
    let run = user.start("assistant", "hello").await?;
    let first = soon("the first event", socket.next_event()).await?;
    socket.close().await?;

    // Nobody looks on; the run goes on, and ends.
    model.until_open(1).await?;
    user.client.run_cancel(run.id).await?;
    assert_eq!(
        user.client.run_end(run.id).await?.status,
        RunStatus::Cancelled
    );

    let mut socket = Socket::connect(&user.client).await?;
    socket.subscribe(from(first.event.seq, Some(epoch))).await?;
    let mut seen = vec![first];
    while !seen[seen.len() - 1].event.event.kind.is_terminal() {
        seen.push(soon("the rest", socket.next_event()).await?);
    }
    let complete = user.events(run.id).await?;
    assert_eq!(
        ids(&seen),
        ids(&complete),
        "complete, in order, nothing twice"
    );
    assert_eq!(
        seen[seen.len() - 1].event.event.kind.name(),
        "run_cancelled"
    );
    Ok(())
}

/// Without deltas, which may be folded away after the end.
fn ids(events: &[Received]) -> Vec<(u64, String)> {
    let events = events.iter().map(|received| &received.event);
    let whole = events.filter(|event| !event.event.kind.is_delta());
    whole
        .map(|event| (event.seq, event.event.event_id.to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_breaks_again_and_again_misses_nothing() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut feed = Feed::open(&user.client, from(0, None)).await?;
    let mut runs = HashSet::new();
    for number in 0..12 {
        runs.insert(
            user.client
                .run_start(None, &start("echo", format!("run {number}")), None)
                .await?
                .id,
        );
    }
    let (mut seen, mut ended) = (Vec::new(), HashSet::new());
    while ended.len() < runs.len() {
        let received = soon("an event", feed.next_event()).await?;
        if let EventKind::RunCompleted { .. } = received.event.event.kind {
            ended.insert(received.event.event.run_id);
        }
        seen.push(received);
        if seen.len() % 7 == 0 {
            feed.interrupt();
        }
    }
    assert_eq!(ended, runs);
    ensure!(
        feed.connects() > 3,
        "it was broken off: {}",
        feed.connects()
    );
    let numbers: Vec<_> = seen.iter().map(|received| received.event.seq).collect();
    ensure!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    for run in runs {
        let of_run: Vec<_> = seen
            .iter()
            .filter(|received| received.event.event.run_id == run)
            .cloned()
            .collect();
        assert_eq!(ids(&of_run), ids(&user.events(run).await?));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_stream_that_breaks_off_is_taken_up_again() -> Test {
    let (_model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let proxy = Proxy::start(server.url(), 0)?;
    let token = user.client.token();
    let far = TestUser {
        client: Client::new(proxy.url(), token)?,
        ..user.clone()
    };
    let run = user.start("assistant", "hello").await?;
    let mut events = far.client.run_events(run.id);
    let mut seen = Vec::new();
    while let Some(received) = soon("an event", events.next()).await? {
        if received.event.event.kind.is_delta() {
            proxy.cut_all();
            user.client.run_cancel(run.id).await?;
        }
        seen.push(received);
    }
    assert_eq!(ids(&seen), ids(&user.events(run.id).await?));
    Ok(())
}
