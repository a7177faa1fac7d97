//! The figures of a real log of 8,819 requests, computed here in another way and compared with what the operations say.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use netra_analytics::jobs::{self, InputFile};
use serde_json::{Value, json};

/// Longer than anything here takes.
const TIME: Duration = Duration::from_secs(120);

const NAME: &str = "azure-llm-inference-2023-code.csv";

fn real_log() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(NAME);
    if path.exists() {
        return Some(path);
    }
    // To the terminal itself: what a test prints is kept from whoever looks on while it passes.
    let told = format!("not checked: there is no {}\n", path.display());
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    None
}

fn run(op: &str, arguments: Value) -> Option<Value> {
    let path = real_log()?;
    let input = InputFile {
        name: NAME.into(),
        media_type: "text/csv".into(),
        path,
    };
    Some(jobs::run(op, arguments, &[input], TIME, &mut |_, _| ()).unwrap())
}

/// The rows by plain splitting: time as text, input and output tokens.
fn rows() -> Option<Vec<(String, u64, u64)>> {
    let text = std::fs::read_to_string(real_log()?).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim().split(',').collect();
        (
            cells[0].to_owned(),
            cells[1].parse().unwrap(),
            cells[2].parse().unwrap(),
        )
    };
    Some(text.lines().skip(1).map(row).collect())
}

#[test]
fn the_profile_has_the_true_figures() {
    let (Some(profile), Some(rows)) = (run("log_profile", json!({})), rows()) else {
        return;
    };
    assert_eq!(rows.len(), 8_819);
    assert_eq!(profile["rows"], 8_819);
    assert_eq!(profile["requests"], 8_819);
    assert_eq!(profile["bad_rows"]["count"], 0);
    assert_eq!(profile["duplicates"]["count"], 0);
    assert_eq!(profile["first_ts"], "2023-11-16T18:17:03.979960Z");
    assert_eq!(profile["last_ts"], "2023-11-16T19:14:19.928016Z");
    assert_eq!(profile["input_tokens"]["total"], 18_059_974);
    assert_eq!(profile["output_tokens"]["total"], 245_896);
    assert_eq!(profile["input_tokens"]["p50"], 1_469);
    for (field, pick) in [
        (
            "input_tokens",
            (|row: &(String, u64, u64)| row.1) as fn(&_) -> u64,
        ),
        ("output_tokens", |row| row.2),
    ] {
        let mut values: Vec<u64> = rows.iter().map(pick).collect();
        values.sort_unstable();
        let told = &profile[field];
        assert_eq!(told["total"], values.iter().sum::<u64>());
        assert_eq!(told["min"], values[0]);
        assert_eq!(told["max"], *values.last().unwrap());
        for percent in [50, 90, 95, 99] {
            // The definition itself: the smallest value that at least so many percent do not exceed.
            let enough = |value: &&u64| {
                values.iter().filter(|v| v <= value).count() * 100 >= percent * values.len()
            };
            let expected = values.iter().find(enough).unwrap();
            assert_eq!(told[format!("p{percent}")], *expected, "{field} p{percent}");
        }
    }
}

#[test]
fn the_peak_minute_and_the_series_are_true() {
    let (Some(profile), Some(rows)) = (run("log_profile", json!({})), rows()) else {
        return;
    };
    let mut minutes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (time, input, _) in &rows {
        let minute = minutes.entry(&time[..16]).or_default();
        minute.0 += 1;
        minute.1 += input;
    }
    let most = minutes.values().map(|(count, _)| *count).max().unwrap();
    let (minute, (count, input)) = minutes
        .iter()
        .find(|(_, (count, _))| *count == most)
        .unwrap();
    assert_eq!((*minute, *count), ("2023-11-16 18:31", 585));
    let peak = &profile["peak_minute"];
    assert_eq!(peak["start"], "2023-11-16T18:31:00Z");
    assert_eq!(peak["requests"], *count);
    assert_eq!(peak["input_tokens"], *input);
    assert_eq!(profile["rates"]["active_minutes"], minutes.len());
    assert_eq!(profile["rates"]["calendar_minutes"], 58);
    assert_eq!(profile["rates"]["requests_per_minute"]["max"], *count);
    let points = profile["time_series"]["points"].as_array().unwrap();
    assert_eq!(
        (points.len(), &profile["time_series"]["bucket_seconds"]),
        (58, &json!(60))
    );
    for point in points {
        let start = point["start"].as_str().unwrap()[..16].replace('T', " ");
        let expected = minutes.get(start.as_str()).copied().unwrap_or_default();
        assert_eq!(
            (&point["requests"], &point["input_tokens"]),
            (&json!(expected.0), &json!(expected.1))
        );
    }
    assert_eq!(profile["gaps"][0]["seconds"], 217.168_952);
}

