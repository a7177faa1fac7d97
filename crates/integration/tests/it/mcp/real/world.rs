//! A server with tool servers, and an agent that calls whatever tools it is told to.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{CALLER, ProcessOptions, TestProcess, TestUser, calls, soon, write_caller};
use netra_protocol::account::Role;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::tool::{ToolServer, ToolServerState};
use serde_json::Value;

use crate::mcp::real::installed::Server;
use crate::mcp::real::process;

/// The server, its data and its agents.
pub(crate) struct World {
    pub(crate) server: TestProcess,
    pub(crate) data: tempfile::TempDir,
    admin: TestUser,
    _agents: tempfile::TempDir,
}

impl World {
    /// With these tool servers, and an agent that may call these tools.
    pub(crate) async fn start(servers: &[Server], tools: &[&str]) -> Result<Self> {
        let (data, agents) = (tempfile::tempdir()?, tempfile::tempdir()?);
        write_caller(agents.path(), tools)?;
        let configuration = agents.path().join("netra.toml");
        let text: Vec<String> = servers.iter().map(Server::to_toml).collect();
        std::fs::write(&configuration, text.join("\n"))?;
        let options = ProcessOptions {
            arguments: vec![
                "--config".into(),
                configuration.display().to_string(),
                "--agents".into(),
                agents.path().display().to_string(),
            ],
            ..ProcessOptions::default()
        };
        let server = TestProcess::start_with(data.path(), options).await?;
        let admin = server.user_as("root", Role::Admin).await?;
        Ok(Self {
            admin,
            server,
            data,
            _agents: agents,
        })
    }

    /// A new user.
    pub(crate) async fn user(&self, name: &str) -> Result<TestUser> {
        self.server.user(name).await
    }

    /// What an admin sees of the tool server of this name.
    pub(crate) async fn shown(&self, name: &str) -> Result<ToolServer> {
        let all = self.admin.client.tool_servers().await?.items;
        let found = all.into_iter().find(|server| server.name == name);
        found.with_context(|| format!("there is no {name}"))
    }

    /// Waits until the tool server has told its tools.
    pub(crate) async fn ready(&self, name: &str) -> Result<ToolServer> {
        self.until(name, ToolServerState::Ready).await
    }

    /// Waits until an admin sees it in this state.
    pub(crate) async fn until(&self, name: &str, state: ToolServerState) -> Result<ToolServer> {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        soon(&format!("{name} to be {state:?}"), async {
            loop {
                looks.tick().await;
                let shown = self.shown(name).await?;
                if shown.state == state {
                    return Ok(shown);
                }
                ensure!(shown.state == ToolServerState::Starting, "{shown:?}");
            }
        })
        .await
    }

    /// The processes below the server whose command line has this word, once there are so many: the one that was
    /// asked for the tools may still be about to end.
    pub(crate) async fn instances(&self, word: &str, count: usize) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let what = format!("{count} processes of {word}");
        process::until_so(&what, || {
            found = self.processes(word)?;
            Ok(found.len() == count)
        })
        .await?;
        Ok(found)
    }

    /// The processes below the server whose command line has this word.
    pub(crate) fn processes(&self, word: &str) -> Result<Vec<u32>> {
        let server = self.server.pid().context("the server runs")?;
        process::descendants(server, word)
    }
}

/// What came of a run that made calls.
pub(crate) fn said(run: Run) -> Result<Vec<Value>> {
    ensure!(
        run.status == RunStatus::Completed,
        "{:?}: {:?}",
        run.status,
        run.error
    );
    match run.result {
        Some(Value::Array(said)) => Ok(said),
        other => anyhow::bail!("the agent gave {other:?}"),
    }
}

/// The calls of one run, and what came of each.
pub(crate) async fn call_all(user: &TestUser, wanted: &[(&str, Value)]) -> Result<Vec<Value>> {
    said(user.run(CALLER, calls(wanted.iter().cloned())).await?)
}

/// One call that must give a result.
pub(crate) async fn call(user: &TestUser, tool: &str, arguments: Value) -> Result<Value> {
    let said = call_all(user, &[(tool, arguments)]).await?;
    let result = said.into_iter().next().context("one call, one result")?;
    ensure!(result.get("failed").is_none(), "{tool}: {result}");
    Ok(result)
}

/// One call that must fail; what the agent is told of it.
pub(crate) async fn failure(user: &TestUser, tool: &str, arguments: Value) -> Result<String> {
    let said = call_all(user, &[(tool, arguments)]).await?;
    let failed = said.first().and_then(|result| result["failed"].as_str());
    Ok(failed
        .with_context(|| format!("{tool} has not failed: {said:?}"))?
        .to_owned())
}

/// The names of its tools in the order of the alphabet.
pub(crate) fn tools_of(shown: &ToolServer) -> Vec<&str> {
    let mut names: Vec<&str> = shown.tools.iter().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A text of a result.
pub(crate) fn text(result: &Value) -> &str {
    result["text"].as_str().unwrap_or_default()
}
