//! `http`: what the edge costs. wrk asks `GET /api/auth/me`, signed in, and a bare axum handler that answers the same,
//! in turn.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::routing::get;
use axum::{Json, Router};
use netra_integration::TestProcess;
use serde_json::json;
use tokio::process::Command;

use crate::bare::{self, Bare};
use crate::report::{Report, median};
use crate::{note, server};

/// What has to be reached of the bare handler's requests per second.
const MUST_REACH: f64 = 0.6;
/// How often the two are measured in turn.
const PAIRS: usize = 5;
const CONNECTIONS: &str = "64";
const THREADS: &str = "2";
const PATH: &str = "/api/auth/me";

/// Answers with this until it is killed.
pub(crate) async fn bare(answer: &str) -> Result<()> {
    let answer: serde_json::Value = serde_json::from_str(answer)?;
    let handler = get(async move || Json(answer.clone()));
    bare::serve(Router::new().route(PATH, handler)).await
}

/// Requests per second, all of them answered well.
async fn wrk(program: &Path, url: &str, token: &str, time: Duration) -> Result<f64> {
    let duration = format!("{}s", time.as_secs());
    let output = Command::new(program)
        .args(["-t", THREADS, "-c", CONNECTIONS, "-d", &duration])
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .arg(format!("{url}{PATH}"))
        .output()
        .await
        .context("wrk is needed: apt-get install wrk")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8(output.stdout)?;
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        bail!("not all requests were answered well:\n{said}");
    }
    let rate = said.lines().find_map(|line| {
        let rate = line.trim().strip_prefix("Requests/sec:")?;
        rate.trim().parse().ok()
    });
    rate.with_context(|| format!("wrk told no rate:\n{said}"))
}

/// A server that raises the limits which would otherwise be what is measured, with one user's token.
async fn start_netra(data: &Path) -> Result<(TestProcess, String)> {
    let server = server::start(data, &[]).await?;
    let users = server::users(&server, data, 1).await?;
    let token = users[0].token().context("a token")?;
    Ok((server, token))
}

pub(crate) async fn http(program: &Path, time: Duration, json: bool) -> Result<()> {
    let data = tempfile::tempdir()?;
    let (server, token) = start_netra(data.path()).await?;
    let client = netra_client::Client::new(server.url(), Some(token.clone()))?;
    let answer = serde_json::to_string(&client.me().await?)?;
    let bare_handler = Bare::start(&["bare-http", &answer]).await?;
    note(&format!(
        "wrk -t {THREADS} -c {CONNECTIONS} on GET {PATH}, {} s each, in turn; both answer the same {} bytes; \
         limits.requests_per_minute was raised to {} for this",
        time.as_secs(),
        answer.len(),
        server::REQUESTS_PER_MINUTE,
    ));
    // Connections and caches are not what is measured.
    for url in [bare_handler.url.as_str(), server.url()] {
        wrk(program, url, &token, Duration::from_secs(1)).await?;
    }
    let (mut bare, mut netra, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let of_bare = wrk(program, &bare_handler.url, &token, time).await?;
        let of_netra = wrk(program, server.url(), &token, time).await?;
        bare.push(of_bare);
        netra.push(of_netra);
        ratios.push(of_netra / of_bare);
    }
    let ratio = median(ratios);
    let mut report = Report::new(json);
    report.add(
        "me",
        json!({
            "bare requests/s": median(bare),
            "netra requests/s": median(netra),
            "ratio, median of pairs": ratio,
        }),
    );
    report.end()?;
    ensure!(
        ratio >= MUST_REACH,
        "{ratio:.2} of the bare handler is under {MUST_REACH}"
    );
    Ok(())
}
