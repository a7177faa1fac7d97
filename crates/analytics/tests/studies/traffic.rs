//! A made log with days and nights, three models, a few users and latencies that follow from the lengths.

use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Since 1970; the log begins on a Monday.
    pub(crate) second: i64,
    pub(crate) model: &'static str,
    pub(crate) user: String,
    pub(crate) input: u32,
    pub(crate) output: u32,
    pub(crate) latency: f64,
}

pub(crate) const START: i64 = 1_714_953_600;

/// So many days of requests, in the order of time.
pub(crate) fn traffic(days: i64) -> Vec<Row> {
    let mut seed = 42_u64;
    let mut next = |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut rows = Vec::new();
    for hour in 0..days * 24 {
        let (day, of_day) = (hour / 24, hour % 24);
        let busy = if (8..20).contains(&of_day) { 24 } else { 6 };
        let busy = if day % 7 >= 5 { busy / 3 } else { busy };
        for _ in 0..busy + next(4) {
            let model = ["alpha", "beta", "beta", "gamma"][next(4) as usize];
            let input = 100 + next(3_000) as u32 * if next(10) == 0 { 4 } else { 1 };
            let output = 10 + next(400) as u32;
            let slow = if model == "alpha" { 2.0 } else { 1.0 };
            let latency = slow * (200.0 + f64::from(input) * 0.05 + f64::from(output) * 12.0)
                + next(100) as f64;
            rows.push(Row {
                second: START + hour * 3_600 + next(3_600) as i64,
                model,
                user: format!("user-{}", next(5) * next(2)),
                input,
                output,
                latency: (latency * 1e3).round() / 1e3,
            });
        }
    }
    rows.sort_by_key(|row| row.second);
    rows
}

pub(crate) fn csv(rows: &[Row]) -> String {
    let mut text =
        String::from("timestamp,model,user,prompt_tokens,completion_tokens,latency_ms\n");
    for row in rows {
        let Row {
            second,
            model,
            user,
            input,
            output,
            latency,
        } = row;
        text.push_str(&format!(
            "{second},{model},{user},{input},{output},{latency:.3}\n"
        ));
    }
    text
}

pub(crate) fn price_list() -> Value {
    json!({
        "name": "test list", "date": "2026-01-01", "default_models": ["beta"],
        "models": [
            { "id": "alpha", "input": 2, "output": 10, "long_context": { "above": 6000, "input": 4, "output": 20 } },
            { "id": "beta", "input": 0.5, "output": 1.5 },
        ],
    })
}

/// The value at the nearest rank.
pub(crate) fn rank(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Whether a told number is this one, to the decimals that are told.
#[track_caller]
pub(crate) fn close(told: &Value, wanted: f64) {
    let told = told.as_f64().unwrap_or(f64::NAN);
    assert!(
        (told - wanted).abs() <= 2e-6 * wanted.abs().max(1.0),
        "{told} is told, {wanted} is right"
    );
}
