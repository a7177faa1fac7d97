//! The operations through their one entry, over small logs of each kind, wrong arguments and odd files.
#![expect(clippy::unwrap_used, reason = "tests")]

mod files;

use netra_analytics::jobs::{self, Code, Error};
use proptest::prelude::*;
use serde_json::{Value, json};

const LITELLM: &str = "startTime,endTime,model,prompt_tokens,completion_tokens,spend,user,cache_hit\n\
    2024-06-01T10:00:00Z,2024-06-01T10:00:01Z,alpha-2024-05-01,1000,100,0.003,ann,False\n\
    2024-06-01T10:00:30Z,2024-06-01T10:00:32Z,alpha,2000,200,0.006,bob,False\n\
    2024-06-01T10:02:00Z,2024-06-01T10:02:04Z,unknown-model,500,50,0.1,ann,True\n";

fn price_list() -> Value {
    json!({
        "name": "test list", "source": "tests", "date": "2026-01-01", "default_models": ["beta"],
        "models": [
            { "id": "alpha", "input": 2, "cached_input": 1, "output": 10, "batch": { "input": 1, "output": 5 },
              "long_context": { "above": 1500, "input": 4, "cached_input": 2, "output": 20 } },
            { "id": "beta", "input": 1, "output": 1, "context_window": 1500 },
        ],
    })
}

/// Files whose results are small, but for charts.
struct Files(files::Files);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files::Files::new(files))
    }

    fn run(&self, op: &str, arguments: Value) -> Result<Value, Error> {
        let result = self.0.run(op, arguments);
        if let Ok(value) = &result {
            let mut value = value.clone();
            value.as_object_mut().unwrap().remove("content");
            assert!(value.to_string().len() < 100_000);
        }
        result
    }
}

