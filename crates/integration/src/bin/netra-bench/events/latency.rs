//! From emit to receipt, at 2,000 events a second: small runs of many users, each with a socket.
//! The time of emission stands in the event, before it is appended; both processes have one clock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use netra_context::{Runtime, runtime::TaskKind};
use netra_integration::start;
use netra_protocol::WireEvent;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::line::Line;
use crate::server;

const USERS: usize = 100;
/// Events of a run of `echo` with a short text, one coalesced delta among them.
const EVENTS_OF_RUN: f64 = 6.0;
const PER_SECOND: f64 = 2_000.0;
const SECONDS: u64 = 10;

pub(super) async fn measure() -> Result<Value> {
    let data = tempfile::tempdir()?;
    let server = server::start(data.path(), &[]).await?;
    let users = server::users(&server, data.path(), USERS).await?;
    let runtime = Runtime::new();
    let end = Instant::now() + Duration::from_secs(SECONDS + 2);
    let mut listening = Vec::new();
    for user in &users {
        let token = user.token().unwrap_or_default();
        let line = Line::subscribed(server.url(), &token, None).await?;
        listening.push(runtime.spawn(TaskKind::Part, listen(line, end, runtime.clone())));
    }
    let pause = Duration::from_secs_f64(EVENTS_OF_RUN / PER_SECOND);
    let mut turns = interval(pause);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut started = Vec::new();
    let users = Arc::new(users);
    let mut number = 0;
    while began.elapsed() < Duration::from_secs(SECONDS) {
        turns.tick().await;
        let (users, who) = (Arc::clone(&users), number % USERS);
        number += 1;
        started.push(runtime.spawn(TaskKind::Part, async move {
            users[who]
                .run_start(None, &start("echo", "hello"), None)
                .await
        }));
    }
    for run in try_join_all(started).await?.into_iter().flatten() {
        run?;
    }
    let mut all = Histogram::<u64>::new(3)?;
    for times in try_join_all(listening).await?.into_iter().flatten() {
        all.add(times?)?;
    }
    let rate = all.len() as f64 / SECONDS as f64;
    ensure!(rate > PER_SECOND * 0.8, "only {rate:.0} events/s came");
    let at = |percent: f64| all.value_at_quantile(percent / 100.0) as f64 / 1000.0;
    Ok(json!({
        "events_per_second": rate,
        "p50_ms": at(50.0),
        "p90_ms": at(90.0),
        "p99_ms": at(99.0),
        "p99_9_ms": at(99.9),
    }))
}

async fn listen(mut line: Line, end: Instant, runtime: Runtime) -> Result<Histogram<u64>> {
    let mut times = Histogram::<u64>::new(3)?;
    while let Ok(text) = tokio::time::timeout_at(end, line.next()).await {
        let text = text?;
        let now = runtime.now();
        let Ok(event) = serde_json::from_str::<WireEvent>(&text) else {
            continue;
        };
        if !event.event.kind.is_delta() {
            let micros = now.as_micros() - event.event.ts.as_micros();
            times.record(u64::try_from(micros).unwrap_or(0))?;
        }
    }
    Ok(times)
}
