//! What makes cost and waiting, peaks, growth and choices: every number once more, from the rows, without the crate.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::files::Files;
use crate::traffic::{Row, close, csv, price_list, rank, traffic};

/// What a row costs in dollars: `alpha` has a price for prompts above 6,000 tokens, `gamma` none at all.
fn cost_of(row: &Row) -> Option<f64> {
    let (input, output) = match (row.model, row.input > 6_000) {
        ("alpha", false) => (2.0, 10.0),
        ("alpha", true) => (4.0, 20.0),
        ("beta", _) => (0.5, 1.5),
        _ => return None,
    };
    Some((f64::from(row.input) * input + f64::from(row.output) * output) / 1e6)
}

fn run(rows: &[Row], op: &str, mut arguments: Value) -> Value {
    let files = Files::new(&[("log.csv", &csv(rows))]);
    if ["cost_drivers", "usage_growth", "usage_forecast"].contains(&op) {
        arguments["price_list"] = price_list();
    }
    files.run(op, arguments).unwrap()
}

/// Requests and dollars by what `part` says of a row.
fn by<K: Ord>(rows: &[Row], part: impl Fn(&Row) -> K) -> BTreeMap<K, (u64, f64)> {
    let mut found: BTreeMap<K, (u64, f64)> = BTreeMap::new();
    for row in rows {
        if let Some(cost) = cost_of(row) {
            let one = found.entry(part(row)).or_default();
            one.0 += 1;
            one.1 += cost;
        }
    }
    found
}

#[test]
fn the_drivers_of_cost_are_those_of_the_rows() {
    let rows = traffic(4);
    let told = run(&rows, "cost_drivers", json!({}));
    let priced: Vec<&Row> = rows.iter().filter(|row| cost_of(row).is_some()).collect();
    let total: f64 = priced.iter().filter_map(|row| cost_of(row)).sum();
    assert_eq!(told["baseline"]["requests"], priced.len());
    close(&told["baseline"]["cost_usd"], total);
    close(
        &told["baseline"]["per_1000_requests_usd"],
        total * 1_000.0 / priced.len() as f64,
    );
    let input: u64 = priced.iter().map(|row| u64::from(row.input)).sum();
    assert_eq!(told["parts"][0]["tokens"], input);
    // The price of what is written follows from the length of the prompt too.
    let of_output = |row: &&Row| {
        let mut silent = (*row).clone();
        silent.output = 0;
        cost_of(row).unwrap() - cost_of(&silent).unwrap()
    };
    let output: f64 = priced.iter().map(of_output).sum();
    close(&told["parts"][1]["cost_usd"], output);
    close(&told["parts"][1]["share_of_cost"], output / total);

    let check = |field: &str, wanted: BTreeMap<String, (u64, f64)>| {
        let parts = told[field].as_array().unwrap();
        assert_eq!(parts.len(), wanted.len(), "{field}");
        for part in parts {
            let (requests, cost) = wanted[part["name"].as_str().unwrap()];
            assert_eq!(part["requests"], requests, "{part}");
            close(&part["cost_usd"], cost);
            close(&part["share_of_cost"], cost / total);
            close(
                &part["share_of_requests"],
                requests as f64 / priced.len() as f64,
            );
        }
    };
    check("by_model", by(&rows, |row| row.model.to_owned()));
    check("by_user", by(&rows, |row| row.user.clone()));
    check(
        "by_hour",
        by(&rows, |row| {
            let hour = row.second / 3_600 % 24;
            format!("{hour:02}:00 to {:02}:00 UTC", (hour + 1) % 24)
        }),
    );
    let edges = [0_u32, 256, 1_024, 4_096, 16_384];
    let lengths = by(&rows, |row| {
        edges
            .iter()
            .filter(|edge| **edge <= row.input)
            .max()
            .copied()
    });
    for part in told["by_prompt_length"].as_array().unwrap() {
        let (requests, cost) = lengths[&part["from"].as_u64().map(|from| from as u32)];
        assert_eq!(part["requests"], requests);
        close(&part["cost_usd"], cost);
    }
    let mut each: Vec<f64> = priced.iter().filter_map(|row| cost_of(row)).collect();
    each.sort_by(|a, b| b.total_cmp(a));
    for top in told["concentration"].as_array().unwrap() {
        let count =
            (each.len() * top["most_expensive_percent"].as_u64().unwrap() as usize).div_ceil(100);
        assert_eq!(top["requests"], count);
        close(
            &top["share_of_cost"],
            each[..count].iter().sum::<f64>() / total,
        );
    }
    let first = &told["drivers"][0];
    assert!(first["excess"].as_f64().unwrap() > 0.1, "{first}");
    close(
        &first["excess"],
        first["share_of_cost"].as_f64().unwrap() - first["share_of_requests"].as_f64().unwrap(),
    );
    let unpriced = rows.len() - priced.len();
    assert!(
        told["assumptions"]
            .to_string()
            .contains(&format!("{unpriced} requests are left out")),
        "{}",
        told["assumptions"]
    );
}

