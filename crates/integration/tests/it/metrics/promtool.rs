//! The metrics of a server that has worked, before Prometheus' own judge.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use netra_client::Method;
use netra_integration::{FakeModel, Reply, TestServer};
use netra_protocol::account::Role;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::Test;
use crate::expect::with_model;

/// Names the program.
const VARIABLE: &str = "NETRA_PROMTOOL";

/// Fails where it is not there: a test does not install.
fn promtool() -> Result<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a part of the gate says where it has put it"
    )]
    let program = std::env::var_os(VARIABLE).map(PathBuf::from);
    program.with_context(|| {
        format!("{VARIABLE} is not set: `cargo xtask test monitoring` fetches it and sets it")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_objects_to_nothing_of_a_server_that_has_worked() -> Test {
    let model = FakeModel::start(|_| Reply::Text(vec!["hello".into()])).await?;
    let server = TestServer::start_with(with_model(&model)).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let _socket = admin.socket().await?;
    for agent in ["echo", "assistant"] {
        admin.run(agent, "hello").await?;
    }
    let request = admin.client.request(Method::GET, "/api/metrics");
    let text = admin.client.send(request).await?.text().await?;
    ensure!(text.contains("gen_ai_client_token_usage_bucket"), "{text}");
    let mut judge = Command::new(promtool()?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = judge.stdin.take().context("a pipe")?;
    stdin.write_all(text.as_bytes()).await?;
    drop(stdin);
    let judged = judge.wait_with_output().await?;
    let said = [judged.stdout, judged.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // Tests of the recorder, in the same process, count under a name that is not described.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("netra_test_total"))
        .collect();
    ensure!(ours.is_empty(), "{ours:?}");
    Ok(())
}
