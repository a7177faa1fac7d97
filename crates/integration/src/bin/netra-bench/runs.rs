//! `runs`: how many small runs a server ends, and how long one takes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use netra_client::Client;
use netra_integration::{config_beside, is_on_postgres, script, start};
use netra_protocol::run::RunStatus;
use serde::Serialize;

use crate::server::{self, REQUESTS_PER_MINUTE};
use crate::{Database, note, say};

#[derive(Debug, Serialize)]
struct Measured {
    clients: usize,
    runs: u64,
    seconds: f64,
    runs_per_second: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// A run of it makes one call of a tool, by a worker process that carries out its code.
const WITH_TOOL: &str = "clock";

/// Measures `echo`, or an agent that calls a tool once.
pub(crate) async fn runs(
    clients: &[usize],
    time: Duration,
    database: Database,
    with_tool: bool,
    json: bool,
) -> Result<()> {
    ensure!(
        is_on_postgres() == (database == Database::Postgres),
        "`cargo xtask bench runs --database postgres` starts a PostgreSQL, and measures there"
    );
    let data = tempfile::tempdir()?;
    // A database that has to be made first is made here: it is no part of a start.
    config_beside(data.path())?;
    let agents = tempfile::tempdir()?;
    let of_tool = "tools = [\"time_now\"]\n";
    script(agents.path(), WITH_TOOL, of_tool, "time_now()\n")?;
    let agent = if with_tool { WITH_TOOL } else { "echo" };
    let began = Instant::now();
    let folder = agents.path().display().to_string();
    let server = server::start(data.path(), &[("AGENTS__DIR", &folder)]).await?;
    let start_ms = began.elapsed().as_secs_f64() * 1000.0;
    let idle = server::memory_mib(server.pid())?;
    note(&format!(
        "on {database:?}: start to ready {start_ms:.0} ms, idle memory {idle:.1} MiB\n\
         {agent} over REST, POST then wait, one user per client, durable, {} s each; \
         limits.requests_per_minute was raised to {REQUESTS_PER_MINUTE} for this",
        time.as_secs()
    ));
    let users = server::users(
        &server,
        data.path(),
        clients.iter().copied().max().unwrap_or(1),
    )
    .await?;
    let mut all = Vec::new();
    for &count in clients {
        let measured = measure(&users[..count], agent, time).await?;
        if !json {
            say(&format!(
                "{:>4} clients: {:>8.0} runs/s   p50 {:>7.2} ms   p90 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms",
                count,
                measured.runs_per_second,
                measured.p50_ms,
                measured.p90_ms,
                measured.p99_ms,
                measured.max_ms
            ));
        }
        all.push(measured);
    }
    if json {
        let report = serde_json::json!({
            "benchmark": "runs",
            "database": database,
            "agent": agent,
            "start_to_ready_ms": start_ms,
            "idle_memory_mib": idle,
            "requests_per_minute": REQUESTS_PER_MINUTE,
            "results": all,
        });
        say(&serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

async fn measure(clients: &[Client], agent: &str, time: Duration) -> Result<Measured> {
    // Connections and caches are not what is measured.
    futures::future::try_join_all(clients.iter().map(|client| one_run(client, agent))).await?;
    let began = Instant::now();
    let each = clients.iter().map(|client| async move {
        let mut times = Histogram::<u64>::new(3)?;
        while began.elapsed() < time {
            let start = Instant::now();
            one_run(client, agent).await?;
            times.record(u64::try_from(start.elapsed().as_micros())?)?;
        }
        anyhow::Ok(times)
    });
    let mut times = Histogram::<u64>::new(3)?;
    for part in futures::future::try_join_all(each).await? {
        times.add(part)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let at = |percent: f64| times.value_at_quantile(percent / 100.0) as f64 / 1000.0;
    Ok(Measured {
        clients: clients.len(),
        runs: times.len(),
        seconds,
        runs_per_second: times.len() as f64 / seconds,
        p50_ms: at(50.0),
        p90_ms: at(90.0),
        p99_ms: at(99.0),
        max_ms: times.max() as f64 / 1000.0,
    })
}

pub(crate) async fn one_run(client: &Client, agent: &str) -> Result<()> {
    let run = client.run_start(None, &start(agent, "hello"), None).await?;
    let run = client.run_end(run.id).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    Ok(())
}