#[test]
fn the_drivers_of_latency_are_those_of_the_rows() {
    let rows = traffic(4);
    let told = run(&rows, "latency_drivers", json!({}));
    let sorted = |rows: &[&Row]| {
        let mut all: Vec<f64> = rows.iter().map(|row| row.latency).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let all: Vec<&Row> = rows.iter().collect();
    let latencies = sorted(&all);
    for percent in [50, 90, 95, 99] {
        close(
            &told["latency_ms"][format!("p{percent}")],
            rank(&latencies, percent),
        );
    }
    let slow_from = rank(&latencies, 95);
    close(&told["slow_from_ms"], slow_from);
    let slow: Vec<&Row> = rows.iter().filter(|row| row.latency >= slow_from).collect();
    assert_eq!(told["slow_requests"], slow.len());
    for part in told["by_model"].as_array().unwrap() {
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| part["name"] == row.model)
            .collect();
        assert_eq!(part["count"], of.len());
        close(&part["p95"], rank(&sorted(&of), 95));
    }
    // The traffic is made so: 200 ms, 0.05 ms for each input token, 12 for each output token, twice that on alpha.
    let fit = told["by_model"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == "beta")
        .unwrap();
    let fit = &fit["fit"];
    assert!(
        (fit["ms_per_output_token"].as_f64().unwrap() - 12.0).abs() < 0.5,
        "{fit}"
    );
    assert!(
        (fit["ms_per_input_token"].as_f64().unwrap() - 0.05).abs() < 0.02,
        "{fit}"
    );
    let whole = least_squares(&rows);
    for (field, wanted) in ["base_ms", "ms_per_input_token", "ms_per_output_token"]
        .into_iter()
        .zip(whole)
    {
        let told = told["fit"][field].as_f64().unwrap();
        assert!(
            (told - wanted).abs() < 1e-4 * wanted.abs().max(1.0),
            "{field}: {told}, {wanted}"
        );
    }
    let mut minutes: BTreeMap<i64, u64> = BTreeMap::new();
    for row in &rows {
        *minutes.entry(row.second / 60).or_default() += 1;
    }
    let mut counted = 0;
    for part in told["by_load"].as_array().unwrap() {
        let span = part["from"].as_u64().unwrap()..=part["to"].as_u64().unwrap();
        let of: Vec<&Row> = rows
            .iter()
            .filter(|row| span.contains(&minutes[&(row.second / 60)]))
            .collect();
        assert_eq!(part["count"], of.len(), "{part}");
        close(&part["p50"], rank(&sorted(&of), 50));
        counted += of.len();
    }
    assert_eq!(counted, rows.len());
    let worst = &told["bottlenecks"][0];
    assert!(worst["times_as_often"].as_f64().unwrap() > 1.2);
    let alpha = told["bottlenecks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|b| b["name"] == "alpha")
        .unwrap();
    let of_slow = slow.iter().filter(|row| row.model == "alpha").count() as f64 / slow.len() as f64;
    close(&alpha["share_of_slow"], of_slow);
}

/// Base, and the factors of input and output, from the normal equations by elimination.
fn least_squares(rows: &[Row]) -> [f64; 3] {
    let mut m = [[0.0_f64; 4]; 3];
    for row in rows {
        let x = [1.0, f64::from(row.input), f64::from(row.output)];
        for i in 0..3 {
            for j in 0..3 {
                m[i][j] += x[i] * x[j];
            }
            m[i][3] += x[i] * row.latency;
        }
    }
    for i in 0..3 {
        let pivot = m[i][i];
        m[i].iter_mut().for_each(|cell| *cell /= pivot);
        let above = m[i];
        for (k, line) in m.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = line[i];
            assert!(k < 3);
            line.iter_mut()
                .zip(above)
                .for_each(|(cell, a)| *cell -= factor * a);
        }
    }
    [m[0][3], m[1][3], m[2][3]]
}

