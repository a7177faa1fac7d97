//! The server is killed while an endpoint works: what is done is done, and the turn comes again.

use anyhow::{Context as _, ensure};
use netra_client::Client;
use netra_integration::{FakeEndpoint, ProcessOptions, Said, TestProcess, TestUser};
use netra_protocol::run::RunStatus;
use rustix::process::Signal;
use serde_json::json;

use super::{agent, calls, turn_of};
use crate::Test;
use crate::expect::{names, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_asks_again_only_for_the_turn_that_it_lost() -> Test {
    let killed = std::sync::atomic::AtomicBool::new(false);
    let endpoint = FakeEndpoint::start(move |turn| match turn_of(turn) {
        1 => calls(json!([{"type": "tool", "id": "clock", "name": "time_now"}])),
        _ if !killed.swap(true, std::sync::atomic::Ordering::SeqCst) => Said::Hang(vec![
            json!({"type": "text", "text": "half a senten"}),
        ]),
        _ => Said::Steps(vec![
            json!({"type": "text", "text": "A whole sentence."}),
            json!({"type": "result", "result": {"results": turn["results"], "state": turn["state"]}}),
        ]),
    })
    .await?;
    let agents = tempfile::tempdir()?;
    agent(
        agents.path(),
        "own",
        endpoint.url(),
        "tools = [\"time_now\"]\n",
    )?;
    let data = tempfile::tempdir()?;
    let options = ProcessOptions {
        arguments: vec!["--agents".into(), agents.path().display().to_string()],
        ..ProcessOptions::default()
    };
    let mut server = TestProcess::start_with(data.path(), options.clone()).await?;
    let user = server.user("u").await?;
    let mut socket = user.socket().await?;
    let run = user.start("own", "go").await?;
    until(&mut socket, "message_delta").await?;
    server.signal(Signal::KILL)?;
    server.ended().await?;

    let server = TestProcess::start_with(data.path(), options).await?;
    let user = TestUser {
        client: Client::new(server.url(), user.client.token())?,
        ..user
    };
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!((run.attempt, run.usage.tool_calls), (2, 1));
    let given = run.result.context("it has a result")?;
    assert_eq!(given["state"], json!({"asked": true}));
    ensure!(given["results"][0]["result"].is_object(), "{given}");

    let seen = endpoint.seen();
    let turns: Vec<_> = seen.iter().map(|one| turn_of(&one.turn)).collect();
    assert_eq!(turns, [1, 2, 2]);
    // The endpoint can know the turn again, and gets the very same results.
    assert_eq!(
        seen[1].header("idempotency-key"),
        seen[2].header("idempotency-key")
    );
    assert_eq!(seen[1].turn["results"], seen[2].turn["results"]);
    let events = user.events(run.id).await?;
    let names = names(&events);
    let count = |name: &str| names.iter().filter(|one| **one == name).count();
    // The half sentence was closed as incomplete; the whole one is another message.
    assert_eq!(
        (count("tool_executing"), count("message_completed")),
        (1, 2),
        "{names:?}"
    );
    Ok(())
}
