//! The optimizer's numbers on a real log, computed here once more with nothing but Rust.

mod flows;
mod numbers;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{TestServer, real_log, start_with_files};
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use serde_json::Value;

use crate::Test;

/// What the log says, read without any of the code under test.
struct Truth {
    first: String,
    last: String,
    input: Vec<u64>,
    output: Vec<u64>,
    peak_minute: String,
    peak_requests: u64,
}

fn truth(path: &Path) -> Result<Truth> {
    let text = std::fs::read_to_string(path)?;
    let mut truth = Truth {
        first: String::new(),
        last: String::new(),
        input: Vec::new(),
        output: Vec::new(),
        peak_minute: String::new(),
        peak_requests: 0,
    };
    let mut minutes: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let mut cells = line.split(',');
        let mut cell = || cells.next().context("three columns");
        let (time, input, output) = (cell()?, cell()?, cell()?);
        if truth.first.is_empty() || time < truth.first.as_str() {
            time.clone_into(&mut truth.first);
        }
        if time > truth.last.as_str() {
            time.clone_into(&mut truth.last);
        }
        truth.input.push(input.parse()?);
        truth.output.push(output.parse()?);
        // `2023-11-16 18:17`
        *minutes.entry(&time[..16]).or_default() += 1;
    }
    for (minute, requests) in minutes {
        if requests > truth.peak_requests {
            (truth.peak_minute, truth.peak_requests) = (minute.to_owned(), requests);
        }
    }
    truth.input.sort_unstable();
    truth.output.sort_unstable();
    Ok(truth)
}

/// The value at the nearest rank: `sorted[ceil(p n / 100)]`, counted from 1.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

/// Every whole number anywhere in a value, and times as text.
fn holds(value: &Value, wanted: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| holds(item, wanted)),
        Value::Object(fields) => fields.values().any(|field| holds(field, wanted)),
        scalar => scalar == wanted,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_numbers_are_those_of_the_log() -> Test {
    let Some(path) = real_log()? else {
        return Ok(());
    };
    let truth = truth(&path)?;
    // What its publisher's file is known to hold: this test reads the right one.
    assert_eq!(truth.input.len(), 8_819);
    assert_eq!(truth.input.iter().sum::<u64>(), 18_059_974);
    assert_eq!(truth.output.iter().sum::<u64>(), 245_896);
    assert_eq!(percentile(&truth.input, 50), 1_469);

    let server = TestServer::start().await?;
    let user = server.user().await?;
    let file = user
        .client
        .file_upload("log.csv", Upload::Path(&path))
        .await?;
    let question = "Cut the cost by 30 % without slower answers";
    let start = start_with_files("optimizer", question, vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.context("a completed run has a result")?;
    let data = &result["data"];
    assert_eq!(data["rows"], 8_819);
    assert_eq!(data["input_tokens"], 18_059_974);
    assert_eq!(data["output_tokens"], 245_896);
    for (field, raw) in [("first_ts", &truth.first), ("last_ts", &truth.last)] {
        let told = data[field].as_str().context("a time")?;
        // `2023-11-16 18:17:03.9799600` is told as RFC 3339.
        let expected = raw.replace(' ', "T");
        let told = told.strip_suffix('Z').context("UTC")?;
        assert_eq!(
            told.trim_end_matches('0'),
            expected.trim_end_matches('0'),
            "{field}"
        );
    }
    for (side, sorted) in [("input", &truth.input), ("output", &truth.output)] {
        for percent in [50, 90, 95, 99] {
            let wanted = Value::from(percentile(sorted, percent));
            let told = &data["percentiles"][format!("{side}_tokens")][format!("p{percent}")];
            assert_eq!(
                *told, wanted,
                "p{percent} of {side}: {}",
                data["percentiles"]
            );
        }
    }
    let report = crate::expect::text(&result, "/report_markdown")?;
    let peak = &truth.peak_minute[11..];
    ensure!(
        report.contains(peak),
        "the peak minute {peak} is in the report:\n{report}"
    );
    ensure!(
        holds(&result, &Value::from(truth.peak_requests))
            || report.contains(&truth.peak_requests.to_string()),
        "and its {} requests",
        truth.peak_requests
    );
    // The report says of each column that the log lacks it, the result what cannot be answered then.
    for column in ["model", "price", "latency", "user"] {
        let said = report
            .lines()
            .find(|line| line.contains("no column"))
            .unwrap_or_default();
        ensure!(said.contains(column), "{column}: {said:?}");
    }
    let missing = serde_json::to_string(&result["missing"])?;
    ensure!(
        missing.contains("latency") && missing.contains("cost"),
        "{missing}"
    );
    for option in result["options"].as_array().context("options")? {
        ensure!(
            option["assumptions"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            "{option}"
        );
        ensure!(
            option["source_calls"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            "{option}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_number_names_a_tool_call_that_was_made_and_charts_are_files() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let mut csv = String::from("TIMESTAMP,ContextTokens,GeneratedTokens\n");
    for n in 0..200_u64 {
        csv.push_str(&format!(
            "2023-11-16 18:{:02}:{:02}.0000000,{},{}\n",
            n / 60,
            n % 60,
            100 + n,
            10 + n % 7
        ));
    }
    let file = user
        .client
        .file_upload("small.csv", Upload::Bytes(csv.into()))
        .await?;
    let start = start_with_files("optimizer", "What can be saved?", vec![file.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let events = user.events(run.id).await?;
    let calls: Vec<String> = events
        .iter()
        .filter_map(|received| match &received.event.event.kind {
            EventKind::ToolExecuting { tool_call_id, .. } => Some(tool_call_id.to_string()),
            _ => None,
        })
        .collect();
    let result = run.result.context("a result")?;
    let named = result["options"]
        .as_array()
        .context("options")?
        .iter()
        .flat_map(|option| {
            option["source_calls"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        });
    let named: Vec<_> = named
        .filter_map(|call| call.as_str().map(str::to_owned))
        .collect();
    ensure!(!named.is_empty());
    for call in &named {
        ensure!(calls.contains(call), "{call} was never made");
    }
    let mut charts = 0;
    for received in &events {
        if let EventKind::ArtifactCreated {
            file_id,
            media_type,
            bytes,
            ..
        } = &received.event.event.kind
            && media_type == "image/svg+xml"
        {
            let svg = user.client.file_content(*file_id).await?;
            assert_eq!(svg.len() as u64, *bytes);
            ensure!(svg.windows(4).any(|part| part == b"<svg"));
            charts += 1;
        }
    }
    ensure!(charts >= 2, "at least two charts");
    let agents: Vec<_> = events
        .iter()
        .filter_map(|received| match &received.event.event.kind {
            EventKind::AgentStarted { agent, .. } => Some(agent.clone()),
            _ => None,
        })
        .collect();
    for part in ["triage", "data", "optimization", "actions", "reporting"] {
        ensure!(
            agents.iter().any(|agent| agent.ends_with(part)),
            "{part} ran: {agents:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_it_says_what_it_needs() -> Test {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let run = user.run("optimizer", "Cut the cost by 30 %").await?;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let result = run.result.context("a result")?;
    ensure!(
        result["missing"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        "{result}"
    );
    ensure!(crate::expect::text(&result, "/report_markdown")?.len() > 50);
    Ok(())
}