#[test]
fn peaks_and_waits_are_those_of_the_minutes() {
    let rows = traffic(2);
    let arguments = json!({ "requests_per_minute": 3, "tokens_per_minute": 9_000, "growth": 1.5 });
    let told = run(&rows, "rate_limits", arguments);
    let first = rows[0].second / 60;
    let count = (rows.last().unwrap().second / 60 - first + 1) as usize;
    let (mut requests, mut tokens) = (vec![0_u64; count], vec![0_u64; count]);
    for row in &rows {
        requests[(row.second / 60 - first) as usize] += 1;
        tokens[(row.second / 60 - first) as usize] += u64::from(row.input) + u64::from(row.output);
    }
    for (field, minutes, limit) in [
        ("requests_per_minute", requests, 3_u64),
        ("tokens_per_minute", tokens, 9_000),
    ] {
        let grown: Vec<u64> = minutes
            .iter()
            .map(|count| (*count as f64 * 1.5).ceil() as u64)
            .collect();
        let backlog = |limit: u64| {
            let (mut waiting, mut most) = (0_u64, 0_u64);
            for count in &grown {
                waiting = (waiting + count).saturating_sub(limit);
                most = most.max(waiting);
            }
            most
        };
        let side = &told[field];
        assert_eq!(side["calendar_minutes"], count);
        assert_eq!(side["max"], *grown.iter().max().unwrap());
        let under = &side["limit"];
        assert_eq!(
            under["minutes_over"],
            grown.iter().filter(|count| **count > limit).count()
        );
        assert_eq!(under["largest_backlog"], backlog(limit), "{field}");
        close(
            &under["longest_wait_minutes"],
            (backlog(limit) as f64 / limit as f64 * 1e3).round() / 1e3,
        );
        for needed in side["needed"].as_array().unwrap() {
            let wait = needed["longest_wait_minutes"].as_u64().unwrap();
            let limit = needed["limit"].as_u64().unwrap();
            assert!(backlog(limit) <= wait * limit, "{needed} is enough");
            assert!(
                backlog(limit - 1) > wait * (limit - 1),
                "{needed}: one less is not"
            );
        }
    }
}

