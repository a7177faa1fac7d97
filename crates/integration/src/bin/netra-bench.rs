//! Benchmarks over the public contract, against the server's own binary.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;
use netra_client::Client;
use netra_integration::{ProcessOptions, TestProcess, start};
use netra_protocol::run::RunStatus;
use serde::Serialize;

/// The rate limit would otherwise be what is measured.
const REQUESTS_PER_MINUTE: &str = "1000000000";

#[derive(Debug, Parser)]
#[command(name = "netra-bench", about = "Benchmarks of the Netra server")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs of `echo`, created over REST and awaited, signed in, durable.
    Runs {
        /// How many clients at the same time; each is a user of its own.
        #[arg(long, value_delimiter = ',', default_value = "1,10,50,200")]
        clients: Vec<usize>,
        /// How long to measure each.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

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

fn main() -> ExitCode {
    let Command::Runs {
        clients,
        seconds,
        json,
    } = Cli::parse().command;
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(runs(&clients, Duration::from_secs(seconds), json)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("netra-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a benchmark's result is what it prints"
)]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "what is not the result")]
fn note(text: &str) {
    eprintln!("{text}");
}

async fn runs(clients: &[usize], time: Duration, json: bool) -> Result<()> {
    let data = tempfile::tempdir()?;
    let options = ProcessOptions {
        environment: vec![
            (
                "NETRA__LIMITS__REQUESTS_PER_MINUTE".into(),
                REQUESTS_PER_MINUTE.into(),
            ),
            ("NETRA__LOG__LEVEL".into(), "warn".into()),
        ],
        ..ProcessOptions::default()
    };
    let began = Instant::now();
    let server = TestProcess::start_with(data.path(), options).await?;
    let start_ms = began.elapsed().as_secs_f64() * 1000.0;
    let idle = memory_mib(&server)?;
    note(&format!(
        "start to ready {start_ms:.0} ms, idle memory {idle:.1} MiB\n\
         echo over REST, POST then wait, one user per client, durable, {} s each; \
         limits.requests_per_minute was raised to {REQUESTS_PER_MINUTE} for this",
        time.as_secs()
    ));
    let users = users(
        &server,
        data.path(),
        clients.iter().copied().max().unwrap_or(1),
    )
    .await?;
    let mut all = Vec::new();
    for &count in clients {
        let measured = measure(&users[..count], time).await?;
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
            "start_to_ready_ms": start_ms,
            "idle_memory_mib": idle,
            "requests_per_minute": REQUESTS_PER_MINUTE,
            "results": all,
        });
        say(&serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

/// Resident memory of the server's process.
fn memory_mib(server: &TestProcess) -> Result<f64> {
    let pid = server.pid().context("the server runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// A client with a connection of its own for each user. The accounts are made in this process:
/// starting the command line twice for each would take longer than the measurement.
async fn users(server: &TestProcess, data: &Path, count: usize) -> Result<Vec<Client>> {
    let config = netra::config::Config::for_data(data)?;
    let accounts = netra::accounts::Accounts::open(&config).map_err(|problem| problem.error)?;
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        let user = accounts.find_or_create(&format!("client-{number}")).await;
        let user = user.map_err(|problem| problem.error)?;
        let token = accounts.token(&user, Duration::from_secs(3600));
        let token = token.map_err(|problem| problem.error)?;
        clients.push(Client::new(server.url(), Some(token))?);
    }
    Ok(clients)
}

async fn measure(clients: &[Client], time: Duration) -> Result<Measured> {
    // Connections and caches are not what is measured.
    futures::future::try_join_all(clients.iter().map(one_run)).await?;
    let began = Instant::now();
    let each = clients.iter().map(|client| async move {
        let mut times = Histogram::<u64>::new(3)?;
        while began.elapsed() < time {
            let start = Instant::now();
            one_run(client).await?;
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

async fn one_run(client: &Client) -> Result<()> {
    let run = client
        .run_start(None, &start("echo", "hello"), None)
        .await?;
    let run = client.run_end(run.id).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    Ok(())
}
