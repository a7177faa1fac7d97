//! Cancel: at once, everything closed, the slot free.

use std::time::{Duration, Instant};

use anyhow::ensure;
use netra_integration::TestServer;
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;

use crate::Test;
use crate::expect::{hanging_model, names, refused, until, until_end};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_closes_what_is_open_and_gives_its_slot_back() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("assistant", "hello").await?;
    until(&mut socket, "message_delta").await?;
    assert_eq!(user.client.usage().await?.slots.running, 1);

    let asked = Instant::now();
    user.client.run_cancel(run.id).await?;
    let rest = until_end(&mut socket, run.id).await?;
    // The contract says 100 ms; a loaded machine that runs all tests at once gets more.
    ensure!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    model.until_open(0).await?;

    assert_eq!(
        names(&rest),
        ["message_completed", "agent_completed", "run_cancelled"]
    );
    let EventKind::MessageCompleted { incomplete, .. } = &rest[0].event.event.kind else {
        anyhow::bail!("{rest:?}");
    };
    ensure!(incomplete, "the message was cut off");
    let ended = user.client.run(run.id).await?;
    assert_eq!(ended.status, RunStatus::Cancelled);
    assert_eq!(
        ended.error.map(|error| error.code),
        Some(ErrorCode::Cancelled)
    );
    assert_eq!(user.client.usage().await?.slots.running, 0);
    refused(
        user.client.run_cancel(run.id).await,
        409,
        ErrorCode::RunEnded,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_run_is_cancelled_without_ever_starting() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options.set("limits.concurrent_runs", 1)).await?;
    let user = server.user().await?;
    let first = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let second = user.start("assistant", "two").await?;
    assert_eq!(second.status, RunStatus::Queued);
    let mut socket = user.socket().await?;
    socket.run_cancel(second.id).await?;
    assert_eq!(
        user.client.run_end(second.id).await?.status,
        RunStatus::Cancelled
    );
    assert_eq!(
        names(&user.events(second.id).await?),
        ["run_queued", "run_cancelled"]
    );
    user.client.run_cancel(first.id).await?;
    assert_eq!(
        user.client.run_end(first.id).await?.status,
        RunStatus::Cancelled
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_twice_is_no_error_while_it_ends() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let run = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let (one, two) = tokio::join!(
        user.client.run_cancel(run.id),
        user.client.run_cancel(run.id)
    );
    // The second one may find it ended already.
    for answer in [one, two] {
        if answer.is_err() {
            refused(answer, 409, ErrorCode::RunEnded)?;
        }
    }
    let events = user.events(run.id).await?;
    let ends = events
        .iter()
        .filter(|received| received.event.event.kind.is_terminal())
        .count();
    assert_eq!(ends, 1, "exactly one last event");
    Ok(())
}
