//! Agents behind HTTP endpoints: their turns, what goes wrong with them, and what they cannot do.

mod examples;
mod faults;
mod resumed;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{FakeEndpoint, Options, Said, TestServer, TestTool, soon, text_of};
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::Test;
use crate::expect::{approve, names};
use netra_integration::script;

/// Writes an agent at this endpoint into a folder of agents.
pub(crate) fn agent(dir: &Path, name: &str, url: &str, manifest: &str) -> Result<()> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    let head = format!("description = \"of a test\"\nkind = \"http\"\nurl = \"{url}\"\n");
    std::fs::write(folder.join("agent.toml"), format!("{head}{manifest}"))?;
    Ok(())
}

pub(super) fn turn_of(turn: &Value) -> u64 {
    turn["turn"].as_u64().unwrap_or_default()
}

pub(super) fn calls(calls: Value) -> Said {
    Said::Step(json!({"type": "calls", "calls": calls, "state": {"asked": true}}))
}

pub(crate) fn result(result: Value) -> Said {
    Said::Step(json!({"type": "result", "result": result}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_own_code_thinks_calls_writes_and_ends() -> Test {
    let endpoint = FakeEndpoint::start(|turn| match turn_of(turn) {
        1 => Said::Steps(vec![
            json!({"type": "think", "message": "looking at the clock", "progress": 0.5}),
            json!({"type": "calls", "state": ["kept"], "calls": [
                {"type": "tool", "id": "clock", "name": "time_now"},
                {"type": "agent", "id": "loud", "name": "loud", "input": "hush"},
                {"type": "tool", "id": "none", "name": "http_fetch"},
            ]}),
        ]),
        _ => Said::Steps(vec![
            json!({"type": "text", "text": "It is "}),
            json!({"type": "text", "text": "late."}),
            json!({"type": "result", "result": {"seen": turn["results"]}}),
        ]),
    })
    .await?;
    let agents = tempfile::tempdir()?;
    let manifest = "tools = [\"time_now\"]\nsub_agents = [\"loud\"]\n";
    agent(agents.path(), "own", endpoint.url(), manifest)?;
    script(
        agents.path(),
        "loud",
        "listed = false\n",
        "{'said': input['text'].upper()}\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("own", "what time is it?").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let seen = &run.result.context("it has a result")?["seen"];
    assert_eq!(seen[0]["id"], "clock");
    ensure!(seen[0]["result"]["now"].is_string(), "{seen}");
    assert_eq!(seen[1]["result"], json!({"said": "HUSH"}));
    // A tool that is not on the agent's list is refused, and the agent is told.
    assert_eq!(seen[2]["error"]["code"], "tool_denied");

    let requests = endpoint.seen();
    let first = &requests[0].turn;
    assert_eq!(first["protocol"], "netra.agent.v1");
    assert_eq!(first["input"], json!({"text": "what time is it?"}));
    assert_eq!(first["run_id"], json!(run.id));
    assert_eq!(first["tools"][0]["name"], "time_now");
    assert_eq!(first["agents"][0]["name"], "loud");
    assert_eq!(
        (&first["state"], &first["messages"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(requests[1].turn["state"], json!(["kept"]));
    ensure!(requests[0].header("idempotency-key") != requests[1].header("idempotency-key"));

    let events = user.events(run.id).await?;
    let names = names(&events);
    for name in [
        "agent_thinking",
        "tool_completed",
        "tool_denied",
        "message_completed",
    ] {
        ensure!(names.contains(&name), "{name} is not in {names:?}");
    }
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    assert_eq!(text_of(&messages[1]), "It is late.");

    // The next run of the thread is told what was said.
    let again = netra_integration::start("own", "and now?");
    let again = user
        .client
        .run_start(Some(run.thread_id), &again, None)
        .await?;
    user.client.run_end(again.id).await?;
    let told = &endpoint.seen()[2].turn["messages"];
    let texts = [&told[0]["text"], &told[1]["text"], &told[1]["role"]];
    assert_eq!(texts, ["what time is it?", "It is late.", "assistant"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_alone_is_a_whole_answer() -> Test {
    let endpoint = FakeEndpoint::start(|_| result(json!("Hello."))).await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "own", endpoint.url(), "")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("own", "hi").await?;
    assert_eq!(run.result, Some(json!({"text": "Hello."})));
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    assert_eq!(text_of(&messages[1]), "Hello.");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_turn_are_made_at_once() -> Test {
    let barrier = Arc::new(Barrier::new(3));
    let part = FakeEndpoint::start_later(move |turn| {
        let (barrier, text) = (Arc::clone(&barrier), turn["input"]["text"].clone());
        async move {
            // Ends only when all three are asked at the same time.
            barrier.wait().await;
            result(json!({ "said": text }))
        }
    })
    .await?;
    let whole = FakeEndpoint::start(|turn| match turn_of(turn) {
        1 => calls(json!([
            {"type": "agent", "id": "1", "name": "part", "input": "a"},
            {"type": "agent", "id": "2", "name": "part", "input": "b"},
            {"type": "agent", "id": "3", "name": "part", "input": "c"},
        ])),
        _ => result(turn["results"].clone()),
    })
    .await?;
    let agents = tempfile::tempdir()?;
    agent(
        agents.path(),
        "whole",
        whole.url(),
        "sub_agents = [\"part\"]\n",
    )?;
    agent(agents.path(), "part", part.url(), "listed = false\n")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = soon("the run", user.run("whole", "go")).await?;
    let result = run.result.context("it has a result")?;
    for (place, text) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(result[place]["result"]["said"], *text, "{result}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_asked_and_no_turn_is_asked_twice() -> Test {
    let endpoint = FakeEndpoint::start(|turn| match turn_of(turn) {
        1 => calls(json!([
            {"type": "tool", "id": "ask", "name": "consent", "arguments": {"n": 1}},
            {"type": "tool", "id": "clock", "name": "time_now"},
        ])),
        _ => result(turn["results"].clone()),
    })
    .await?;
    let agents = tempfile::tempdir()?;
    let manifest = "tools = [\"consent\", \"time_now\"]\n";
    agent(agents.path(), "own", endpoint.url(), manifest)?;
    let options = Options::new()
        .agents(agents.path())
        .tool(TestTool::consent());
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("own", "go").await?;
    approve(&user, &mut socket).await?;
    let run = user.client.run_end(run.id).await?;
    let result = run.result.context("it has a result")?;
    assert_eq!(result[0]["result"]["n"], 1, "{result}");
    ensure!(result[1]["result"].is_object(), "{result}");
    let turns: Vec<_> = endpoint
        .seen()
        .iter()
        .map(|seen| turn_of(&seen.turn))
        .collect();
    assert_eq!(turns, [1, 2]);
    Ok(())
}
