//! `noise`: how long others wait for the first event of a run beside a user who does all that costs something.

use anyhow::{Result, ensure};
use netra_integration::noise::{Rate, Scene, WAYS};
use serde_json::json;

use crate::report::Report;

/// The 99th percentile beside the noise, as a multiple of the quiet one.
const BOUND: f64 = 2.0;

/// Each way to be noisy alone, then all of them at once.
pub(crate) async fn measure(
    wanted: Vec<&'static str>,
    rounds: usize,
    rate: Rate,
    json: bool,
) -> Result<()> {
    let data = tempfile::tempdir()?;
    let scene = Scene::start(data.path(), rate).await?;
    let mut report = Report::new(json);
    let mut over = Vec::new();
    let all = (wanted.len() > 1).then(|| wanted.clone());
    for ways in wanted.into_iter().map(|way| vec![way]).chain(all) {
        let compared = scene.compare(&ways, rounds).await?;
        let (quiet, beside) = (compared.quiet, compared.beside);
        let name = if ways.len() == WAYS.len() {
            "all".to_owned()
        } else {
            ways.join(", ")
        };
        let ratio = beside.p99 / quiet.p99;
        let measured = json!({
            "quiet p50 ms": quiet.median,
            "beside p50 ms": beside.median,
            "quiet p99 ms": quiet.p99,
            "beside p99 ms": beside.p99,
            "p99 beside / quiet": ratio,
            "noises": compared.done.iter().sum::<u64>(),
        });
        report.add(&name, measured);
        if ratio > BOUND {
            over.push(name);
        }
    }
    report.end()?;
    let over = over.join("; ");
    ensure!(
        over.is_empty(),
        "more than {BOUND} of the quiet p99: {over}"
    );
    Ok(())
}
