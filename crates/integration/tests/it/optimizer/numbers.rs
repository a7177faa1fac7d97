//! Every number of a report, computed once more from the rows: none may stand there that this page does not find too.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use netra_client::Upload;
use netra_integration::{TestServer, start_with_files};
use netra_protocol::run::RunStatus;
use serde_json::{Value, json};

use crate::Test;
use crate::expect::text;

const PRICES: &str = r#"
name = "Test contract"
date = "2026-01-01"
default_models = ["beta"]
[[model]]
id = "alpha"
provider = "acme"
input = 2.0
cached_input = 0.5
output = 8.0
batch = { input = 1.0, output = 4.0 }
[[model]]
id = "beta"
provider = "acme"
input = 0.6
cached_input = 0.1
output = 2.0
batch = { input = 0.3, output = 1.0 }
"#;

/// One request: second of the log, whether it went to alpha, tokens.
struct Row {
    second: u64,
    alpha: bool,
    input: f64,
    output: f64,
}

fn rows() -> Vec<Row> {
    let mut seed = 11_u64;
    let mut next = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut second = 0;
    (0..240)
        .map(|n| {
            second += if n == 120 { 97 } else { next(5) };
            let long = if next(8) == 0 { 9 } else { 1 };
            Row {
                second,
                alpha: next(3) == 0,
                input: (200 + next(900) * long) as f64,
                output: (20 + next(300) * long) as f64,
            }
        })
        .collect()
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from("timestamp,model,prompt_tokens,completion_tokens\n");
    for row in rows {
        let model = if row.alpha { "alpha" } else { "beta" };
        let (minute, second) = (row.second / 60, row.second % 60);
        text.push_str(&format!(
            "2024-05-06T10:{minute:02}:{second:02}Z,{model},{},{}\n",
            row.input, row.output
        ));
    }
    text
}

/// What is changed before the rows are priced.
#[derive(Clone, Copy)]
struct Change {
    cached: f64,
    keep: f64,
    cap: f64,
    all_beta: bool,
    batch: f64,
}

const AS_IT_IS: Change = Change {
    cached: 0.0,
    keep: 1.0,
    cap: f64::INFINITY,
    all_beta: false,
    batch: 0.0,
};

fn cost_of(row: &Row, change: Change) -> f64 {
    let (input, cached, output) = if row.alpha && !change.all_beta {
        (2.0, 0.5, 8.0)
    } else {
        (0.6, 0.1, 2.0)
    };
    let (tokens, written) = (row.input * change.keep, row.output.min(change.cap));
    let plain =
        tokens * (1.0 - change.cached) * input + tokens * change.cached * cached + written * output;
    let batched = (tokens * input + written * output) / 2.0;
    (plain * (1.0 - change.batch) + batched * change.batch) / 1e6
}

fn cost(rows: &[Row], change: Change) -> f64 {
    rows.iter().map(|row| cost_of(row, change)).sum()
}

fn ranks(values: &[f64], truth: &mut Vec<f64>) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    for percent in [50, 90, 95, 99, 100] {
        truth.push(sorted[(sorted.len() * percent).div_ceil(100) - 1]);
    }
    truth.extend([
        sorted[0],
        values.iter().sum::<f64>() / values.len() as f64,
        values.iter().sum::<f64>(),
    ]);
}

/// Counts by minute, and the least limits for waits.
fn minutes(rows: &[Row], of: impl Fn(&Row) -> f64, truth: &mut Vec<f64>) {
    let mut counts = vec![0.0; (rows[rows.len() - 1].second / 60 + 1) as usize];
    for row in rows {
        counts[(row.second / 60) as usize] += of(row);
    }
    let most = counts.iter().copied().fold(0.0, f64::max);
    truth.extend([
        most,
        2.0 * most,
        counts.iter().sum::<f64>() / counts.len() as f64,
    ]);
    for wait in [1.0, 5.0, 60.0] {
        let enough = |limit: f64| {
            let (mut waiting, mut longest) = (0.0_f64, 0.0_f64);
            for count in &counts {
                waiting = (waiting + count - limit).max(0.0);
                longest = longest.max(waiting);
            }
            longest <= wait * limit
        };
        truth.extend(
            (1..=most as u64)
                .map(|limit| limit as f64)
                .find(|limit| enough(*limit)),
        );
    }
}

