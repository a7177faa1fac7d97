//! `overload`: what a server answers of which more is asked than it can do, and how long its answers take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use netra_client::Client;
use netra_integration::start as hello;
use serde_json::json;

use crate::lean::LeanClient;
use crate::report::Report;
use crate::{note, server};

/// What a refusal may take.
const MUST_REACH: Duration = Duration::from_millis(50);
/// All begin at once, on a server that had nothing to do: what becomes of that crowd is told apart.
const CROWD: Duration = Duration::from_secs(1);

struct Times {
    accepted: Histogram<u64>,
    refused: Histogram<u64>,
    without_a_time: u64,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self {
            accepted: Histogram::new(3)?,
            refused: Histogram::new(3)?,
            without_a_time: 0,
        })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.accepted.add(&other.accepted)?;
        self.refused.add(&other.refused)?;
        self.without_a_time += other.without_a_time;
        Ok(())
    }
}

/// Starts runs and waits for none of them, again after a refusal as soon as this is told to be over. What was asked at
/// first, and later.
async fn start_runs(client: &Client, start: Instant, ends: &AtomicBool) -> Result<[Times; 2]> {
    let [mut first, mut later] = [Times::new()?, Times::new()?];
    let mut client = LeanClient::post(client, "/api/runs", &hello("echo", "hello")).await?;
    while !ends.load(Ordering::Relaxed) {
        let began = Instant::now();
        let times = match began - start < CROWD {
            true => &mut first,
            false => &mut later,
        };
        let answered = client.ask().await?;
        let took = u64::try_from(began.elapsed().as_micros())?;
        match answered.status {
            200..=299 => times.accepted.record(took)?,
            503 => {
                times.refused.record(took)?;
                match answered.retry_after {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => times.without_a_time += 1,
                }
            }
            // The user's own queue is full, which is the user's affair.
            429 => tokio::time::sleep(answered.retry_after.context("a time")?).await,
            status => bail!("answered with {status}"),
        }
    }
    Ok([first, later])
}

fn shown(times: &Histogram<u64>, seconds: f64) -> serde_json::Value {
    let at = |quantile: f64| times.value_at_quantile(quantile) as f64 / 1000.0;
    json!({
        "requests": times.len(),
        "requests/s": times.len() as f64 / seconds,
        "p50 ms": at(0.5),
        "p99 ms": at(0.99),
        "max ms": times.max() as f64 / 1000.0,
    })
}

pub(crate) async fn overload(clients: &[usize], time: Duration, json: bool) -> Result<()> {
    let mut report = Report::new(json);
    for &count in clients {
        let data = tempfile::tempdir()?;
        // As by default; for tests it is more.
        let turn_wait = [("LIMITS__TURN_WAIT_MS", "50")];
        let server = server::start(data.path(), &turn_wait).await?;
        let users = server::users(&server, data.path(), count).await?;
        note(&format!(
            "{count} users start runs of echo and wait for none of them, {} s; a refusal is heeded",
            time.as_secs()
        ));
        let ends = Arc::new(AtomicBool::new(false));
        let stop = async {
            tokio::time::sleep(time).await;
            ends.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        };
        let start = Instant::now();
        let all = users.iter().map(|client| start_runs(client, start, &ends));
        let (parts, ()) = futures::try_join!(futures::future::try_join_all(all), stop)?;
        let [mut first, mut later] = [Times::new()?, Times::new()?];
        for [of_first, of_later] in &parts {
            first.add(of_first)?;
            later.add(of_later)?;
        }
        for (when, times, time) in [
            (" at first", &first, CROWD),
            ("", &later, time.saturating_sub(CROWD)),
        ] {
            ensure!(times.without_a_time == 0, "a 503 without Retry-After");
            let seconds = time.as_secs_f64();
            for (what, of_these) in [("accepted", &times.accepted), ("refused", &times.refused)] {
                let name = format!("{count} clients{when}, {what}");
                report.add(&name, shown(of_these, seconds));
            }
        }
        let late = Duration::from_micros(later.refused.value_at_quantile(0.99));
        if late > MUST_REACH {
            note(&format!(
                "one refusal in a hundred took more than {MUST_REACH:?}"
            ));
        }
    }
    report.end()
}
