//! Agents as files: scripts that call tools and agents, and files that are wrong.

use anyhow::ensure;
use netra_integration::{Options, TestServer, script};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;

use crate::Test;
use crate::expect::{names, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_thinks_calls_a_tool_and_another_agent() -> Test {
    let agents = tempfile::tempdir()?;
    script(
        agents.path(),
        "boss",
        "tools = [\"time_now\"]\nsub_agents = [\"worker\"]\n",
        "think('asking the clock')\nclock = time_now()\npart = agent('worker', {'text': input['text']})\n\
         {'said': part['upper'], 'clock': len(clock) > 0}\n",
    )?;
    script(
        agents.path(),
        "worker",
        "listed = false\n",
        "{'upper': input['text'].upper()}\n",
    )?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("boss", "hello").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(
        run.result,
        Some(serde_json::json!({"said": "HELLO", "clock": true}))
    );
    assert_eq!(run.usage.tool_calls, 1);
    let events = user.events(run.id).await?;
    let names = names(&events);
    assert_eq!(
        names
            .iter()
            .filter(|name| **name == "agent_started")
            .count(),
        2
    );
    assert_eq!(
        names
            .iter()
            .filter(|name| **name == "agent_completed")
            .count(),
        2
    );
    let nested = events.iter().any(|received| {
        matches!(&received.event.event.kind,
            EventKind::AgentStarted { agent, parent_step: Some(_), .. } if agent == "worker")
    });
    ensure!(
        nested,
        "the sub-agent names the step that called it: {names:?}"
    );
    // What is not listed is for agents, not for people.
    refused(user.start("worker", "x").await, 404, ErrorCode::NotFound)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_is_not_on_the_agents_list_is_refused() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "sly", "", "time_now()\n")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("sly", "x").await?;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(run.usage.tool_calls, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_agent_is_listed_with_file_and_line_and_stops_nothing() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "typo", "tools = [\"no_such_tool\"]\n", "1\n")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let typo = user.client.agent("typo").await?;
    let problem = typo.problem.unwrap_or_default();
    ensure!(!typo.ready && problem.contains("agent.toml:4"), "{problem}");
    refused(user.start("typo", "x").await, 422, ErrorCode::AgentNotReady)?;
    assert_eq!(
        user.run("echo", "still here").await?.status,
        RunStatus::Completed
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_a_script_names_its_line() -> Test {
    let agents = tempfile::tempdir()?;
    script(agents.path(), "fails", "", "a = 1\nb = a / 0\nb\n")?;
    let server = TestServer::start_with(Options::new().agents(agents.path())).await?;
    let user = server.user().await?;
    let run = user.run("fails", "x").await?;
    let error = run
        .error
        .unwrap_or_else(|| unreachable!("it divides by zero"));
    assert_eq!(error.code, ErrorCode::AgentFailed);
    let told = format!("{} {}", error.message, error.details.unwrap_or_default());
    ensure!(
        told.contains("ZeroDivisionError") && told.contains('2'),
        "{told}"
    );
    Ok(())
}
