//! Stretches of time that are not like the others: a robust z score against the median, by hour of the day where the log
//! shows enough days.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round};
use crate::series::{Bucket, Least, Series};

/// Above this score a bucket is told, where the caller says nothing else. Common for the score from the median.
const THRESHOLD: f64 = 3.5;
/// How many are told; all are counted.
const MAX_SHOWN: usize = 50;
const LEAST: Least = Least {
    days: 30,
    hours: 48,
    minutes: Some(60),
};
/// Over so many days each hour of the day has a median of its own.
const LEAST_DAYS: usize = 3;
/// What makes the median of absolute deviations comparable to a standard deviation, and what does so for their mean.
const OF_MEDIAN: f64 = 1.4826;
const OF_MEAN: f64 = 1.253_314;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    threshold: Option<f64>,
}

/// One odd bucket.
struct Odd {
    at: usize,
    metric: &'static str,
    actual: f64,
    expected: f64,
    score: f64,
}

/// The buckets that stand out.
pub(crate) fn anomalies(log: &Log, arguments: &Arguments) -> Result<Value, Error> {
    let threshold = arguments.threshold.unwrap_or(THRESHOLD);
    if !(1.0..=100.0).contains(&threshold) {
        return Err(Error::invalid(format!(
            "threshold must be from 1 to 100, not {threshold}"
        )));
    }
    let Some(series) = Series::of(log, None, LEAST) else {
        return Err(Error::invalid(format!(
            "{} is too short to tell what is unusual: it needs times over at least 60 complete minutes, or 30 complete days \
             where rows are sums of a day",
            log.file
        )));
    };
    let mut missing = Missing::default();
    let mut found = Vec::new();
    let mut looked = Vec::new();
    type Pick = fn(&Bucket) -> Option<f64>;
    let metrics: [(&'static str, bool, Pick); 4] = [
        ("requests", true, |b| Some(b.requests as f64)),
        (
            "input_tokens_per_request",
            log.input.present() > 0,
            Bucket::input_per_request,
        ),
        (
            "output_tokens_per_request",
            log.output.present() > 0,
            Bucket::output_per_request,
        ),
        (
            "latency_ms",
            log.latency_micros.present() > 0,
            Bucket::latency_ms,
        ),
    ];
    for (metric, known, pick) in metrics {
        if known {
            looked.push(metric);
            let values: Vec<Option<f64>> = series.buckets.iter().map(pick).collect();
            found.extend(odd(&series, metric, &values, threshold));
        } else {
            missing.add(metric, "the log has no column for it");
        }
    }
    found.sort_by(|a, b| {
        b.score
            .abs()
            .total_cmp(&a.score.abs())
            .then(a.at.cmp(&b.at))
    });
    let count = found.len();
    let details: Vec<Value> = found
        .iter()
        .take(MAX_SHOWN)
        .map(|odd| odd.told(&series, threshold))
        .collect();
    Ok(json!({
        "file": log.file,
        "unit": series.unit(),
        "complete_buckets": series.buckets.len(),
        "analysis_period": { "from": series.start(0), "to": series.start(series.buckets.len()) },
        "metrics": looked,
        "threshold": threshold,
        "method": "z score = (value - expected) / spread; expected is the median, for hours over three days and more that of \
            the same hour of the day; spread is 1.4826 times the median of the absolute deviations from it, or 1.253314 times \
            their mean where that median is 0",
        "anomalies_detected": count > 0,
        "count": count,
        "details": details,
        "missing": missing.into_value(),
        "assumptions": output::reading_assumptions(log),
    }))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

fn odd(series: &Series, metric: &'static str, values: &[Option<f64>], threshold: f64) -> Vec<Odd> {
    let expected = expected(series, values);
    let off: Vec<(usize, f64, f64)> = values
        .iter()
        .zip(&expected)
        .enumerate()
        .filter_map(|(at, (value, expected))| value.map(|value| (at, value, *expected)))
        .collect();
    let mut deviations: Vec<f64> = off
        .iter()
        .map(|(_, value, expected)| (value - expected).abs())
        .collect();
    let mean = deviations.iter().sum::<f64>() / deviations.len().max(1) as f64;
    let spread = match median(&mut deviations) * OF_MEDIAN {
        spread if spread > 0.0 => spread,
        _ => mean * OF_MEAN,
    };
    if spread <= 0.0 {
        return Vec::new();
    }
    let scored = off.into_iter().map(|(at, actual, expected)| Odd {
        at,
        metric,
        actual,
        expected,
        score: (actual - expected) / spread,
    });
    scored.filter(|odd| odd.score.abs() > threshold).collect()
}

/// The median that a bucket is held against.
fn expected(series: &Series, values: &[Option<f64>]) -> Vec<f64> {
    let known: Vec<f64> = values.iter().copied().flatten().collect();
    let whole = median(&mut known.clone());
    // The two buckets that are left out at the ends count as covered.
    let covered = |period: &usize| values.len() + 2 >= LEAST_DAYS * period;
    let Some(period) = series.periods().last().copied().filter(covered) else {
        return vec![whole; values.len()];
    };
    let mut phases: Vec<Vec<f64>> = vec![Vec::new(); period];
    for (at, value) in values.iter().enumerate() {
        phases[series.phase(at, period)].extend(value);
    }
    let medians: Vec<f64> = phases
        .iter_mut()
        .map(|phase| {
            if phase.is_empty() {
                whole
            } else {
                median(phase)
            }
        })
        .collect();
    (0..values.len())
        .map(|at| medians[series.phase(at, period)])
        .collect()
}

impl Odd {
    fn told(&self, series: &Series, threshold: f64) -> Value {
        let severity = match self.score.abs() / threshold {
            times if times >= 3.0 => "high",
            times if times >= 1.5 => "medium",
            _ => "low",
        };
        let percent = (self.expected != 0.0)
            .then(|| round(100.0 * (self.actual - self.expected) / self.expected, 3));
        json!({
            "timestamp": series.start(self.at), "metric_name": self.metric,
            "actual": round(self.actual, 3), "expected": round(self.expected, 3),
            "deviation_percent": percent, "z_score": round(self.score, 3), "severity": severity,
        })
    }
}