#[test]
fn growth_prices_longer_prompts_by_their_length() {
    let rows = traffic(3);
    let scenarios = json!([{ "requests": 2 }, { "input_tokens": 1.5, "output_tokens": 0.5 }]);
    let told = run(&rows, "usage_growth", json!({ "scenarios": scenarios }));
    let days = (rows.last().unwrap().second - rows[0].second) as f64 / 86_400.0;
    let now: f64 = rows.iter().filter_map(cost_of).sum();
    close(&told["observed_days"], days);
    close(&told["now"]["cost_usd"], now);
    close(&told["now"]["cost_per_30_days_usd"], now / days * 30.0);
    close(&told["scenarios"][0]["cost_usd"], 2.0 * now);
    close(&told["scenarios"][0]["more_usd"], now);
    let longer = |row: &Row| {
        let (input, output) = (f64::from(row.input) * 1.5, f64::from(row.output) * 0.5);
        let (a, b) = match (row.model, input > 6_000.0) {
            ("alpha", false) => (2.0, 10.0),
            ("alpha", true) => (4.0, 20.0),
            ("beta", _) => (0.5, 1.5),
            _ => return None,
        };
        Some((input * a + output * b) / 1e6)
    };
    let then: f64 = rows.iter().filter_map(longer).sum();
    close(&told["scenarios"][1]["cost_usd"], then);

    let short: Vec<Row> = rows.iter().take(50).cloned().collect();
    let told = run(
        &short,
        "usage_growth",
        json!({ "scenarios": [{ "requests": 2 }] }),
    );
    assert_eq!(told["scenarios"][0]["cost_per_day_usd"], Value::Null);
    assert_eq!(told["missing"][0]["field"], "cost_per_day_usd");
}

#[test]
fn the_pareto_set_is_what_nothing_beats() {
    let mut seed = 7_u64;
    let options: Vec<Value> = (0..40)
        .map(|n| {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 60) as f64
            };
            json!({ "name": format!("o{n}"), "values": { "saving": next(), "risk": next(), "effort": next() } })
        })
        .collect();
    let objectives = json!([
        { "field": "saving", "better": "higher" }, { "field": "risk", "better": "lower" }, { "field": "effort", "better": "lower" },
    ]);
    let files = Files::new::<&str>(&[]);
    let told = files
        .run(
            "pareto",
            json!({ "options": options, "objectives": objectives }),
        )
        .unwrap();
    let value = |option: &Value, field: &str| option["values"][field].as_f64().unwrap();
    for (option, row) in options.iter().zip(told["options"].as_array().unwrap()) {
        let beaten = options.iter().any(|other| {
            let as_good = value(other, "saving") >= value(option, "saving")
                && value(other, "risk") <= value(option, "risk")
                && value(other, "effort") <= value(option, "effort");
            as_good && other["values"] != option["values"]
        });
        assert_eq!(row["pareto"], !beaten, "{row}");
        assert_eq!(row["beaten_by"].is_null(), !beaten);
    }
    assert!(told["content"].as_str().unwrap().contains("<circle"));
    let lacking =
        json!({ "options": [{ "name": "a", "values": { "x": 1 } }], "objectives": objectives });
    assert!(
        files
            .run("pareto", lacking)
            .unwrap_err()
            .message
            .contains("no option")
    );
}

#[test]
fn what_a_log_does_not_tell_is_refused_in_words() {
    let files = Files::new(&[
        (
            "times.csv",
            "timestamp,note\n2024-01-01T00:00:00Z,a\n2024-01-01T00:00:10Z,b\n",
        ),
        (
            "sums.csv",
            "start_time,model,num_model_requests,input_tokens,output_tokens\n1730419200,alpha,10,1000,50\n",
        ),
    ]);
    for (op, file, words) in [
        ("cost_drivers", "times.csv", "cannot be priced"),
        ("latency_drivers", "times.csv", "no column for latency"),
        ("latency_drivers", "sums.csv", "nothing of latency"),
        ("rate_limits", "sums.csv", "rows are sums"),
        ("usage_forecast", "times.csv", "48 complete hours"),
        ("log_anomalies", "times.csv", "60 complete minutes"),
    ] {
        let error = files.run(op, json!({ "file": file })).unwrap_err();
        assert!(error.message.contains(words), "{op}: {}", error.message);
    }
    let told = files
        .run("prompt_repeats", json!({ "file": "times.csv" }))
        .unwrap();
    assert_eq!(told["basis"], Value::Null);
    assert!(
        told["missing"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("prompt_hash")
    );
}
