//! `growth`: whether many small runs leave anything behind in the server's memory.

use anyhow::{Context as _, Result};
use netra_client::{Client, Method};
use netra_integration::{TestProcess, output};
use serde_json::{Value, json};

use crate::note;
use crate::runs::one_run;
use crate::server;

/// Runs before the first look: caches and tables have their size then.
const WARM_UP: usize = 2_000;
/// What one run may leave behind, in bytes: less than the smallest block that each of them could. Over few runs what
/// comes and goes weighs more than that.
pub(crate) const BOUND: f64 = 8.0;
/// Users who run at the same time.
const CLIENTS: usize = 20;
/// Looks at the heap, of which the least counts: buffers come and go.
const LOOKS: usize = 20;
/// How often the memory is looked at.
const STEPS: usize = 10;

#[derive(Clone, Copy)]
struct Held {
    runs: usize,
    heap_bytes: u64,
    resident_mib: f64,
}

pub(crate) async fn measure(runs: usize) -> Result<Value> {
    let data = tempfile::tempdir()?;
    let server = server::start(data.path(), &[]).await?;
    let users = server::users(&server, data.path(), CLIENTS).await?;
    let admin = admin(&server, &data.path().to_string_lossy()).await?;
    work(&users, WARM_UP).await?;
    let first = look(&server, &admin, 0).await?;
    let mut last = first;
    for step in 1..=STEPS {
        work(&users, runs / STEPS).await?;
        last = look(&server, &admin, runs / STEPS * step).await?;
    }
    let grown = last.heap_bytes as f64 - first.heap_bytes as f64;
    Ok(json!({
        "runs": last.runs,
        "heap_bytes_before": first.heap_bytes,
        "heap_bytes_after": last.heap_bytes,
        "heap_bytes_per_run": grown / last.runs.max(1) as f64,
        "resident_mib_before": first.resident_mib,
        "resident_mib_after": last.resident_mib,
    }))
}

async fn work(users: &[Client], runs: usize) -> Result<()> {
    let each = runs / users.len();
    let all = users.iter().map(|user| async move {
        for _ in 0..each {
            one_run(user, "echo").await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(all).await?;
    Ok(())
}

async fn admin(server: &TestProcess, data: &str) -> Result<Client> {
    output(
        &["user", "add", "root", "--data", data, "--role", "admin"],
        "",
    )
    .await?;
    let token = output(&["token", "root", "--data", data, "--ttl", "8h"], "").await?;
    let token = String::from_utf8(token.stdout)?.trim_end().to_owned();
    Ok(Client::new(server.url(), Some(token))?)
}

async fn look(server: &TestProcess, admin: &Client, runs: usize) -> Result<Held> {
    let mut heap_bytes = u64::MAX;
    for _ in 0..LOOKS {
        // Folds what histograms have collected.
        let metrics = admin.request(Method::GET, "/api/metrics");
        admin.send(metrics).await?;
        let seen = admin.isolation().await?;
        let heap = seen
            .node
            .heap_bytes
            .context("the server counts its memory")?;
        heap_bytes = heap_bytes.min(heap);
    }
    let resident_mib = server::memory_mib(server.pid())?;
    let kib = heap_bytes / 1024;
    note(&format!(
        "growth: {runs} runs, heap {kib} KiB, resident {resident_mib:.1} MiB"
    ));
    Ok(Held {
        runs,
        heap_bytes,
        resident_mib,
    })
}
