//! `http`: what the edge costs. wrk asks `GET /api/auth/me`, signed in, and a bare axum handler that answers the same,
//! in turn.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use axum::routing::get;
use axum::{Json, Router};
use netra_integration::TestProcess;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::report::Report;
use crate::{note, say, server};

/// What has to be reached of the bare handler's requests per second.
const MUST_REACH: f64 = 0.6;
/// How often the two are measured in turn.
const PAIRS: usize = 5;
const CONNECTIONS: &str = "64";
const THREADS: &str = "2";
const PATH: &str = "/api/auth/me";

/// Answers with this until it is killed; prints its address as `netra serve` does.
pub(crate) async fn bare(answer: &str) -> Result<()> {
    let answer: serde_json::Value = serde_json::from_str(answer)?;
    let router = Router::new().route(PATH, get(async move || Json(answer.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("ready http://{}", listener.local_addr()?));
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        stream.set_nodelay(true).ok();
    });
    Ok(axum::serve(listener, router).await?)
}

/// The bare handler in a process of its own.
async fn start_bare(answer: &str) -> Result<(Child, String)> {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bare-http", answer])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().context("its output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let line = line.context("the bare handler says where it is")?;
    let url = line.strip_prefix("ready ").context("its address")?;
    Ok((child, url.to_owned()))
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
    let (_bare, bare_url) = start_bare(&answer).await?;
    note(&format!(
        "wrk -t {THREADS} -c {CONNECTIONS} on GET {PATH}, {} s each, in turn; both answer the same {} bytes; \
         limits.requests_per_minute was raised to {} for this",
        time.as_secs(),
        answer.len(),
        server::REQUESTS_PER_MINUTE,
    ));
    // Connections and caches are not what is measured.
    for url in [bare_url.as_str(), server.url()] {
        wrk(program, url, &token, Duration::from_secs(1)).await?;
    }
    let (mut bare, mut netra, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let of_bare = wrk(program, &bare_url, &token, time).await?;
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
