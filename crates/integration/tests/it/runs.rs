//! Runs: start, state, result, retry, and what a thread does with a second one.

use anyhow::{Context as _, ensure};
use netra_integration::{FakeModel, Reply, TestServer, start, text_of};
use netra_protocol::ErrorCode;
use netra_protocol::run::{OnBusy, RunStatus, StartRun};
use serde_json::json;

use crate::Test;
use crate::expect::{hanging_model, names, refused, with_model};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn echo_gives_back_what_it_was_given() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let started = user.start("echo", "hällo wörld").await?;
    assert_eq!(
        started.run_id,
        Some(started.id),
        "the alias of the answer to a start"
    );
    let run = user.client.run_end(started.id).await?;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(run.result, Some(json!({"text": "hällo wörld"})));
    ensure!(run.started_at.is_some() && run.ended_at.is_some() && run.queue_position.is_none());
    ensure!(run.usage.tool_calls == 0 && run.usage.model_calls == 0);
    assert_eq!(user.client.runs(None, None).await?.items[0].id, run.id);

    let again = user.client.run_retry(run.id).await?;
    assert_ne!(again.id, run.id);
    assert_eq!(again.thread_id, run.thread_id);
    assert_eq!(user.client.run_end(again.id).await?.result, run.result);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_cannot_be_run() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    refused(
        user.start("no-such-agent", "x").await,
        404,
        ErrorCode::NotFound,
    )?;
    let error = refused(
        user.start("assistant", "x").await,
        422,
        ErrorCode::AgentNotReady,
    )?;
    ensure!(
        error.to_string().contains("model"),
        "it says what is missing: {error}"
    );
    refused(
        user.start("echo", json!({"no": "text"})).await,
        400,
        ErrorCode::InvalidInput,
    )?;
    let number = user.start("echo", 7).await;
    ensure!(
        number
            .as_ref()
            .is_err_and(|error| error.status() == Some(400)),
        "{number:?}"
    );
    assert_eq!(
        user.client.runs(None, None).await?.items.len(),
        0,
        "nothing was stored"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_assistant_answers_by_way_of_its_tools() -> Test {
    let model = FakeModel::start(|request| {
        let messages = request["messages"].as_array().map_or(0, Vec::len);
        let answered = request["messages"].to_string().contains("\"tool\"");
        match answered {
            false => Reply::ToolCall("time_now".into(), json!({})),
            true => Reply::Text(vec!["It is ".into(), format!("late ({messages}).")]),
        }
    })
    .await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let user = server.user().await?;
    let run = user.run("assistant", "What time is it?").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!((run.usage.model_calls, run.usage.tool_calls), (2, 1));
    assert_eq!((run.usage.input_tokens, run.usage.output_tokens), (22, 14));
    let events = user.events(run.id).await?;
    let names = names(&events);
    let order = [
        "run_started",
        "agent_started",
        "tool_executing",
        "tool_completed",
        "message_completed",
        "agent_completed",
        "run_completed",
    ];
    let places: Vec<_> = order
        .iter()
        .map(|name| names.iter().position(|n| n == name))
        .collect();
    ensure!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{names:?}"
    );
    let messages = user.client.messages(run.thread_id, None, None).await?;
    let last = messages.items.last().context("there is an answer")?;
    ensure!(text_of(last).starts_with("It is late"), "{last:?}");
    let usage = user.client.usage().await?;
    assert_eq!(usage.days[0].model_calls, 2);
    let tools = usage.tools.iter().map(|tool| (&*tool.tool, tool.calls));
    assert_eq!(tools.collect::<Vec<_>>(), [("time_now", 1)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_thread_queues_rejects_or_is_interrupted() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let first = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let thread = Some(first.thread_id);

    let reject = StartRun {
        on_busy: OnBusy::Reject,
        ..start("echo", "two")
    };
    refused(
        user.client.run_start(thread, &reject, None).await,
        409,
        ErrorCode::ThreadBusy,
    )?;

    let queued = user
        .client
        .run_start(thread, &start("echo", "three"), None)
        .await?;
    assert_eq!(queued.status, RunStatus::Queued);
    assert_eq!(user.client.run(queued.id).await?.queue_position, Some(1));

    let interrupt = StartRun {
        on_busy: OnBusy::Interrupt,
        ..start("echo", "four")
    };
    let last = user.client.run_start(thread, &interrupt, None).await?;
    assert_eq!(
        user.client.run_end(last.id).await?.status,
        RunStatus::Completed
    );
    assert_eq!(
        user.client.run_end(first.id).await?.status,
        RunStatus::Cancelled
    );
    assert_eq!(
        user.client.run_end(queued.id).await?.status,
        RunStatus::Cancelled
    );
    model.until_open(0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_run_begins_when_its_thread_is_free() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let first = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let second = user
        .client
        .run_start(Some(first.thread_id), &start("echo", "two"), None)
        .await?;
    user.client.run_cancel(first.id).await?;
    assert_eq!(
        user.client.run_end(second.id).await?.result,
        Some(json!({"text": "two"}))
    );
    let events = user.events(second.id).await?;
    assert_eq!(names(&events)[..2], ["run_queued", "run_started"]);
    Ok(())
}
