//! Forecasts and outliers, once more from the rows.

use serde_json::{Value, json};

use crate::files::Files;
use crate::traffic::{START, close, csv, price_list, rank, traffic};

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The next values by each of the four ways, from their definitions.
fn next(
    method: &str,
    values: &[f64],
    phase: impl Fn(usize) -> usize,
    period: usize,
    count: usize,
) -> Vec<f64> {
    let n = values.len() as f64;
    let (mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let x = at as f64;
        (sx, sy, sxx, sxy) = (sx + x, sy + value, sxx + x * x, sxy + x * value);
    }
    let slope = if method.starts_with("trend") {
        (n * sxy - sx * sy) / (n * sxx - sx * sx)
    } else {
        0.0
    };
    let base = (sy - slope * sx) / n;
    let line = |at: usize| base + slope * at as f64;
    let off = |wanted: usize| {
        let of: Vec<f64> = values
            .iter()
            .enumerate()
            .filter(|(at, _)| phase(*at) == wanted)
            .map(|(at, value)| value - line(at))
            .collect();
        mean(&of)
    };
    let seasonal = method.ends_with("season");
    (values.len()..values.len() + count)
        .map(|at| {
            (line(at)
                + if seasonal {
                    off(phase(at) % period)
                } else {
                    0.0
                })
            .max(0.0)
        })
        .collect()
}

/// Checks a metric of a forecast against the values of its buckets.
fn check(told: &Value, values: &[f64], first: i64, periods: &[usize], horizon: usize) {
    let n = values.len();
    let season = periods.iter().copied().find(|period| n >= 3 * period);
    let held = season
        .map_or(n.div_ceil(5), |period| n.div_ceil(5).max(period))
        .min(n / 2);
    assert_eq!(told["hold_out"]["buckets"], held);
    let (train, rest) = values.split_at(n - held);
    let period = periods
        .iter()
        .copied()
        .find(|period| train.len() >= 2 * period)
        .unwrap_or(1);
    let phase = |at: usize| ((first + at as i64) % period as i64) as usize;
    let mut best = (f64::INFINITY, "");
    for tried in told["hold_out"]["tried"].as_array().unwrap() {
        let method = ["mean", "trend", "season", "trend_and_season"]
            .into_iter()
            .find(|m| tried["method"] == *m)
            .unwrap();
        let errors: Vec<f64> = next(method, train, phase, period, held)
            .iter()
            .zip(rest)
            .map(|(a, b)| (a - b).abs())
            .collect();
        let mae = mean(&errors);
        assert!(
            (tried["mean_absolute_error"].as_f64().unwrap() - mae).abs() < 2e-3,
            "{tried}, {mae}"
        );
        close(
            &tried["error_share"],
            errors.iter().sum::<f64>() / rest.iter().sum::<f64>(),
        );
        if mae < best.0 {
            best = (mae, method);
            let mut errors = errors;
            errors.sort_by(f64::total_cmp);
            let band = rank(&errors, 90);
            if told["method"] == method {
                assert!((told["hold_out"]["band"].as_f64().unwrap() - band).abs() < 2e-3);
            }
        }
    }
    assert_eq!(
        told["method"], best.1,
        "the one with the least error is taken"
    );
    let points = told["points"].as_array().unwrap();
    let wanted = next(best.1, values, phase, period, horizon);
    assert_eq!(points.len(), horizon);
    for (point, wanted) in points.iter().zip(&wanted) {
        assert!(
            (point["value"].as_f64().unwrap() - wanted).abs() < 2e-3,
            "{point}, {wanted}"
        );
    }
    assert!((told["total_of_horizon"].as_f64().unwrap() - wanted.iter().sum::<f64>()).abs() < 2e-3);
}

