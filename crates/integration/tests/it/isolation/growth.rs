//! Whether runs leave anything behind in the memory of the server.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Method};
use netra_integration::{FakeModel, Options, ProcessOptions, Reply, TestProcess, TestUser, start};
use netra_protocol::ErrorCode;
use netra_protocol::isolation::NodeHoldings;
use netra_protocol::run::{RunStatus, StartRun};

use super::{admin_of, agents, until_at_rest};
use crate::Test;
use crate::expect::with_model;

/// 32 bytes for each of two thousand runs are less than the smallest block that one could leave behind.
const SLACK: u64 = 64 * 1024;

/// Runs of `echo`, a few at a time.
async fn echo(user: &TestUser, runs: usize) -> Result<()> {
    for _ in 0..runs / 5 {
        let five = (0..5).map(|_| user.run("echo", "hello"));
        for run in futures::future::try_join_all(five).await? {
            ensure!(run.status == RunStatus::Completed);
        }
    }
    Ok(())
}

/// The least of a few looks: buffers come and go, what was left behind stays. What histograms
/// have collected is folded by whoever reads them.
async fn least(admin: &Client, of: fn(&NodeHoldings) -> Option<u64>) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..10 {
        let metrics = admin.request(Method::GET, "/api/metrics");
        admin.send(metrics).await?;
        let seen = until_at_rest(admin).await?;
        least = least.min(of(&seen.node).context("the server counts")?);
    }
    Ok(least)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_runs_leave_the_heap_where_it_was() -> Test {
    let data = tempfile::tempdir()?;
    let server = start_with(data.path(), Options::new()).await?;
    let admin = admin_of(&server, data.path()).await?;
    let user = server.user("ada").await?;
    echo(&user, 500).await?;
    let before = least(&admin, |node| node.heap_bytes).await?;
    echo(&user, 2_000).await?;
    let after = least(&admin, |node| node.heap_bytes).await?;
    ensure!(after < before + SLACK, "{before} bytes, then {after}");
    Ok(())
}

async fn start_with(data: &std::path::Path, options: Options) -> Result<TestProcess> {
    let options = options
        .set("limits.requests_per_minute", 1_000_000)
        // Each connection to PostgreSQL has prepared statements of its own, and a new one may come at any time.
        .set("database.connections", 2);
    let options = ProcessOptions {
        environment: options.environment(),
        ..ProcessOptions::default()
    };
    TestProcess::start_with(data, options).await
}

/// By what runs end, and how many: of each so many that 650 bytes that one leaves behind are seen.
const ENDS: [(&str, usize); 5] = [
    ("completes", 100),
    ("raises", 100),
    ("cancelled", 100),
    ("timed out", 100),
    ("eats", 40),
];

/// A run that ends in this way.
async fn one(user: &TestUser, model: &FakeModel, end: &str) -> Result<Option<ErrorCode>> {
    let run = match end {
        "cancelled" => {
            let run = user.start("assistant", "x").await?;
            model.until_open(1).await?;
            user.client.run_cancel(run.id).await?;
            user.client.run_end(run.id).await?
        }
        "timed out" => {
            let wish = StartRun {
                timeout_ms: Some(50),
                ..start("assistant", "x")
            };
            let run = user.client.run_start(None, &wish, None).await?;
            user.client.run_end(run.id).await?
        }
        agent => user.run(agent, "x").await?,
    };
    Ok(run.error.map(|error| error.code))
}

/// What an account holds when it is closed is the server's own until it is freed: so it is seen there, whatever it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ends_many_runs_nothing_of_theirs_becomes_the_servers_own() -> Test {
    let (data, folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    agents(folder.path())?;
    let model = FakeModel::start(|_| Reply::Hang("thinking".into())).await?;
    let options = with_model(&model)
        .set("agents.dir", folder.path().display())
        .set("limits.memory_mib", 256);
    let server = start_with(data.path(), options).await?;
    let admin = admin_of(&server, data.path()).await?;
    let user = server.user("ada").await?;
    for (end, runs) in ENDS {
        let wanted = match end {
            "completes" => None,
            "raises" => Some(ErrorCode::AgentFailed),
            "cancelled" => Some(ErrorCode::Cancelled),
            "timed out" => Some(ErrorCode::DeadlineExceeded),
            _ => Some(ErrorCode::MemoryLimitExceeded),
        };
        // Tables and caches have their size after the first few.
        for _ in 0..runs / 4 {
            assert_eq!(one(&user, &model, end).await?, wanted, "{end}");
        }
        let before = least(&admin, |node| node.system_bytes).await?;
        for _ in 0..runs {
            one(&user, &model, end).await?;
        }
        let after = least(&admin, |node| node.system_bytes).await?;
        ensure!(
            after < before + SLACK,
            "{end}: {before} bytes, then {after}"
        );
    }
    Ok(())
}
