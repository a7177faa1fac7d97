//! What the metrics tell, what they must not tell, and that each of them is described.

mod promtool;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::Method;
use netra_integration::{FakeModel, Options, Reply, TestServer};
use netra_protocol::account::{Plan, Role};
use serde_json::{Value, json};

use crate::Test;
use crate::expect::{until, with_model};
use crate::mcp::http::Http;
use netra_integration::script;

/// The labels that there are.
const LABELS: [&str; 22] = [
    "method",
    "route",
    "status",
    "origin",
    "reason",
    "limit",
    "of",
    "tool",
    "outcome",
    "layer",
    "provider",
    "model",
    "from",
    "to",
    "kind",
    "server",
    "le",
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_token_type",
    "error_type",
];
/// What names begin with: the server's own, and those of OpenTelemetry's conventions.
const PREFIXES: [&str; 2] = ["netra_", "gen_ai_client_"];

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
    let request = admin.client.request(Method::GET, "/api/metrics");
    let text = admin.client.send(request).await?.text().await?;
    fit_for_prometheus(&text)?;
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
        "gen_ai_client_operation_duration_seconds",
        "gen_ai_client_token_usage",
        "netra_store_commit_seconds",
        "netra_turn_wait_seconds",
    ] {
        ensure!(scraped.get(name).is_some(), "{name} was not recorded");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_own_tool_server_makes_no_series_by_its_names() -> Test {
    const CANARY: &str = "canary5f1d";
    let (folder, http) = (tempfile::tempdir()?, Http::open()?);
    let calls = format!("my_{CANARY}__count()['text']\n");
    script(folder.path(), "counts", "tools = [\"my_*\"]\n", &calls)?;
    let options = Options::new()
        .agents(folder.path())
        .set("tools.fetch.allow", http.place());
    let server = TestServer::start_with(options).await?;
    let admin = server.user_as(Role::Admin, None).await?;
    let user = server.user_on(Role::User, Plan::Pro, None).await?;
    let path = format!("/api/tool-servers/{CANARY}");
    let put = user.client.request(Method::PUT, &path);
    user.client
        .send(put.json(&json!({ "url": http.url() })))
        .await?;
    let run = user.run("counts", "go").await?;
    assert_eq!(run.result, Some(json!("1")), "{:?}", run.error);
    let request = admin.client.request(Method::GET, "/api/metrics");
    let text = admin.client.send(request).await?.text().await?;
    ensure!(
        text.contains(r#"netra_tool_calls_total{tool="my_*",outcome="completed"}"#)
            && text.contains(r#"netra_tool_call_seconds_count{tool="my_*"}"#),
        "{text}"
    );
    ensure!(
        !text.contains(CANARY),
        "a user's word in the metrics: {text}"
    );
    Ok(())
}

/// What a name must not have: a unit that is no base unit, or the kind of the metric.
const BAD_PARTS: [&str; 12] = [
    "ms",
    "milliseconds",
    "sec",
    "minutes",
    "hours",
    "kib",
    "mib",
    "percent",
    "counter",
    "gauge",
    "histogram",
    "summary",
];

/// The rules of the text format, and those by which `promtool check metrics` judges names.
fn fit_for_prometheus(text: &str) -> Test {
    let (mut families, mut series) = (BTreeMap::new(), BTreeSet::new());
    let (mut helped, mut buckets) = (BTreeSet::new(), BTreeMap::<&str, f64>::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').with_context(|| line.to_owned())?;
            ensure!(!words.trim().is_empty() && helped.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').with_context(|| line.to_owned())?;
            ensure!(
                helped.contains(name) || name == "netra_test_total",
                "no help: {line}"
            );
            ensure!(families.insert(name, kind).is_none(), "twice: {line}");
            let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            ensure!(ours && name.chars().all(small), "{line}");
            ensure!(name.ends_with("_total") == (kind == "counter"), "{line}");
            ensure!(
                !name.split('_').any(|part| BAD_PARTS.contains(&part)),
                "{line}"
            );
        } else {
            let (head, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let value: f64 = value.parse().with_context(|| line.to_owned())?;
            ensure!(series.insert(head), "a series twice: {line}");
            let name = head.split('{').next().unwrap_or_default();
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .filter(|family| families.get(family) == Some(&"histogram"));
            let family = of_histogram.unwrap_or(name);
            ensure!(families.contains_key(family), "before its type: {line}");
            if let Some((labels, _)) = head.split_once("le=\"") {
                let before = buckets.insert(labels, value).unwrap_or(0.0);
                let first = head.contains("le=\"0.001\"");
                ensure!(
                    first || value >= before,
                    "a bucket less than the one before: {line}"
                );
            }
        }
    }
    ensure!(!buckets.is_empty() && families.len() > 20, "{text}");
    let ends = text.matches("le=\"+Inf\"").count();
    ensure!(ends == buckets.len(), "a histogram without its last bucket");
    Ok(())
}

#[test]
fn what_prometheus_would_object_to_is_found() {
    let good = "# HELP netra_a_total x\n# TYPE netra_a_total counter\nnetra_a_total 1\n";
    let found = |text: &str| fit_for_prometheus(text).map_err(|error| error.to_string());
    // It is too little, and nothing else.
    assert_eq!(found(good), Err(good.to_owned()));
    for (text, wanted) in [
        (good.replace("# HELP netra_a_total x\n", ""), "no help"),
        (good.replace("_a_total", "_a"), "netra_a counter"),
        (good.replace("_a_", "_a_ms_"), "netra_a_ms_total"),
        (good.replace("_a_", "_A_"), "netra_A_total"),
        (format!("{good}netra_a_total 2\n"), "twice"),
        (format!("{good}netra_b 2\n"), "before its type"),
    ] {
        let error = found(&text).expect_err("it is wrong");
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

/// The metrics that docs/monitoring.md has in a table.
fn described() -> Result<BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/monitoring.md"))?;
    let is_row = |line: &&str| {
        PREFIXES
            .iter()
            .any(|prefix| line.starts_with(&format!("| `{prefix}")))
    };
    let rows = page.lines().filter(is_row);
    let first = rows.filter_map(|row| row.split('|').nth(1));
    let names = first.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Ok(names.map(str::to_owned).collect())
}

/// The names of metrics in a text, those of the parts of a histogram as the histogram's.
fn named(text: &str) -> BTreeSet<String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !in_name(c));
    let names = words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)));
    let whole = names.map(|name| {
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part));
        part.unwrap_or(name).to_owned()
    });
    whole.collect()
}

#[test]
fn every_metric_of_the_dashboard_and_of_the_alerts_is_there() -> Test {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let described = described()?;
    for file in [
        "grafana/netra.json",
        "prometheus/alerts.yml",
        "prometheus/alerts-test.yml",
    ] {
        let used = named(&std::fs::read_to_string(deploy.join(file))?);
        ensure!(used.len() >= 5, "{file} names {used:?}");
        let unknown: Vec<_> = used.difference(&described).collect();
        ensure!(
            unknown.is_empty(),
            "{file} has metrics that there are not: {unknown:?}"
        );
    }
    Ok(())
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