#[test]
fn a_forecast_of_days_has_the_season_of_the_week() {
    let rows = traffic(30);
    let files = Files::new(&[("log.csv", &csv(&rows))]);
    let told = files
        .run(
            "usage_forecast",
            json!({ "horizon": 10, "price_list": price_list() }),
        )
        .unwrap();
    assert_eq!(
        (told["unit"].as_str(), told["complete_buckets"].as_u64()),
        (Some("day"), Some(28))
    );
    let first = START / 86_400 + 1;
    let (mut requests, mut input) = (vec![0.0; 28], vec![0.0; 28]);
    for row in &rows {
        let at = row.second / 86_400 - first;
        if (0..28).contains(&at) {
            requests[at as usize] += 1.0;
            input[at as usize] += f64::from(row.input);
        }
    }
    check(&told["metrics"]["requests"], &requests, first, &[7], 10);
    check(&told["metrics"]["input_tokens"], &input, first, &[7], 10);
    assert!(
        told["metrics"]["requests"]["method"]
            .as_str()
            .unwrap()
            .contains("season"),
        "weekends are quiet"
    );
    assert_eq!(told["metrics"]["requests"]["season"]["period"], 7);
    // 6 May 2024 is a Monday; the last complete day is the 29th of the log.
    assert_eq!(
        told["metrics"]["requests"]["points"][0]["start"],
        "2024-06-04T00:00:00Z"
    );
}

#[test]
fn a_forecast_of_hours_has_the_season_of_the_day() {
    let rows = traffic(5);
    let files = Files::new(&[("log.csv", &csv(&rows))]);
    let told = files
        .run("usage_forecast", json!({ "price_list": price_list() }))
        .unwrap();
    assert_eq!(
        (told["unit"].as_str(), told["horizon"].as_u64()),
        (Some("hour"), Some(48))
    );
    let first = START / 3_600 + 1;
    let mut requests = vec![0.0; 118];
    for row in &rows {
        let at = row.second / 3_600 - first;
        if (0..118).contains(&at) {
            requests[at as usize] += 1.0;
        }
    }
    check(
        &told["metrics"]["requests"],
        &requests,
        first,
        &[168, 24],
        48,
    );
    assert!(
        told["metrics"]["cost_usd"]["total_of_horizon"]
            .as_f64()
            .unwrap()
            > 0.0
    );
}

#[test]
fn a_burst_is_found_and_scored_against_the_same_hour_of_other_days() {
    let mut rows = traffic(6);
    let noon = START + 2 * 86_400 + 3 * 3_600;
    let like = rows.iter().find(|row| row.second > noon).unwrap().clone();
    for n in 0..200 {
        rows.push(crate::traffic::Row {
            second: noon + n,
            ..like.clone()
        });
    }
    rows.sort_by_key(|row| row.second);
    let files = Files::new(&[("log.csv", &csv(&rows))]);
    let told = files.run("log_anomalies", json!({})).unwrap();
    let first = START / 3_600 + 1;
    let mut requests = vec![0.0_f64; 142];
    for row in &rows {
        let at = row.second / 3_600 - first;
        if (0..142).contains(&at) {
            requests[at as usize] += 1.0;
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        if values.len() % 2 == 1 {
            values[half]
        } else {
            (values[half - 1] + values[half]) / 2.0
        }
    };
    let expected: Vec<f64> = (0..142)
        .map(|at| median(&mut requests.iter().skip(at % 24).step_by(24).copied().collect()))
        .collect();
    let mut off: Vec<f64> = requests
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .collect();
    let spread = 1.4826 * median(&mut off);
    let odd: Vec<(usize, f64)> = (0..142)
        .map(|at| (at, (requests[at] - expected[at]) / spread))
        .filter(|(_, score)| score.abs() > 3.5)
        .collect();
    let details = told["details"].as_array().unwrap();
    let of_requests: Vec<&Value> = details
        .iter()
        .filter(|one| one["metric_name"] == "requests")
        .collect();
    assert_eq!(of_requests.len(), odd.len());
    let burst = of_requests
        .iter()
        .find(|one| one["timestamp"] == "2024-05-08T03:00:00Z")
        .unwrap();
    let at = (noon / 3_600 - first) as usize;
    close(&burst["actual"], requests[at]);
    close(&burst["expected"], expected[at]);
    assert!(
        (burst["z_score"].as_f64().unwrap() - (requests[at] - expected[at]) / spread).abs() < 1e-3
    );
    assert_eq!(burst["severity"], "high");
    assert_eq!(told["anomalies_detected"], true);
    let strict = files
        .run("log_anomalies", json!({ "threshold": 20 }))
        .unwrap();
    let far = (0..142).filter(|at| ((requests[*at] - expected[*at]) / spread).abs() > 20.0);
    let strict = strict["details"].as_array().unwrap().iter();
    assert_eq!(
        strict
            .filter(|one| one["metric_name"] == "requests")
            .count(),
        far.count()
    );
}