/// The input tokens of the minute with the most requests, the first of equals.
fn fullest(rows: &[Row], truth: &mut Vec<f64>) {
    let mut found: BTreeMap<u64, (u64, f64)> = BTreeMap::new();
    for row in rows {
        let minute = found.entry(row.second / 60).or_default();
        *minute = (minute.0 + 1, minute.1 + row.input);
    }
    let most = found.values().map(|(requests, _)| *requests).max();
    let first = found.values().find(|(requests, _)| Some(*requests) == most);
    truth.extend(first.map(|(_, input)| *input));
}

/// The parts of the rows with their share of requests and cost.
fn shares(rows: &[Row], of: impl Fn(&Row) -> u64, truth: &mut Vec<f64>) {
    let mut parts: BTreeMap<u64, (f64, f64, f64, f64)> = BTreeMap::new();
    for row in rows {
        let part = parts.entry(of(row)).or_default();
        let more = (1.0, cost_of(row, AS_IT_IS), row.input, row.output);
        *part = (
            part.0 + more.0,
            part.1 + more.1,
            part.2 + more.2,
            part.3 + more.3,
        );
    }
    let all = cost(rows, AS_IT_IS);
    for (requests, dollars, input, output) in parts.into_values() {
        truth.extend([
            requests,
            requests / rows.len() as f64,
            dollars,
            dollars / all,
            input,
            output,
        ]);
    }
}

/// What the options save, alone and in every combination, and what of one is enough for the target.
fn options(rows: &[Row], cap: f64, target: f64, truth: &mut Vec<f64>) {
    let now = cost(rows, AS_IT_IS);
    let mut push = |then: f64| truth.extend([then, now - then, (now - then) / now]);
    let of = |steps: u32| Change {
        cached: if steps & 1 > 0 { 0.4 } else { 0.0 },
        cap: if steps & 2 > 0 { cap } else { f64::INFINITY },
        keep: if steps & 4 > 0 { 0.8 } else { 1.0 },
        all_beta: steps & 8 > 0,
        batch: 0.0,
    };
    (0..16).for_each(|steps| push(cost(rows, of(steps))));
    push(cost(
        rows,
        Change {
            batch: 0.25,
            ..AS_IT_IS
        },
    ));
    // What each step of the plan adds to those before it.
    let adds: Vec<f64> = [(0, 1), (1, 3), (3, 7), (7, 15)]
        .into_iter()
        .map(|(before, after)| (cost(rows, of(before)) - cost(rows, of(after))) / now)
        .collect();
    let mut enough = Vec::new();
    for (size, change) in [(0.4, of(1)), (0.2, of(4))] {
        let saved = (now - cost(rows, change)) / now;
        let needed = (100.0 * size * target / saved).ceil() / 100.0;
        let then = if size == 0.4 {
            Change {
                cached: needed,
                ..AS_IT_IS
            }
        } else {
            Change {
                keep: 1.0 - needed,
                ..AS_IT_IS
            }
        };
        if needed <= 1.0 {
            push(cost(rows, then));
        }
        enough.push(needed);
    }
    truth.extend(adds);
    truth.extend(enough);
}

