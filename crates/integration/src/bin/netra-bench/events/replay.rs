//! Replay: how fast a client that was away gets a long log.

use std::time::Instant;

use anyhow::{Context as _, Result};
use netra_integration::Beside;
use netra_protocol::id::UserId;
use netra_store::Changes;
use serde_json::{Value, json};

use super::line::Line;
use crate::report::median;
use crate::server;

const EVENTS: usize = 100_000;
const BATCH: usize = 1_000;

pub(super) async fn measure() -> Result<Value> {
    let data = tempfile::tempdir()?;
    let server = server::start(data.path(), &[]).await?;
    let users = server::users(&server, data.path(), 1).await?;
    let id = users[0].me().await?.id;
    fill(data.path(), id).await?;
    let token = users[0].token().unwrap_or_default();
    let mut rates = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let mut line = Line::subscribed(server.url(), &token, Some(0)).await?;
        line.take(EVENTS).await?;
        rates.push(EVENTS as f64 / began.elapsed().as_secs_f64());
    }
    Ok(json!({
        "events": EVENTS,
        "events_per_second": median(rates),
    }))
}

/// Writes a long log beside the server: by runs it would take minutes.
async fn fill(data: &std::path::Path, user_id: UserId) -> Result<()> {
    let beside = Beside::open(data)?;
    let ctx = beside.user(user_id);
    let run = beside.run(&ctx, "long").await?;
    for _ in 0..EVENTS / BATCH {
        let events = (0..BATCH).map(|_| beside.thought(&run, &"x".repeat(30)));
        beside
            .store
            .commit(&ctx, &run, Changes::default(), events.collect())
            .await
            .context("a long log")?;
    }
    Ok(())
}
