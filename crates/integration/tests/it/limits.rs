//! Every limit that a caller can reach has a test that goes over it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use netra_client::{Error, Method, Socket, Upload};
use netra_integration::{FakeModel, Options, Reply, TestServer, soon, start, start_with_files};
use netra_protocol::ErrorCode;
use netra_protocol::account::Role;
use netra_protocol::event::{EventKind, QueueReason};
use netra_protocol::run::{OnLimit, RunStatus, StartRun};
use serde_json::json;

use crate::Test;
use crate::expect::{hanging_model, names, refused, with_model};
use netra_integration::script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_slots_runs_wait_and_over_the_queue_they_are_refused() -> Test {
    let (model, options) = hanging_model().await?;
    let options = options
        .set("limits.concurrent_runs", 1)
        .set("limits.queued_runs", 1);
    let server = TestServer::start_with(options).await?;
    let (user, other) = (server.user().await?, server.user().await?);
    let first = user.start("assistant", "one").await?;
    model.until_open(1).await?;

    let reject = StartRun {
        on_limit: OnLimit::Reject,
        ..start("echo", "two")
    };
    let error = refused(
        user.client.run_start(None, &reject, None).await,
        429,
        ErrorCode::SlotsExhausted,
    )?;
    ensure!(error.retry_after().is_some(), "429 says when to come back");
    let queued = user.start("echo", "three").await?;
    assert_eq!(
        (queued.status, queued.queue_position),
        (RunStatus::Queued, Some(1))
    );
    refused(user.start("echo", "four").await, 429, ErrorCode::QueueFull)?;

    // Another user's slots are another's.
    assert_eq!(
        other.run("echo", "five").await?.status,
        RunStatus::Completed
    );
    let slots = user.client.usage().await?.slots;
    assert_eq!((slots.running, slots.queued, slots.allowed), (1, 1, 1));

    user.client.run_cancel(first.id).await?;
    assert_eq!(
        user.client.run_end(queued.id).await?.status,
        RunStatus::Completed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_at_its_deadline_whether_it_runs_or_waits() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options.set("limits.concurrent_runs", 1)).await?;
    let user = server.user().await?;
    let running = StartRun {
        timeout_ms: Some(600),
        ..start("assistant", "one")
    };
    let running = user.client.run_start(None, &running, None).await?;
    let queued = StartRun {
        timeout_ms: Some(300),
        ..start("echo", "two")
    };
    let queued = user.client.run_start(None, &queued, None).await?;
    for (run, last) in [(queued.id, "run_queued"), (running.id, "agent_completed")] {
        let ended = user.client.run_end(run).await?;
        assert_eq!(ended.status, RunStatus::TimedOut);
        assert_eq!(
            ended.error.map(|error| error.code),
            Some(ErrorCode::DeadlineExceeded)
        );
        let events = user.events(run).await?;
        let names = names(&events);
        assert_eq!(names[names.len() - 2..], [last, "run_timed_out"]);
    }
    model.until_open(0).await?;

    let too_long = StartRun {
        timeout_ms: Some(3_600_001),
        ..start("echo", "x")
    };
    let answer = user.client.run_start(None, &too_long, None).await;
    ensure!(
        answer
            .as_ref()
            .is_err_and(|error| error.status() == Some(400)),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_and_tool_calls_end_a_run_that_goes_in_circles() -> Test {
    for (key, limit, code) in [
        ("limits.tool_calls", 2, ErrorCode::ToolCallLimitExceeded),
        ("limits.steps", 3, ErrorCode::StepLimitExceeded),
    ] {
        let model = FakeModel::start(|_| Reply::ToolCall("time_now".into(), json!({}))).await?;
        let server = TestServer::start_with(with_model(&model).set(key, limit)).await?;
        let user = server.user().await?;
        let run = user.run("assistant", "round and round").await?;
        assert_eq!(run.status, RunStatus::Failed);
        assert_eq!(run.error.map(|error| error.code), Some(code), "{key}");
        ensure!(run.usage.tool_calls <= limit, "{:?}", run.usage);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_call_ends_at_its_limit() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options.set("limits.model_call_ms", 300)).await?;
    let user = server.user().await?;
    let run = user.run("assistant", "hello").await?;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(
        run.error.map(|error| error.code),
        Some(ErrorCode::ModelUnavailable)
    );
    model.until_open(0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_the_rate_are_refused_with_a_time_to_come_back() -> Test {
    let server =
        TestServer::start_with(Options::new().set("limits.requests_per_minute", 5)).await?;
    let (user, other) = (server.user().await?, server.user().await?);
    for left in (0..5).rev() {
        let answer = user
            .client
            .send(user.client.request(Method::GET, "/api/auth/me"))
            .await?;
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        };
        assert_eq!(header("ratelimit-limit"), Some(5));
        assert_eq!(header("ratelimit-remaining"), Some(left));
        ensure!(header("ratelimit-reset").is_some_and(|seconds| seconds <= 60));
    }
    let error = refused(user.client.me().await, 429, ErrorCode::RateLimited)?;
    let wait = error.retry_after().context("429 carries Retry-After")?;
    ensure!(
        (Duration::from_secs(1)..=Duration::from_secs(60)).contains(&wait),
        "{wait:?}"
    );
    other.client.me().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_in_is_slowed_down_per_account() -> Test {
    let server = TestServer::start_with(Options::new().set("limits.logins_per_minute", 2)).await?;
    let user = server
        .user_as(Role::User, Some("correct horse battery"))
        .await?;
    let client = server.anonymous()?;
    for _ in 0..2 {
        let wrong = client.login(&user.name, "wrong password!").await;
        refused(wrong, 401, ErrorCode::Unauthenticated)?;
    }
    // The right password does not help, or a guesser would learn that it is right.
    let right = client.login(&user.name, "correct horse battery").await;
    let error = refused(right, 429, ErrorCode::RateLimited)?;
    ensure!(error.retry_after().is_some());
    refused(
        client.login("nobody", "wrong password!").await,
        401,
        ErrorCode::Unauthenticated,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_talks_too_much_is_closed_and_the_newest_of_too_many_is_refused() -> Test {
    let options = Options::new()
        .set("limits.messages_per_10s", 3)
        .set("limits.sockets", 2);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut one = Socket::connect(&user.client).await?;
    let mut two = Socket::connect(&user.client).await?;
    let third = async {
        let mut socket = Socket::connect(&user.client).await?;
        socket.ping().await
    };
    let error = soon("the refusal", third)
        .await
        .expect_err("two are allowed");
    ensure!(
        matches!(error, Error::Closed { code: 4009, .. }),
        "{error:?}"
    );

    for _ in 0..3 {
        one.ping().await?;
    }
    for seq in 0..10 {
        one.delivered(seq).await?; // is not counted as a message
    }
    let error = one.ping().await.expect_err("three are allowed");
    ensure!(
        matches!(error, Error::Closed { code: 4003, .. }),
        "{error:?}"
    );
    drop(one);
    two.ping().await?;
    // Its place is free as soon as the server has seen the end of it.
    let try_again = async || Socket::connect(&user.client).await?.ping().await;
    let again = async {
        loop {
            match try_again().await {
                Err(Error::Closed { code: 4009, .. }) => {}
                other => return other,
            }
        }
    };
    soon("the free place", again).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_and_texts_have_a_size() -> Test {
    let options = Options::new()
        .set("limits.upload_mib", 1)
        .set("limits.message_chars", 10);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mib = 1024 * 1024;
    let upload = |bytes: usize| {
        let content = Upload::Bytes(vec![b'x'; bytes].into());
        user.client.file_upload("x.txt", content)
    };
    assert_eq!(upload(mib).await?.bytes, mib as u64);
    refused(upload(mib + 1).await, 413, ErrorCode::TooLarge)?;
    // Without a length in front, too.
    let pieces =
        (0..20).map(move |_| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b'x'; mib / 10])));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    let request = user
        .client
        .request(Method::POST, "/api/files?name=x.txt")
        .body(body);
    refused(user.client.send(request).await, 413, ErrorCode::TooLarge)?;
    assert_eq!(
        user.client.files(None, None).await?.items.len(),
        1,
        "nothing else stayed"
    );

    assert_eq!(
        user.run("echo", "ääääääääää").await?.status,
        RunStatus::Completed
    );
    refused(
        user.start("echo", "ääääääääääa").await,
        400,
        ErrorCode::InvalidInput,
    )?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_makes_other_users_wait_and_says_why() -> Test {
    let (model, options) = hanging_model().await?;
    let server = TestServer::start_with(options.set("limits.engines", 1)).await?;
    let (user, other) = (server.user().await?, server.user().await?);
    let first = user.start("assistant", "one").await?;
    model.until_open(1).await?;
    let second = other.start("echo", "two").await?;
    assert_eq!(second.status, RunStatus::Queued);
    user.client.run_cancel(first.id).await?;
    assert_eq!(
        other.client.run_end(second.id).await?.status,
        RunStatus::Completed
    );
    let events = other.events(second.id).await?;
    let EventKind::RunQueued { reason, .. } = &events[0].event.event.kind else {
        anyhow::bail!("{:?}", names(&events));
    };
    assert_eq!(*reason, QueueReason::Engines);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_call_themselves_end_at_the_depth() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "deep",
        "sub_agents = [\"deep\"]\n",
        "agent('deep', {'text': input['text']})\n",
    )?;
    let options = Options::new().agents(agents.path()).set("limits.depth", 3);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let run = user.run("deep", "down").await?;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(
        run.error.map(|error| error.code),
        Some(ErrorCode::DepthLimitExceeded)
    );
    let events = user.events(run.id).await?;
    let names = names(&events);
    let count = |name: &str| names.iter().filter(|other| **other == name).count();
    assert_eq!(count("agent_started"), count("agent_completed"));
    ensure!(count("agent_started") <= 4, "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_call_that_takes_too_long_fails_and_the_run_goes_on() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "patient",
        "tools = [\"log_profile\"]\n",
        "try:\n    log_profile()\n    told = 'none'\nexcept Exception as error:\n    \
         told = str(error)\n{'told': told}\n",
    )?;
    let options = Options::new()
        .agents(agents.path())
        .set("limits.tool_call_ms", 1);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let rows: String = (0..20_000)
        .map(|n| format!("2023-11-16 18:17:03.{n:07},{n},7\n"))
        .collect();
    let log = format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}");
    let file = user
        .client
        .file_upload("log.csv", Upload::Bytes(log.into()))
        .await?;
    let start = start_with_files("patient", "x", vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let events = user.events(run.id).await?;
    let failure = events
        .iter()
        .find_map(|received| match &received.event.event.kind {
            EventKind::ToolCompleted { error, .. } => error.clone(),
            _ => None,
        });
    let failure = failure.context("the call failed")?;
    assert_eq!(failure.code, ErrorCode::ToolTimeout, "{failure:?}");
    Ok(())
}