fn truth(rows: &[Row], target: f64) -> Vec<f64> {
    // The words of tables: shares and sizes that were asked for or are fixed, edges of classes, waits.
    let mut truth = vec![
        0.01, 0.05, 0.1, 0.2, 0.25, 0.4, target, 256.0, 1_024.0, 4_096.0, 16_384.0, 30.0, 60.0,
        1_000.0,
    ];
    let now = cost(rows, AS_IT_IS);
    let thousand = |dollars: f64| dollars * 1_000.0 / rows.len() as f64;
    truth.extend([
        rows.len() as f64,
        now,
        thousand(now),
        thousand(now) * (1.0 - target),
        2.0 * now,
    ]);
    let (input, output): (Vec<f64>, Vec<f64>) =
        rows.iter().map(|row| (row.input, row.output)).unzip();
    ranks(&input, &mut truth);
    ranks(&output, &mut truth);
    let written: f64 = rows
        .iter()
        .map(|row| {
            cost_of(row, AS_IT_IS)
                - cost_of(
                    &Row {
                        output: 0.0,
                        ..*row
                    },
                    AS_IT_IS,
                )
        })
        .sum();
    truth.extend([written, written / now, now - written, 1.0 - written / now]);
    minutes(rows, |_| 1.0, &mut truth);
    minutes(rows, |row| row.input + row.output, &mut truth);
    minutes(rows, |row| row.input, &mut truth);
    fullest(rows, &mut truth);
    let active: std::collections::BTreeSet<u64> = rows.iter().map(|row| row.second / 60).collect();
    truth.extend([
        active.len() as f64,
        (rows[rows.len() - 1].second / 60 + 1) as f64,
    ]);
    truth.extend(
        rows.windows(2)
            .map(|pair| (pair[1].second - pair[0].second) as f64)
            .reduce(f64::max),
    );
    let class = |tokens: f64| {
        [256.0, 1_024.0, 4_096.0, 16_384.0]
            .iter()
            .filter(|edge| **edge <= tokens)
            .count() as u64
    };
    shares(rows, |row| u64::from(row.alpha), &mut truth);
    shares(rows, |row| class(row.input), &mut truth);
    shares(rows, |row| class(row.output), &mut truth);
    let mut each: Vec<f64> = rows.iter().map(|row| cost_of(row, AS_IT_IS)).collect();
    each.sort_by(|a, b| b.total_cmp(a));
    for percent in [1, 5, 10] {
        let dear: f64 = each.iter().take((each.len() * percent).div_ceil(100)).sum();
        truth.extend([dear, dear / now]);
    }
    truth.push(thousand(cost(
        rows,
        Change {
            all_beta: true,
            ..AS_IT_IS
        },
    )));
    output_cap(&output, |cap| options(rows, cap, target, &mut truth));
    truth
}

/// The cap that is tried: the 95th percentile of the output.
fn output_cap(output: &[f64], with: impl FnOnce(f64)) {
    let mut sorted = output.to_vec();
    sorted.sort_by(f64::total_cmp);
    with(sorted[(sorted.len() * 95).div_ceil(100) - 1]);
}

/// The numbers of a line with their decimals, and whether they are a share. Marks of sources, times and names are none.
fn numbers(line: &str) -> Vec<(f64, usize, bool)> {
    let words: Vec<&str> = line
        .split([' ', '|'])
        .filter(|word| !word.is_empty())
        .collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let bare = word.trim_matches(['(', ')', '.', ',', ';', ':', '*', '$']);
        let digits = bare.replace(',', "");
        if let Ok(value) = digits.parse::<f64>() {
            let decimals = digits.split_once('.').map_or(0, |(_, part)| part.len());
            let percent = words.get(at + 1).is_some_and(|next| next.starts_with('%'));
            found.push((value, decimals, percent));
        }
    }
    found
}

/// The lines of the report that have findings: not the question, not what is asked for, not the table of calls.
fn findings(report: &str) -> Vec<&str> {
    let mut heading = "";
    let mut found = Vec::new();
    for line in report.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            heading = name;
        }
        let skipped = [
            "What was asked",
            "What would tell more",
            "Sources",
            "What was assumed",
            "What is missing",
        ];
        if !skipped.contains(&heading) {
            // Formulas are no findings.
            found.push(line.split('`').next().unwrap_or(line));
        }
    }
    found
}

