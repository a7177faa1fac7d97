//! The committed synthetic log is what its generator makes, byte for byte, and the operations work on it.

use std::path::PathBuf;
use std::time::Duration;

use netra_analytics::jobs::{self, InputFile};
use serde_json::json;

/// Longer than anything here takes.
const TIME: Duration = Duration::from_secs(120);

#[path = "../examples/make-sample-log.rs"]
mod generator;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../samples/synthetic-llm-log.csv")
}

#[test]
fn the_generator_makes_the_committed_file() {
    let committed = std::fs::read(path()).unwrap();
    assert!(
        generator::synthetic_log().into_bytes() == committed,
        "run: cargo run -p netra-analytics --example make-sample-log"
    );
    // `main` is what the example runs; here it writes elsewhere only when called by hand.
    let _: fn() -> std::io::Result<()> = generator::main;
}

#[test]
fn the_sample_answers_every_kind_of_question() {
    let name = "synthetic-llm-log.csv";
    let inputs = [InputFile {
        name: name.into(),
        media_type: "text/csv".into(),
        path: path(),
    }];
    let run =
        |op: &str, arguments| jobs::run(op, arguments, &inputs, TIME, &mut |_, _| ()).unwrap();
    let inspect = run("log_inspect", json!({}));
    assert_eq!(inspect["sufficiency"], "sufficient");
    let profile = run("log_profile", json!({ "file": name }));
    assert_eq!(
        (&profile["rows"], &profile["bad_rows"]["count"]),
        (&json!(5_000), &json!(0))
    );
    assert_eq!(profile["by_model"]["distinct"], 3);
    assert!(profile["latency_ms"]["p95"].as_f64().unwrap() > 0.0);
    let cost = run("log_cost", json!({}));
    assert_eq!(
        (&cost["priced_requests"], &cost["unpriced_requests"]),
        (&json!(5_000), &json!(0))
    );
    let what_if = run("what_if", json!({ "scenarios": [{ "kind": "batching" }] }));
    assert_eq!(what_if["baseline"]["assumed"], false);
    assert_eq!(what_if["baseline"]["cost_usd"], cost["cost_usd"]);
    assert_eq!(what_if["scenarios"][0]["saving_fraction"], 0.5);
}
