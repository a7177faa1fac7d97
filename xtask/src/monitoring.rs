//! What Prometheus makes of the server: its own tool looks at the alerts, tries them, and judges live metrics.

use anyhow::Result;

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{debian, process};

/// The tests of netra-integration that need the tool.
pub(crate) const TESTS: &str = "metrics::promtool::";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const TRIALS: &str = "deploy/prometheus/alerts-test.yml";
const CONFIGURATION: &str = "deploy/prometheus/prometheus.yml";
const OF_CLUSTER: &str = "deploy/prometheus/cluster.yml";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut tests = part::end_to_end(workspace, &[TESTS])?;
    let folder = process::target_folder(workspace)?.join("monitoring");
    // Not installed: the package would start a server.
    let promtool = debian::unpacked(workspace, "usr/bin/promtool", "prometheus", &folder)?;
    for words in [
        &["check", "rules", ALERTS][..],
        &["test", "rules", TRIALS],
        // The file with the token is on the machine where it runs.
        &["check", "config", "--syntax-only", CONFIGURATION],
        &["check", "config", "--syntax-only", OF_CLUSTER],
    ] {
        process::run(process::command(workspace, &promtool).args(words))?;
    }
    part::tests(tests.env("NETRA_PROMTOOL", &promtool))
}
