//! The reference server over streamable HTTP, started by its own command.

use std::net::TcpListener;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_integration::{CALLER, calls, soon};
use netra_protocol::tool::ToolServerTransport;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Test;
use crate::expect::{until, until_end};
use crate::mcp::real::everything::{TOOLS, call_each, offers_all};
use crate::mcp::real::installed::{Installed, Server};
use crate::mcp::real::world::{World, call, failure};

const ECHO: &str = "everything__echo";
const LONG: &str = "everything__trigger_long_running_operation";

/// The server as somebody else would run it.
struct Elsewhere {
    child: Child,
    port: u16,
}

impl Elsewhere {
    async fn start() -> Result<Self> {
        // It cannot be told to take any port, so one is picked that is free now.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Self::start_on(port).await
    }

    async fn start_on(port: u16) -> Result<Self> {
        let installed = Installed::find()?;
        let mut child = Command::new(installed.node()?)
            .arg(installed.script("server-everything"))
            .arg("streamableHttp")
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stderr = child.stderr.take().context("it was asked for")?;
        let mut lines = BufReader::new(stderr).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("listening on port") {
                    return Ok(());
                }
            }
            anyhow::bail!("it has ended")
        };
        soon("the server over HTTP", ready).await?;
        Ok(Self { child, port })
    }

    fn configured(&self) -> Server {
        let url = format!("http://127.0.0.1:{}/mcp", self.port);
        Server::new("everything").with("url", url)
    }

    async fn stop(mut self) -> Result<u16> {
        self.child.kill().await?;
        Ok(self.port)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_http() -> Test {
    let elsewhere = Elsewhere::start().await?;
    let world = World::start(&[elsewhere.configured()], &TOOLS).await?;
    let shown = world.ready("everything").await?;
    assert_eq!(shown.transport, ToolServerTransport::Http);
    offers_all(&shown)?;
    let user = world.user("ada").await?;
    call_each(&user).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_leaves_the_connection_usable() -> Test {
    let elsewhere = Elsewhere::start().await?;
    let world = World::start(&[elsewhere.configured()], &[ECHO, LONG]).await?;
    world.ready("everything").await?;
    let user = world.user("ada").await?;
    let mut socket = user.socket().await?;
    let wanted = calls([(LONG, json!({"duration": 600, "steps": 6000}))]);
    let run = user.start(CALLER, wanted).await?;
    until(&mut socket, "tool_progress").await?;
    user.client.run_cancel(run.id).await?;
    until_end(&mut socket, run.id).await?;
    call(&user, ECHO, json!({"message": "here"})).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_fails_its_calls_and_one_that_is_back_is_used_again() -> Test {
    let elsewhere = Elsewhere::start().await?;
    let world = World::start(&[elsewhere.configured()], &[ECHO]).await?;
    world.ready("everything").await?;
    let user = world.user("ada").await?;
    call(&user, ECHO, json!({"message": "here"})).await?;
    let port = elsewhere.stop().await?;
    let told = failure(&user, ECHO, json!({"message": "gone"})).await?;
    ensure!(
        told.starts_with("tool_failed: ") && told.contains("everything"),
        "{told}"
    );
    let _back = Elsewhere::start_on(port).await?;
    // How often a server that fails is tried again is bounded, so it may take a moment.
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(200));
    soon("an answer", async {
        loop {
            tries.tick().await;
            if call(&user, ECHO, json!({"message": "here"})).await.is_ok() {
                break;
            }
        }
    })
    .await;
    Ok(())
}