#[test]
fn what_the_log_lacks_is_said_and_not_invented() {
    let Some(profile) = run("log_profile", json!({ "file": NAME })) else {
        return;
    };
    for field in [
        "by_model",
        "by_user",
        "latency_ms",
        "logged_cost_usd",
        "cached_input_tokens",
    ] {
        assert_eq!(profile[field], Value::Null, "{field}");
    }
    let inspect = run("log_inspect", json!({})).unwrap();
    assert_eq!(inspect["kind"], "azure_llm_inference");
    assert_eq!(inspect["sufficiency"], "partial");
    let lacking: Vec<&str> = inspect["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        lacking,
        ["model", "cost", "latency", "user", "cached_input_tokens"]
    );
    let cost = run("log_cost", json!({})).unwrap();
    assert_eq!(cost["cost_usd"], Value::Null);
    assert_eq!(cost["logged_cost_usd"], Value::Null);
    assert!(
        cost["on_models"]
            .as_array()
            .unwrap()
            .iter()
            .all(|m| m["assumption"] == true)
    );
}

#[test]
fn savings_follow_from_the_exact_sums() {
    let list = json!({
        "name": "test", "date": "2026-01-01", "source": "this test",
        "models": [{ "id": "big", "input": 2.0, "cached_input": 0.5, "output": 8.0 }, { "id": "small", "input": 0.25, "output": 1.0 }],
    });
    let scenarios = json!([
        { "kind": "other_model", "model": "small" },
        { "kind": "shorter_prompts", "fraction": 0.25 },
        { "kind": "prompt_caching", "cached_share": 0.4 },
        { "kind": "batching", "share": 0.5 },
        { "kind": "batching", "share": 0.5, "discount": 0.5 },
        { "kind": "capped_output", "max_tokens": 50 },
    ]);
    let arguments = json!({ "scenarios": scenarios, "baseline_model": "big", "price_list": list });
    let (Some(found), Some(rows)) = (run("what_if", arguments), rows()) else {
        return;
    };
    let input: f64 = rows.iter().map(|row| row.1 as f64).sum::<f64>() / 1e6;
    let output: f64 = rows.iter().map(|row| row.2 as f64).sum::<f64>() / 1e6;
    let capped: f64 = rows.iter().map(|row| row.2.min(50) as f64).sum::<f64>() / 1e6;
    let base = input * 2.0 + output * 8.0;
    let expected = [
        Some(base / 8.0),
        Some(input * 0.75 * 2.0 + output * 8.0),
        Some(input * (0.6 * 2.0 + 0.4 * 0.5) + output * 8.0),
        None,
        Some(base * 0.75),
        Some(input * 2.0 + capped * 8.0),
    ];
    assert_eq!(found["price_list"]["origin"], "argument");
    assert_eq!(found["baseline"]["assumed"], true);
    assert!((found["baseline"]["cost_usd"].as_f64().unwrap() - base).abs() < 1e-6);
    for (scenario, expected) in found["scenarios"].as_array().unwrap().iter().zip(expected) {
        let Some(expected) = expected else {
            assert_eq!(scenario["cost_usd"], Value::Null);
            assert!(
                scenario["reason"]
                    .as_str()
                    .unwrap()
                    .contains("no batch price")
            );
            continue;
        };
        let cost = scenario["cost_usd"].as_f64().unwrap();
        assert!(
            (cost - expected).abs() < 2e-6,
            "{} is not {expected}",
            scenario["cost_usd"]
        );
        let saving = scenario["saving_fraction"].as_f64().unwrap();
        assert!((saving - (base - expected) / base).abs() < 1e-6);
        assert!(!scenario["assumptions"].as_array().unwrap().is_empty());
        assert!(scenario["formula"].as_str().unwrap().starts_with("cost = "));
    }
}