#[test]
fn a_log_with_cost_is_compared_with_the_list() {
    let files = Files::new(&[("log.csv", LITELLM)]);
    let cost = files
        .run("log_cost", json!({ "price_list": price_list() }))
        .unwrap();
    // 1000 and 2000 tokens; the second prompt is above the long-context threshold.
    let alpha = 0.001 * 2.0 + 0.000_1 * 10.0 + 0.002 * 4.0 + 0.000_2 * 20.0;
    assert!(
        (cost["cost_usd"].as_f64().unwrap() - alpha).abs() < 1e-6,
        "{}",
        cost["cost_usd"]
    );
    assert!((cost["logged_cost_usd"].as_f64().unwrap() - 0.109).abs() < 1e-9);
    assert_eq!(
        (&cost["priced_requests"], &cost["unpriced_requests"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(cost["comparison"]["logged_usd"], 0.009);
    let unknown = cost["by_model"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["model"] == "unknown-model");
    assert_eq!(unknown.unwrap()["cost_usd"], Value::Null);
    assert_eq!(cost["on_models"][0]["model"], "beta");
    assert_eq!(cost["on_models"][0]["fits_context"], false);
    assert_eq!(cost["price_list"]["date"], "2026-01-01");
}

#[test]
fn a_profile_of_a_log_with_everything() {
    let files = Files::new(&[("log.csv", LITELLM)]);
    let profile = files.run("log_profile", json!({})).unwrap();
    assert_eq!(profile["latency_ms"]["p50"], 2_000.0);
    assert_eq!(profile["by_user"]["shown"][0]["name"], "ann");
    assert_eq!(profile["by_model"]["distinct"], 3);
    assert_eq!(profile["cache_hits"], json!({ "count": 1, "of": 3 }));
    assert_eq!(profile["rates"]["calendar_minutes"], 3);
    assert_eq!(profile["rates"]["requests_per_minute"]["p50"], 1);
    assert_eq!(profile["peak_minute"]["requests"], 2);
}

#[test]
fn rows_that_are_sums_give_no_percentiles() {
    let files = Files::new(&[(
        "usage.csv",
        "start_time,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens\n\
         1730419200,alpha,10,100000,50000,5000\n1730505600,alpha,1,10,0,1\n",
    )]);
    let profile = files.run("log_profile", json!({})).unwrap();
    assert_eq!(profile["requests"], 11);
    assert_eq!(
        (
            &profile["input_tokens"]["total"],
            &profile["input_tokens"]["p50"]
        ),
        (&json!(100_010), &Value::Null)
    );
    assert_eq!(profile["token_histogram"]["input"], Value::Null);
    let cost = files
        .run("log_cost", json!({ "price_list": price_list() }))
        .unwrap();
    let expected = (50_010.0 * 2.0 + 50_000.0 * 1.0 + 5_001.0 * 10.0) / 1e6;
    assert!((cost["cost_usd"].as_f64().unwrap() - expected).abs() < 1e-6);
    let capped = json!({ "scenarios": [{ "kind": "capped_output", "max_tokens": 5 }], "price_list": price_list() });
    assert_eq!(
        files.run("what_if", capped).unwrap_err().code,
        Code::InvalidInput
    );
}

#[test]
fn a_relative_log_names_no_date() {
    let files = Files::new(&[(
        "burst.csv",
        "Timestamp,Model,Request tokens,Response tokens\n5,GPT-4,10,1\n65.5,GPT-4,10,1\n90000,GPT-4,10,1\n",
    )]);
    let profile = files.run("log_profile", json!({})).unwrap();
    assert_eq!(profile["time_base"], "seconds_from_first_day");
    assert_eq!(
        (&profile["first_ts"], &profile["last_ts"]),
        (&json!("day 1 00:00:05"), &json!("day 2 01:00:00"))
    );
    let series = profile["time_series"].clone();
    let chart = files
        .run(
            "chart",
            json!({ "kind": "requests_per_minute", "time_series": series }),
        )
        .unwrap();
    assert!(chart["content"].as_str().unwrap().contains("first day"));
}

#[test]
fn combined_changes_multiply_and_need_different_kinds() {
    let files = Files::new(&[("log.csv", "input_tokens,output_tokens\n1000000,100000\n")]);
    let list = json!({ "name": "l", "models": [{ "id": "a", "input": 1, "cached_input": 0.1, "output": 10 }] });
    let ask = |steps: Value| {
        let scenarios = json!([{ "kind": "combined", "label": "both", "steps": steps }]);
        files.run(
            "what_if",
            json!({ "baseline_model": "a", "price_list": list, "scenarios": scenarios }),
        )
    };
    let shorter = json!({ "kind": "shorter_prompts", "fraction": 0.5 });
    let caching = json!({ "kind": "prompt_caching", "cached_share": 0.5 });
    let found = ask(json!([shorter, caching])).unwrap();
    assert_eq!(found["baseline"]["cost_usd"], 2.0);
    assert_eq!(found["scenarios"][0]["cost_usd"], 1.275);
    assert_eq!(found["scenarios"][0]["saving_fraction"], 0.3625);
    assert_eq!(
        found["options_for_chart"][1],
        json!({ "label": "both", "cost_usd": 1.275 })
    );
    assert_eq!(
        ask(json!([shorter, shorter])).unwrap_err().code,
        Code::InvalidInput
    );
}

#[test]
fn wrong_calls_are_refused_with_words() {
    let list = "name = 'mine'\n[[model]]\nid = 'a'\ninput = 1\noutput = 1\n";
    let files = Files::new(&[
        ("log.csv", LITELLM),
        ("prices.toml", list),
        ("names.csv", "a,b\nx,y\n"),
    ]);
    for (op, arguments, code, says) in [
        ("log_magic", json!({}), Code::UnknownOperation, "log_magic"),
        ("log_profile", json!({}), Code::InvalidInput, "log.csv"),
        (
            "log_profile",
            json!({ "file": "other.csv" }),
            Code::InvalidInput,
            "other.csv",
        ),
        (
            "log_profile",
            json!({ "file": "log.csv", "x": 1 }),
            Code::InvalidInput,
            "`x`",
        ),
        (
            "log_profile",
            json!({ "file": "names.csv" }),
            Code::InvalidInput,
            "a, b",
        ),
        (
            "what_if",
            json!({ "file": "log.csv", "scenarios": [] }),
            Code::InvalidInput,
            "scenarios",
        ),
        (
            "what_if",
            json!({ "file": "log.csv", "scenarios": [{ "kind": "magic" }] }),
            Code::InvalidInput,
            "magic",
        ),
        (
            "chart",
            json!({ "kind": "cost_by_option" }),
            Code::InvalidInput,
            "options",
        ),
        (
            "log_cost",
            json!({ "file": "log.csv", "price_list": "no-such-file" }),
            Code::InvalidInput,
            "price_list",
        ),
    ] {
        let error = files.run(op, arguments).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(says), "{}", error.message);
    }
    let cost = json!({ "file": "file_0.bin", "models": ["a"], "price_list": "prices.toml" });
    let cost = files.run("log_cost", cost).unwrap();
    assert_eq!(cost["price_list"]["origin"], "file prices.toml");
    assert_eq!(cost["price_list"]["date"], Value::Null);
}

#[test]
fn charts_are_sound_pictures_without_anything_active() {
    let files = Files::new(&[("log.csv", LITELLM)]);
    let evil = "<script>alert(1)</script> & \"quotes\"";
    let options = json!([{ "label": evil, "cost_usd": 12.5 }, { "label": "b", "cost_usd": 0.0 }]);
    for arguments in [
        json!({ "kind": "tokens_over_time", "title": evil }),
        json!({ "kind": "requests_per_minute" }),
        json!({ "kind": "token_histogram", "side": "output" }),
        json!({ "kind": "cost_by_option", "options": options, "name": "../../etc/x.svg" }),
    ] {
        let chart = files.run("chart", arguments).unwrap();
        let svg = chart["content"].as_str().unwrap();
        assert_eq!(chart["media_type"], "image/svg+xml");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        for banned in [
            "<script",
            "href",
            "url(",
            "onload",
            "<image",
            "<foreignObject",
            "style=",
        ] {
            assert!(!svg.contains(banned), "{banned}");
        }
        assert!(!chart["alt"].as_str().unwrap().is_empty());
        assert!(!chart["name"].as_str().unwrap().contains('/'));
    }
}

#[test]
fn charts_refuse_data_that_is_none() {
    let files = Files::new(&[]);
    for arguments in [
        json!({ "kind": "requests_per_minute", "time_series": { "bucket_seconds": 0, "points": [] } }),
        json!({ "kind": "requests_per_minute", "time_series": { "bucket_seconds": 60, "points": [{ "start": "x", "requests": 1 }] } }),
        json!({ "kind": "token_histogram", "histogram": { "bins": [{ "from": 5, "to": 5, "count": 1 }] } }),
        json!({ "kind": "cost_by_option", "options": [{ "label": "a", "cost_usd": -1.0 }] }),
    ] {
        assert_eq!(
            files.run("chart", arguments).unwrap_err().code,
            Code::InvalidInput
        );
    }
}

#[test]
fn every_operation_is_described_with_a_closed_schema() {
    let operations = jobs::operations();
    let names: Vec<&str> = operations.iter().map(|op| op.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "log_inspect",
            "log_profile",
            "log_cost",
            "what_if",
            "cost_drivers",
            "usage_growth",
            "usage_forecast",
            "latency_drivers",
            "rate_limits",
            "prompt_repeats",
            "log_anomalies",
            "pareto",
            "chart",
            "sql_query",
            "make_chart"
        ]
    );
    let files = Files::new(&[]);
    for operation in &operations {
        assert_eq!(operation.input_schema["additionalProperties"], false);
        let error = files.run(&operation.name, json!({})).unwrap_err();
        assert_ne!(error.code, Code::UnknownOperation);
    }
}

#[test]
fn results_stay_small_over_wide_and_varied_logs() {
    let header: Vec<String> = (0..800)
        .map(|i| format!("{}{i}", "\u{10348}".repeat(300)))
        .collect();
    let cells = vec!["\u{10348}".repeat(100); 800].join(",");
    let wide = format!("input_tokens,{}\n1,{cells}\n", header.join(","));
    let mut varied =
        String::from("timestamp,model,user,input_tokens,output_tokens,latency_ms,prompt\n");
    for row in 0..600 {
        let long = "\u{10348}".repeat(200);
        varied.push_str(&format!(
            "{},gpt-{row}{long},u{row}{long},{row},{row},{row},{long}\nbad{long}\n",
            row * 7_000
        ));
    }
    let models: Vec<Value> = (0..600)
        .map(|i| json!({ "id": format!("model-{i}"), "also": [format!("gpt-{i}{}*", "\u{10348}")], "input": 1, "output": 1 }))
        .collect();
    let list = json!({ "name": "many", "models": models });
    let files = Files::new(&[
        ("wide.csv", &wide),
        ("varied.csv", &varied),
        ("list.json", &list.to_string()),
    ]);
    for (op, arguments) in [
        ("log_inspect", json!({ "file": "wide.csv" })),
        ("log_inspect", json!({ "file": "varied.csv" })),
        ("log_profile", json!({ "file": "wide.csv" })),
        ("log_profile", json!({ "file": "varied.csv" })),
        (
            "log_cost",
            json!({ "file": "varied.csv", "price_list": "list.json" }),
        ),
        (
            "what_if",
            json!({ "file": "varied.csv", "price_list": "list.json",
            "scenarios": vec![json!({ "kind": "shorter_prompts", "fraction": 0.1, "label": "x".repeat(800) }); 20] }),
        ),
        (
            "cost_drivers",
            json!({ "file": "varied.csv", "price_list": "list.json" }),
        ),
        (
            "usage_forecast",
            json!({ "file": "varied.csv", "price_list": "list.json", "horizon": 120 }),
        ),
        (
            "usage_growth",
            json!({ "file": "varied.csv", "price_list": "list.json", "scenarios": vec![json!({ "requests": 2 }); 20] }),
        ),
        ("latency_drivers", json!({ "file": "varied.csv" })),
        ("rate_limits", json!({ "file": "varied.csv" })),
        ("prompt_repeats", json!({ "file": "varied.csv" })),
        (
            "log_anomalies",
            json!({ "file": "varied.csv", "threshold": 1 }),
        ),
    ] {
        files.run(op, arguments).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_file_gives_a_result_or_an_error(content in "(timestamp|date),(input_tokens|cost|user),(output_tokens|model|end_time)\n([0-9a-z.:, -]{0,30}\n){0,12}") {
        let files = Files::new(&[("any.csv", &content)]);
        for (op, arguments) in [
            ("log_inspect", json!({})),
            ("log_profile", json!({})),
            ("log_cost", json!({})),
            ("what_if", json!({ "scenarios": [{ "kind": "batching" }, { "kind": "prompt_caching", "cached_share": 1.0 }] })),
            ("chart", json!({ "kind": "tokens_over_time" })),
            ("chart", json!({ "kind": "token_histogram" })),
        ] {
            if let Err(error) = files.run(op, arguments) {
                prop_assert_ne!(error.code, Code::Internal, "{}", error.message);
            }
        }
    }
}
