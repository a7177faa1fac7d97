//! What the metrics tell, what they must not tell, and that each of them is described.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::Method;
use netra_integration::{FakeModel, Reply, TestServer};
use netra_protocol::account::Role;
use serde_json::Value;

use crate::Test;
use crate::expect::{until, with_model};
use crate::scripts::script;

/// The labels that there are.
const LABELS: [&str; 13] = [
    "method", "route", "status", "origin", "reason", "limit", "of", "tool", "outcome", "layer",
    "provider", "kind", "le",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_hold_nobody_and_nothing_of_what_is_said_and_all_are_described() -> Test {
    const CANARY: &str = "canary-5f1d";
    let folder = tempfile::tempdir()?;
    script(
        folder.path(),
        "raises",
        "",
        "raise ValueError(input['text'])\n",
    )?;
    let model = FakeModel::start(|_| Reply::Text(vec![CANARY.into()])).await?;
    let options = with_model(&model).agents(folder.path());
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user().await?;
    let mut socket = user.socket().await?;
    let mut runs = Vec::new();
    for agent in ["echo", "assistant", "raises"] {
        runs.push(user.run(agent, CANARY).await?);
    }
    until(&mut socket, "run_completed").await?;
    let request = admin.client.request(Method::GET, "/api/metrics");
    let request = request.header("accept", "application/json");
    let scraped: Value = admin.client.send(request).await?.json().await?;
    let text = scraped.to_string();
    ensure!(!text.contains(CANARY), "content in the metrics");
    for run in &runs {
        for id in [
            run.id.to_string(),
            run.thread_id.to_string(),
            user.id.to_string(),
        ] {
            ensure!(!text.contains(&id), "{id} in the metrics");
        }
    }
    let described = described()?;
    for (name, family) in scraped.as_object().context("families")? {
        if name == "netra_test_total" {
            continue;
        }
        ensure!(
            described.contains(name.as_str()),
            "{name} is not in docs/monitoring.md"
        );
        for sample in family["samples"].as_array().context("samples")? {
            for label in sample["labels"].as_object().context("labels")?.keys() {
                ensure!(
                    LABELS.contains(&label.as_str()),
                    "{name} has the label {label}"
                );
            }
        }
    }
    for name in [
        "netra_engine_created_total",
        "netra_engine_users",
        "netra_engine_concurrent_peak",
        "netra_context_created_total",
        "netra_bridge_events_total",
        "netra_bridge_delivery_seconds",
        "netra_run_first_event_seconds",
        "netra_run_wait_seconds",
        "netra_run_seconds",
        "netra_model_call_seconds",
        "netra_store_commit_seconds",
    ] {
        ensure!(scraped.get(name).is_some(), "{name} was not recorded");
    }
    Ok(())
}

/// The metrics that docs/monitoring.md has in a table.
fn described() -> Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/monitoring.md"))?;
    let rows = page.lines().filter(|line| line.starts_with("| `netra_"));
    let first = rows.filter_map(|row| row.split('|').nth(1));
    let names = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Ok(names.map(str::to_owned).collect())
}

/// The metrics that the code records.
fn recorded(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            recorded(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = std::fs::read_to_string(&path)?;
            for kind in [
                "metrics::counter!(",
                "metrics::gauge!(",
                "metrics::histogram!(",
            ] {
                let calls = code.split(kind).skip(1);
                let names = calls.filter_map(|call| call.trim_start().strip_prefix('"'));
                found.extend(
                    names
                        .filter_map(|call| call.split('"').next())
                        .map(str::to_owned),
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_metric_is_described_and_every_description_has_a_metric() -> Test {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(crates)? {
        recorded(&entry?.path().join("src"), &mut found)?;
    }
    found.remove("netra_test_total");
    let described = described()?;
    let lacking: Vec<_> = found.difference(&described).collect();
    ensure!(lacking.is_empty(), "not in docs/monitoring.md: {lacking:?}");
    let gone: Vec<_> = described.difference(&found).collect();
    ensure!(gone.is_empty(), "recorded nowhere: {gone:?}");
    Ok(())
}
