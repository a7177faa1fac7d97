//! For those who write agents: new ones, types, checks, files that change while the server runs, and
//! agents in Rust.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use netra_engine::{Agent, AgentCall, AgentSpec, Stopped, Work};
use netra_integration::{
    FakeEndpoint, Options, ProcessOptions, Said, TestProcess, TestServer, output, soon, text_of,
};
use netra_protocol::ErrorCode;
use netra_protocol::run::RunStatus;
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::Test;
use crate::expect::{approve, until_logged, with_model};
use crate::http_agents::agent;
use netra_integration::script;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_agent_of_each_kind_passes_the_check_and_runs() -> Test {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("agents");
    let shown = dir.display().to_string();
    for kind in ["script", "model", "http"] {
        let made = output(
            &["agents", "new", kind, "--kind", kind, "--agents", &shown],
            "",
        )
        .await?;
        ensure!(made.status.success(), "{made:?}");
    }
    let again = output(&["agents", "new", "script", "--agents", &shown], "").await?;
    ensure!(!again.status.success(), "nothing is written over");
    for wrong in ["Script", "../up", "1st"] {
        let refused = output(&["agents", "new", wrong, "--agents", &shown], "").await?;
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    let checked = output(&["agents", "check", "--agents", &shown], "").await?;
    ensure!(checked.status.success(), "{checked:?}");

    // The endpoint, on a free port.
    let mut endpoint = Command::new("python3")
        .arg(dir.join("http/endpoint.py"))
        .arg("0")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("python3")?;
    let stdout = endpoint.stdout.take().context("it was asked for")?;
    let line = soon("the endpoint", BufReader::new(stdout).lines().next_line()).await?;
    let url = line.as_deref().and_then(|line| line.strip_prefix("ready "));
    let manifest = dir.join("http/agent.toml");
    let text = std::fs::read_to_string(&manifest)?;
    let text = text.replace(
        "http://127.0.0.1:8001/",
        url.context("it says where it is")?,
    );
    std::fs::write(&manifest, text)?;

    let model = netra_integration::FakeModel::start(|_| {
        netra_integration::Reply::Text(vec!["It is late.".into()])
    })
    .await?;
    let options = with_model(&model).agents(&dir);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    for (kind, words) in [
        ("script", "You have asked 1 times."),
        ("model", "It is late."),
        ("http", "You said: what time is it?"),
    ] {
        let run = user.run(kind, "what time is it?").await?;
        assert_eq!(run.status, RunStatus::Completed, "{kind}: {:?}", run.error);
        let messages = user.client.messages(run.thread_id, None, None).await?.items;
        let said = text_of(&messages[messages.len() - 1]);
        ensure!(said.contains(words), "{kind}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_cannot_be_read_is_found_by_the_check() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "typo", "", "x = 1\nif x\n    y = 2\n")?;
    script(agents.path(), "fine", "", "1 / 0\n")?;
    let shown = agents.path().display().to_string();
    let checked = output(&["agents", "check", "--agents", &shown], "").await?;
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let said = String::from_utf8(checked.stdout)?;
    ensure!(said.contains("typo/agent.py:2: SyntaxError"), "{said}");
    ensure!(!said.contains("fine"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stubs_say_what_a_script_finds_set() -> Test {
    let agents = tempfile::tempdir()?;
    let manifest =
        "state = true\ntools = [\"read_file\", \"time_now\"]\nsub_agents = [\"other\"]\n";
    script(agents.path(), "typed", manifest, "1\n")?;
    script(agents.path(), "other", "", "1\n")?;
    let shown = agents.path().display().to_string();
    let written = output(&["agents", "stubs", "--agents", &shown], "").await?;
    ensure!(written.status.success(), "{written:?}");
    let stub = std::fs::read_to_string(agents.path().join("typed/__builtins__.pyi"))?;
    for line in [
        "def time_now() -> Any:",
        "def read_file(*, file: str",
        "def agent(name: Literal[\"other\"], input: str | dict[str, Any]) -> Any:",
        "input: _Input",
        "state: dict[str, Any]",
        "def gather(*calls: _Call[_R], return_errors: bool = False) -> list[_R]:",
    ] {
        ensure!(stub.contains(line), "{line} is not in\n{stub}");
    }
    let other = std::fs::read_to_string(agents.path().join("other/__builtins__.pyi"))?;
    ensure!(
        !other.contains("state:") && !other.contains("def agent("),
        "{other}"
    );
    // They are no files of the agent: its version stays the same.
    let checked = output(&["agents", "check", "--agents", &shown], "").await?;
    ensure!(checked.status.success(), "{checked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_are_for_new_runs_and_broken_ones_for_nobody() -> Test {
    // The first turn is held until the agent's files have changed.
    let (release, held) = tokio::sync::watch::channel(false);
    let endpoint = FakeEndpoint::start_later(move |_| {
        let mut held = held.clone();
        async move {
            held.wait_for(|open| *open).await.ok();
            Said::Step(json!({"type": "result", "result": "done"}))
        }
    })
    .await?;
    let agents = tempfile::tempdir()?;
    agent(agents.path(), "slow", endpoint.url(), "listed = false\n")?;
    let write = |version: u32, more: &str| {
        let manifest = format!("sub_agents = [\"slow\"]\n{more}");
        let code = format!("agent('slow', 'x')\n{{'version': {version}}}\n");
        script(agents.path(), "main", &manifest, &code)
    };
    write(1, "")?;
    let data = tempfile::tempdir()?;
    let options = ProcessOptions {
        arguments: vec!["--agents".into(), agents.path().display().to_string()],
        ..ProcessOptions::default()
    };
    let server = TestProcess::start_with(data.path(), options).await?;
    let user = server.user("u").await?;
    let old = user.start("main", "x").await?;
    endpoint.until_seen(1).await?;

    write(2, "")?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "runs begin with the agent's new files").await?;
    write(3, "tools = [\"fly\"]\n")?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "the agent's new files are wrong").await?;
    let listed = user.client.agent("main").await?;
    let problem = listed.problem.context("it says what is wrong")?;
    ensure!(
        listed.ready && problem.contains("there is no tool named"),
        "{problem}"
    );

    release.send(true).ok();
    let old = user.client.run_end(old.id).await?;
    assert_eq!(old.result, Some(json!({"version": 1})));
    let new = user.run("main", "x").await?;
    assert_eq!(new.result, Some(json!({"version": 2})));

    write(4, "")?;
    script(agents.path(), "added", "", "{'new': True}\n")?;
    server.signal(Signal::HUP)?;
    until_logged(&server, "agent.name=\"added\"").await?;
    assert_eq!(
        user.run("main", "x").await?.result,
        Some(json!({"version": 4}))
    );
    assert_eq!(
        user.run("added", "x").await?.result,
        Some(json!({"new": true}))
    );
    ensure!(user.client.agent("main").await?.problem.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_folder_needs_no_signal() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "main", "", "{'version': 1}\n")?;
    let options = Options::new()
        .agents(agents.path())
        .set("agents.watch", true)
        // It is asked again and again whether the agent is there.
        .set("limits.requests_per_minute", 10_000_000);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    assert_eq!(
        user.run("main", "x").await?.result,
        Some(json!({"version": 1}))
    );
    script(agents.path(), "added", "", "{'new': True}\n")?;
    let listed = async {
        while user.client.agent("added").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the new agent", listed).await;
    assert_eq!(
        user.run("added", "x").await?.result,
        Some(json!({"new": true}))
    );
    Ok(())
}

/// An agent in Rust, which does what the others do.
struct Native;

#[async_trait]
impl Agent for Native {
    fn name(&self) -> &str {
        "native"
    }

    fn spec(&self) -> AgentSpec {
        AgentSpec {
            description: "Of a test.".to_owned(),
            tools: vec!["time_now".to_owned()],
            sub_agents: vec!["part".to_owned()],
            ..AgentSpec::default()
        }
    }

    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
        work.think("beginning", Some(0.1)).await?;
        let clock = work.tool("time_now", json!({})).await?;
        let part = |text: &str| AgentCall::Agent {
            name: "part".to_owned(),
            input: json!(text),
        };
        let fetch = AgentCall::Tool {
            name: "http_fetch".to_owned(),
            arguments: Map::new(),
        };
        let parts = work.together(vec![part("a"), part("b"), fetch]).await?;
        let parts: Vec<_> = parts
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|failure| json!(failure.code)))
            .collect();
        let caught = match work.agent("nobody", json!("x")).await {
            Err(stopped) if stopped.failure().is_some() => true,
            Err(stopped) => return Err(stopped),
            Ok(_) => false,
        };
        let text = format!("you said: {}", work.input()["text"].as_str().unwrap_or("?"));
        Ok(json!({ "text": text, "zone": clock["time_zone"], "parts": parts, "caught": caught }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_rust_is_an_agent_as_any_other() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "part",
        "listed = false\n",
        "{'said': input['text']}\n",
    )?;
    let options = Options::new().agents(agents.path()).native(Native);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let listed = user.client.agent("native").await?;
    assert_eq!(listed.description, "Of a test.");
    let run = user.run("native", "hello").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.context("it has a result")?;
    assert_eq!(result["parts"][1], json!({"said": "b"}));
    assert_eq!(result["parts"][2], json!(ErrorCode::ToolDenied));
    assert_eq!(
        (&result["zone"], &result["caught"]),
        (&json!("UTC"), &json!(true))
    );
    let messages = user.client.messages(run.thread_id, None, None).await?.items;
    assert_eq!(text_of(&messages[1]), "you said: hello");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_in_rust_goes_on_after_a_person_was_asked() -> Test {
    struct Asking;

    #[async_trait]
    impl Agent for Asking {
        fn name(&self) -> &str {
            "asking"
        }

        fn spec(&self) -> AgentSpec {
            AgentSpec {
                tools: vec!["consent".to_owned(), "time_now".to_owned()],
                ..AgentSpec::default()
            }
        }

        async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
            let before = work.tool("time_now", json!({})).await?;
            let said = work.tool("consent", json!({"n": 1})).await?;
            Ok(json!({ "before": before["now"], "said": said["n"] }))
        }
    }

    let options = Options::new()
        .native(Asking)
        .tool(netra_integration::TestTool::consent());
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let run = user.start("asking", "x").await?;
    approve(&user, &mut socket).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.result.context("it goes on")?["said"], 1);
    assert_eq!(run.usage.tool_calls, 2);
    Ok(())
}
