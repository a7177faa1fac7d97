//! A collector that is not there, or takes nothing, holds nobody up.

use std::time::{Duration, Instant};

use anyhow::ensure;
use netra_integration::{FakeCollector, Options, TestServer};
use netra_protocol::run::RunStatus;
use tokio::net::TcpListener;

use super::traced;
use crate::Test;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_slows_no_run_and_lets_the_server_stop() -> Test {
    // It takes connections, and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let options = Options::new().set("telemetry.endpoint", endpoint);
    let server = TestServer::start_with(options).await?;
    let user = server.user().await?;
    for _ in 0..20 {
        let run = user.run("echo", "go").await?;
        assert_eq!(run.status, RunStatus::Completed);
    }
    let asked = Instant::now();
    let (_, left) = server.stop().await;
    assert_eq!(left, 0);
    let took = asked.elapsed();
    ensure!(took < Duration::from_secs(8), "stopping took {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopping_server_has_told_nobody_yet_it_tells_then() -> Test {
    let collector = FakeCollector::start().await?;
    let server = TestServer::start_with(traced(Options::new(), &collector)).await?;
    server.user().await?.run("echo", "go").await?;
    server.stop().await;
    let collected = collector.now();
    ensure!(collected.spans.iter().any(|span| span.name == "run echo"));
    ensure!(!collected.metrics.is_empty(), "the last metrics come too");
    Ok(())
}
