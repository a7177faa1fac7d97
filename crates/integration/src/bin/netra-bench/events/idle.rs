//! Sockets at rest: what 10,000 of them hold, and how fast they come.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use super::line::{Line, open_many};
use crate::bare::Bare;
use crate::server;

const SOCKETS: usize = 10_000;
/// Each with a token of its own, so with a check of its own.
const USERS: usize = 500;

pub(super) async fn measure() -> Result<Value> {
    let bare = of_bare().await?;
    let netra = of_netra().await?;
    Ok(json!({
        "sockets": SOCKETS,
        "users": USERS,
        "bare_connects_per_second": bare.per_second,
        "netra_connects_per_second": netra.per_second,
        "ratio_of_connects": netra.per_second / bare.per_second,
        "bare_mib": bare.mib,
        "netra_mib": netra.mib,
        "netra_kib_per_socket": (netra.mib - netra.mib_before) * 1024.0 / SOCKETS as f64,
    }))
}

struct Rest {
    per_second: f64,
    mib_before: f64,
    mib: f64,
}

async fn of_bare() -> Result<Rest> {
    let bare = Bare::start(&["bare"]).await?;
    let mib_before = server::memory_mib(bare.pid())?;
    let began = Instant::now();
    let lines = open_many(SOCKETS, |_| Line::open(&bare.url, None)).await?;
    let seconds = began.elapsed().as_secs_f64();
    let mib = server::memory_mib(bare.pid())?;
    drop(lines);
    Ok(Rest {
        per_second: SOCKETS as f64 / seconds,
        mib_before,
        mib,
    })
}

async fn of_netra() -> Result<Rest> {
    let data = tempfile::tempdir()?;
    let settings = [("LIMITS__SOCKETS", "100000")];
    let server = server::start(data.path(), &settings).await?;
    let users = server::users(&server, data.path(), USERS).await?;
    let tokens = users.iter().map(|user| user.token().unwrap_or_default());
    let tokens: Vec<String> = tokens.collect();
    let mib_before = server::memory_mib(server.pid())?;
    let began = Instant::now();
    let open = |number: usize| Line::ready(server.url(), &tokens[number % USERS]);
    let mut lines = open_many(SOCKETS, open).await?;
    let seconds = began.elapsed().as_secs_f64();
    // Each is live when its first position has come.
    for line in &mut lines {
        line.subscribe(None).await?;
        line.next().await?;
    }
    let mib = server::memory_mib(server.pid())?;
    Ok(Rest {
        per_second: SOCKETS as f64 / seconds,
        mib_before,
        mib,
    })
}
