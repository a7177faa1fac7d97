//! What is wrong with a tool server: said at the start where it can be known then, shown to admins where not.

use anyhow::{Result, ensure};
use netra_integration::{TestProcess, output};
use netra_protocol::tool::ToolServerState;
use serde_json::json;

use crate::Test;
use crate::mcp::real::installed::{Installed, Server};
use crate::mcp::real::world::{World, call, failure};

/// What `netra serve` says when it does not start.
async fn refusal(text: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    std::fs::write(&file, text)?;
    let (file, data) = (file.display().to_string(), folder.path().join("data"));
    let data = data.display().to_string();
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        &file,
        "--data",
        &data,
    ];
    let ended = output(&args, "").await?;
    ensure!(!ended.status.success(), "it has started: {text}");
    Ok(String::from_utf8(ended.stderr)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_wrong_is_refused_by_name() -> Test {
    for (text, named) in [
        ("[mcp.servers.a]\ncommand = \"/bin/true\"\nfoo = 1\n", "foo"),
        (
            "[mcp.servers.a]\ncommand = \"/bin/true\"\nscope = \"all\"\n",
            "scope",
        ),
        (
            "[mcp.servers.a]\ncommand = \"/bin/true\"\nrisk = \"none\"\n",
            "none",
        ),
        (
            "[mcp.servers.a]\ncommand = \"/bin/true\"\nurl = \"http://127.0.0.1/\"\n",
            "url",
        ),
        ("[mcp.servers.a]\n", "a"),
        ("[mcp.servers.\"A b\"]\ncommand = \"/bin/true\"\n", "A b"),
        ("[mcp.servers.a]\nurl = \"ftp://example.org/\"\n", "url"),
        (
            "[mcp.servers.a]\ncommand = \"/bin/true\"\nenv_from = [\"NETRA_NO_SUCH_VARIABLE\"]\n",
            "NETRA_NO_SUCH_VARIABLE",
        ),
    ] {
        let told = refusal(text).await?;
        ensure!(
            told.contains(named) && told.contains("mcp"),
            "{text}: {told}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_answer_is_away_and_keeps_nobody_from_working() -> Test {
    let good = Installed::find()?.everything()?;
    let servers = [
        good,
        // It ends at once, without a word.
        Server::new("mute").with("command", "/bin/false"),
        // It never says anything.
        Server::new("slow")
            .with("command", "/bin/sleep")
            .with("args", ["600"])
            .with("start_ms", 300),
        Server::new("nobody").with("url", "http://127.0.0.1:1/mcp"),
    ];
    let tools = ["everything__echo", "mute__x", "slow__x", "nobody__x"];
    let world = World::start(&servers, &tools).await?;
    for away in ["mute", "slow", "nobody"] {
        let shown = world.until(away, ToolServerState::Away).await?;
        let problem = shown.problem.clone().unwrap_or_default();
        ensure!(!problem.is_empty() && shown.tools.is_empty(), "{shown:?}");
        let user = world.user(&format!("user-of-{away}")).await?;
        let told = failure(&user, &format!("{away}__x"), json!({})).await?;
        ensure!(told.contains(&format!("{away} is away")), "{told}");
    }
    world.ready("everything").await?;
    let user = world.user("ada").await?;
    call(&user, "everything__echo", json!({"message": "here"})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_is_said() -> Test {
    let text = "[mcp.servers.a]\ncommand = \"/no/such/program\"\n";
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("netra.toml");
    std::fs::write(&file, text)?;
    let options = netra_integration::ProcessOptions {
        arguments: vec!["--config".into(), file.display().to_string()],
        ..Default::default()
    };
    let started = TestProcess::start_with(&folder.path().join("data"), options).await;
    let told = match started {
        // Refused at once.
        Err(error) => format!("{error:#}"),
        Ok(_) => {
            let server = Server::new("a").with("command", "/no/such/program");
            let world = World::start(&[server], &[]).await?;
            let shown = world.until("a", ToolServerState::Away).await?;
            shown.problem.unwrap_or_default()
        }
    };
    ensure!(told.contains("/no/such/program"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_narrows_what_a_server_offers() -> Test {
    let server = Installed::find()?.everything()?;
    let server = server.with(
        "tools",
        json!({
            "get_env": {"offered": false},
            "get_sum": {"permission": "system_management", "risk": "high"},
            "echo": {"needs_approval": true},
        }),
    );
    let tools = [
        "everything__echo",
        "everything__get_env",
        "everything__get_sum",
    ];
    let world = World::start(&[server], &tools).await?;
    let shown = world.ready("everything").await?;
    ensure!(
        !shown.tools.iter().any(|tool| tool.contains("get_env")),
        "{shown:?}"
    );
    let user = world.user("ada").await?;
    let listed = user.client.tools().await?.items;
    let tool = |name: &str| listed.iter().find(|tool| tool.name == name);
    ensure!(tool("everything__get_env").is_none());
    ensure!(tool("everything__get_sum").is_some_and(|sum| !sum.allowed));
    ensure!(tool("everything__echo").is_some_and(|echo| echo.needs_approval));
    for denied in ["everything__get_env", "everything__get_sum"] {
        let told = failure(&user, denied, json!({"a": 1, "b": 2})).await?;
        ensure!(told.starts_with("tool_denied: "), "{told}");
    }
    Ok(())
}