async fn report(rows: &[Row]) -> Result<Value> {
    let server = TestServer::start().await?;
    let user = server.user().await?;
    let log = user
        .client
        .file_upload("log.csv", Upload::Bytes(csv(rows).into()))
        .await?;
    let prices = user
        .client
        .file_upload("prices.toml", Upload::Bytes(PRICES.into()))
        .await?;
    let assume =
        json!({ "cached_share": 0.4, "shorter_prompts": 0.2, "batch_share": 0.25, "growth": 2 });
    let input = json!({ "text": "Cut the cost by 30 %", "assume": assume });
    let start = start_with_files("optimizer", input, vec![log.id, prices.id]);
    let run = user.client.run_start(None, &start, None).await?;
    let run = user.client.run_end(run.id).await?;
    ensure!(run.status == RunStatus::Completed, "{:?}", run.error);
    run.result.context("a result")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_stands_in_a_report_that_the_rows_do_not_give() -> Test {
    let rows = rows();
    let told = report(&rows).await?;
    let truth = truth(&rows, 0.3);
    let is_true = |value: f64, decimals: usize, percent: bool| {
        let scale = 10_f64.powi(i32::try_from(decimals).unwrap_or(0));
        // Numbers of rows in tables, of risk and of effort.
        let ordinal = !percent && decimals == 0 && value <= 16.0;
        // A tie may be rounded either way; small amounts have four digits that count.
        let near = |t: f64| (t * scale - value * scale).abs() <= 0.5 + 1e-6;
        ordinal
            || truth
                .iter()
                .any(|t| near(if percent { 100.0 * t } else { *t }))
    };
    let (mut checked, mut strange) = (0, Vec::new());
    for line in findings(text(&told, "/report_markdown")?) {
        for (value, decimals, percent) in numbers(line) {
            checked += 1;
            if !is_true(value, decimals, percent) {
                strange.push(format!("{value} in: {line}"));
            }
        }
    }
    ensure!(
        strange.is_empty(),
        "not found in the rows:\n{}",
        strange.join("\n")
    );
    ensure!(checked > 200, "{checked} numbers were looked at");
    // And the test can tell: a number next to a true one is none.
    let now = cost(&rows, AS_IT_IS);
    ensure!(
        is_true((now * 1e4).round() / 1e4, 4, false)
            && !is_true((now * 1e4).round() / 1e4 + 0.0003, 4, false)
    );

    let options = told["options"].as_array().context("options")?;
    ensure!(options.len() == 5, "{options:?}");
    for (option, change) in options.iter().zip([
        Change {
            cached: 0.4,
            ..AS_IT_IS
        },
        Change {
            cap: option_cap(&rows),
            ..AS_IT_IS
        },
        Change {
            keep: 0.8,
            ..AS_IT_IS
        },
        Change {
            batch: 0.25,
            ..AS_IT_IS
        },
        Change {
            all_beta: true,
            ..AS_IT_IS
        },
    ]) {
        let saved = 1.0 - cost(&rows, change) / now;
        let told = option["saving_fraction"].as_f64().context("a saving")?;
        ensure!(
            (told - saved).abs() < 2e-6,
            "{told} is told, {saved} is right: {option}"
        );
    }
    pareto_is_right(&told["choice"][0])
}

fn option_cap(rows: &[Row]) -> f64 {
    let output: Vec<f64> = rows.iter().map(|row| row.output).collect();
    let mut found = 0.0;
    output_cap(&output, |cap| found = cap);
    found
}

/// The choice: what is in the set is beaten by nothing, and what is not is.
fn pareto_is_right(choice: &Value) -> Test {
    let options = choice["options"]
        .as_array()
        .context("options of the choice")?;
    ensure!(
        options.len() >= 15,
        "every combination is weighed: {}",
        options.len()
    );
    let value = |option: &Value, field: &str| option["values"][field].as_f64().unwrap_or(f64::NAN);
    for option in options {
        let beaten = options.iter().any(|other| {
            value(other, "saving_usd") >= value(option, "saving_usd")
                && value(other, "risk") <= value(option, "risk")
                && value(other, "effort") <= value(option, "effort")
                && other["values"] != option["values"]
        });
        ensure!(option["pareto"] == json!(!beaten), "{option}");
    }
    Ok(())
}
