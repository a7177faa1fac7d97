//! What scripts do at once, what they keep from run to run, and how often they may ask.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{FakeEndpoint, Options, TestServer, TestTool, TestUser, soon, start};
use netra_protocol::ErrorCode;
use netra_protocol::id::ThreadId;
use netra_protocol::run::{Run, RunStatus};
use serde_json::json;
use tokio::sync::Barrier;

use crate::Test;
use crate::expect::approve;
use crate::http_agents::{agent, result};
use netra_integration::script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_gathers_what_is_done_at_once() -> Test {
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
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "part", part.url(), "listed = false\n")?;
    script(
        agents.path(),
        "whole",
        "tools = [\"time_now\"]\nsub_agents = [\"part\"]\n",
        "clock, *parts = gather(call(time_now), *[call(agent, 'part', t) for t in ['a', 'b', 'c']])\n\
         {'clock': clock['time_zone'], 'said': [part['said'] for part in parts]}\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = soon("the run", user.run("whole", "go")).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(
        run.result,
        Some(json!({"clock": "UTC", "said": ["a", "b", "c"]}))
    );
    assert_eq!(run.usage.tool_calls, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_is_an_exception_or_an_answer_beside_the_others() -> Test {
    let agents = tempfile::tempdir()?;
    let manifest = "tools = [\"time_now\"]\nsub_agents = [\"fails\"]\n";
    script(agents.path(), "fails", "listed = false\n", "1 / 0\n")?;
    script(
        agents.path(),
        "careful",
        manifest,
        "try:\n    gather(call(time_now), call(agent, 'fails', 'x'))\n    caught = None\n\
         except RuntimeError as error:\n    caught = str(error)\n\
         both = gather(call(time_now), call(agent, 'fails', 'x'), return_errors=True)\n\
         {'caught': caught, 'zone': both[0]['time_zone'], 'error': both[1]['error']['code']}\n",
    )?;
    script(
        agents.path(),
        "careless",
        manifest,
        "gather(call(agent, 'fails', 'x'))\n",
    )?;
    script(agents.path(), "wrong", manifest, "gather(time_now())\n")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let result = user
        .run("careful", "x")
        .await?
        .result
        .context("it goes on")?;
    ensure!(
        result["caught"]
            .as_str()
            .is_some_and(|words| words.contains("ZeroDivision")),
        "{result}"
    );
    assert_eq!(
        (&result["zone"], &result["error"]),
        (&json!("UTC"), &json!("agent_failed"))
    );
    let error = user.run("careless", "x").await?.error.context("it fails")?;
    ensure!(error.message.contains("ZeroDivision"), "{error:?}");
    let error = user.run("wrong", "x").await?.error.context("it fails")?;
    ensure!(
        error.message.contains("TypeError") && error.message.contains("not made yet"),
        "{error:?}"
    );
    Ok(())
}

async fn again(user: &TestUser, thread: Option<ThreadId>, agent: &str, text: &str) -> Result<Run> {
    let run = user
        .client
        .run_start(thread, &start(agent, text), None)
        .await?;
    Ok(user.client.run_end(run.id).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_kept_in_its_thread_with_the_end_of_each_run() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "counter",
        "state = true\nsub_agents = [\"under\"]\n",
        "state['runs'] = state.get('runs', 0) + 1\n\
         if input['text'] == 'fail':\n    1 / 0\n\
         if input['text'] == 'large':\n    state['large'] = 'x' * 300000\n\
         if input['text'] == 'odd':\n    state = 7\n\
         {'runs': state['runs'], 'under': agent('under', 'x')['seen']}\n",
    )?;
    script(
        agents.path(),
        "under",
        "state = true\nlisted = false\n",
        "seen = state.get('seen', 0)\nstate['seen'] = seen + 10\n{'seen': seen}\n",
    )?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options.clone()).await?;
    let user = server.user().await?;
    let first = again(&user, None, "counter", "go").await?;
    assert_eq!(first.result, Some(json!({"runs": 1, "under": 0})));
    let thread = Some(first.thread_id);
    for (text, words) in [
        ("fail", "ZeroDivision"),
        ("large", "262144"),
        ("odd", "not subscriptable"),
    ] {
        let failed = again(&user, thread, "counter", text).await?;
        let error = failed.error.with_context(|| format!("{text} fails"))?;
        ensure!(
            error.code == ErrorCode::AgentFailed && error.message.contains(words),
            "{error:?}"
        );
    }
    // What failed has kept nothing, and neither has the sub-agent that had its result by then.
    let second = again(&user, thread, "counter", "go").await?;
    assert_eq!(second.result, Some(json!({"runs": 2, "under": 10})));
    // Neither another thread nor another user sees any of it.
    let elsewhere = again(&user, None, "counter", "go").await?;
    let stranger = server.user().await?;
    let other = again(&stranger, None, "counter", "go").await?;
    for run in [elsewhere, other] {
        assert_eq!(run.result, Some(json!({"runs": 1, "under": 0})));
    }
    // A new server on the same folder does.
    let token = user.client.token();
    let (data, _) = server.stop().await;
    let server = TestServer::start_on(data, options).await?;
    let client = netra_client::Client::new(server.url(), token)?;
    let user = TestUser { client, ..user };
    let third = again(&user, thread, "counter", "go").await?;
    assert_eq!(third.result, Some(json!({"runs": 3, "under": 20})));
    Ok(())
}

