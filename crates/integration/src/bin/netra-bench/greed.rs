//! `greed`: one user takes memory by every means, again and again, while others have their runs.

use anyhow::Result;
use netra_integration::greed::{self, Plan};
use serde_json::json;

use crate::report::Report;

pub(crate) async fn measure(plan: Plan, json: bool) -> Result<()> {
    let (data, agents) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (rounds, others) = (plan.rounds, plan.others);
    let outcome = Box::pin(greed::try_all(data.path(), agents.path(), plan)).await?;
    let mut report = Report::new(json);
    for tried in &outcome.tried {
        let measured = json!({
            "rounds": rounds,
            "limit, MiB": tried.limit_mib,
            "peak, as a part of the limit": tried.peak,
            "grown as the system says, MiB": tried.grown_mib,
            "stopped": tried.stopped,
            "seconds": tried.seconds,
        });
        report.add(tried.means, measured);
    }
    let others = json!({ "users": others, "runs, all completed": outcome.others_runs });
    report.add("others", others);
    report.end()?;
    outcome.tried.iter().try_for_each(greed::Tried::judge)
}
