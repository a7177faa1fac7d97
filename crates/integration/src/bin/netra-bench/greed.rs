//! `greed`: one user takes memory by every means, again and again, while others have their runs.

use anyhow::{Result, ensure};
use netra_integration::greed::{self, Plan, Tried};
use serde_json::json;

use crate::say;

/// What a user may have held at the most, as a part of the limit.
const BOUND: f64 = 1.1;

pub(crate) async fn greed(plan: Plan, json: bool) -> Result<()> {
    let (data, agents) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let outcome = Box::pin(greed::try_all(data.path(), agents.path(), plan)).await?;
    if json {
        let tried: Vec<_> = outcome.tried.iter().map(as_json).collect();
        say(&json!({ "tried": tried, "others_runs": outcome.others_runs }).to_string());
    } else {
        say("means          rounds   peak of the limit   stopped   seconds");
        for tried in &outcome.tried {
            say(&format!(
                "{:<14} {:>6} {:>19.3} {:>9} {:>9.1}",
                tried.means, plan.rounds, tried.peak, tried.stopped, tried.seconds
            ));
        }
        say(&format!(
            "runs of {} others meanwhile, all completed: {}",
            plan.others, outcome.others_runs
        ));
    }
    for tried in &outcome.tried {
        ensure!(
            tried.peak < BOUND,
            "{}: {:.3} of the limit were held",
            tried.means,
            tried.peak
        );
    }
    Ok(())
}

fn as_json(tried: &Tried) -> serde_json::Value {
    json!({
        "means": tried.means,
        "peak": tried.peak,
        "stopped": tried.stopped,
        "seconds": tried.seconds,
    })
}
