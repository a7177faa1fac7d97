//! Fan-out: every event goes to 1,000 sockets.

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join_all};
use netra_integration::start;
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};

use super::line::{Line, open_many};
use crate::bare::Bare;
use crate::report::median;
use crate::server;

const SOCKETS: usize = 1_000;
/// Small runs at once, as fast as they go, so that the sockets are what holds it up.
const RUNS: usize = 150;
/// Events of a run of `echo` with a short text.
const EVENTS_OF_RUN: usize = 6;
/// Fewer than a mailbox takes, so that what is measured is the live way.
const EVENTS: usize = RUNS * EVENTS_OF_RUN;
/// Size of an event's JSON, about.
const BYTES: usize = 300;

pub(super) async fn measure() -> Result<Value> {
    // In turns, so that what else the machine does falls on both.
    let mut bare = Vec::new();
    let mut netra = Vec::new();
    for _ in 0..3 {
        bare.push(of_bare().await?);
        netra.push(of_netra().await?);
    }
    let (bare, netra) = (median(bare), median(netra));
    Ok(json!({
        "sockets": SOCKETS,
        "bare_deliveries_per_second": bare,
        "netra_deliveries_per_second": netra,
        "ratio": netra / bare,
    }))
}

async fn of_bare() -> Result<f64> {
    let bare = Bare::start(&["bare"]).await?;
    let mut lines = open_many(SOCKETS, |_| Line::open(&bare.url, None)).await?;
    let publish = format!("{}/publish?events={EVENTS}&bytes={BYTES}", bare.url);
    let began = Instant::now();
    let sockets: usize = reqwest::get(publish).await?.text().await?.parse()?;
    ensure!(sockets == SOCKETS, "{sockets} sockets");
    try_join_all(lines.iter_mut().map(|line| line.take(EVENTS))).await?;
    Ok((SOCKETS * EVENTS) as f64 / began.elapsed().as_secs_f64())
}

async fn of_netra() -> Result<f64> {
    let data = tempfile::tempdir()?;
    let settings = [
        ("LIMITS__SOCKETS", "100000"),
        ("LIMITS__CONCURRENT_RUNS", "100000"),
    ];
    let server = server::start(data.path(), &settings).await?;
    let users = server::users(&server, data.path(), 1).await?;
    let (user, token) = (&users[0], users[0].token().unwrap_or_default());
    let open = |_| Line::subscribed(server.url(), &token, None);
    let mut lines = open_many(SOCKETS, open).await?;
    // The first position tells that the replay has caught up.
    try_join_all(lines.iter_mut().map(Line::next)).await?;
    let hello = start("echo", "hello");
    let began = Instant::now();
    let runs = join_all((0..RUNS).map(|_| user.run_start(None, &hello, None)));
    let taken = try_join_all(lines.iter_mut().map(|line| line.take(EVENTS)));
    let (runs, taken) = tokio::join!(runs, taken);
    taken?;
    let seconds = began.elapsed().as_secs_f64();
    for run in runs {
        let run = user.run_end(run?.id).await?;
        ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    }
    Ok((SOCKETS * EVENTS) as f64 / seconds)
}