/// Agents of which one calls another twice at once, which counts, and asks a person where it is told to.
fn twice(agents: &Path) -> Result<()> {
    script(
        agents,
        "twice",
        "sub_agents = [\"under\"]\n",
        "first = 'ask' if input['text'] == 'ask' else 'go'\n\
         both = gather(call(agent, 'under', first), call(agent, 'under', 'go'))\n\
         {'seen': sorted([one['seen'] for one in both])}\n",
    )?;
    script(
        agents,
        "under",
        "state = true\nlisted = false\ntools = [\"consent\", \"time_now\"]\n",
        "seen = state.get('seen', 0)\n\
         consent(n=1) if input['text'] == 'ask' else time_now()\n\
         state['seen'] = seen + 10\n{'seen': seen}\n",
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_calls_at_once_of_an_agent_with_a_state_lose_no_update() -> Test {
    let agents = tempfile::tempdir()?;
    twice(agents.path())?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options.tool(TestTool::consent())).await?;
    let user = server.user().await?;
    let first = again(&user, None, "twice", "go").await?;
    assert_eq!(
        first.result,
        Some(json!({"seen": [0, 10]})),
        "{:?}",
        first.error
    );
    let second = again(&user, Some(first.thread_id), "twice", "go").await?;
    assert_eq!(second.result, Some(json!({"seen": [20, 30]})));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_for_a_person_goes_on_with_the_state_that_it_had_read() -> Test {
    let agents = tempfile::tempdir()?;
    twice(agents.path())?;
    let options = Options::new().agents(agents.path());
    let server = TestServer::start_with(options.tool(TestTool::consent())).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("twice", "ask").await?;
    approve(&user, &mut socket).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(
        run.result,
        Some(json!({"seen": [0, 10]})),
        "{:?}",
        run.error
    );
    let next = again(&user, Some(run.thread_id), "twice", "go").await?;
    assert_eq!(next.result, Some(json!({"seen": [20, 30]})));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_a_state_that_would_wait_for_itself_is_told_so() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "mirror",
        "state = true\nsub_agents = [\"mirror\"]\n",
        "try:\n    agent('mirror', 'x')\n    caught = None\n\
         except RuntimeError as error:\n    caught = str(error)\n{'caught': caught}\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let run = server.user().await?.run("mirror", "x").await?;
    let result = run.result.context("it goes on")?;
    ensure!(
        result["caught"]
            .as_str()
            .is_some_and(|words| words.contains("wait for itself")),
        "{result}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_asks_without_end_is_ended() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "thinker",
        "",
        "n = 0\nwhile True:\n    n += 1\n    think(str(n))\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("thinker", "x").await?;
    let error = run.error.context("it is ended")?;
    assert_eq!(error.code, ErrorCode::AgentFailed);
    ensure!(error.message.contains("more than 1000 times"), "{error:?}");
    Ok(())
}
