//! What is to come: trend and season of the traffic, with the error that the same method made on days it had not seen.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::baseline::Baseline;
use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round};
use crate::prices::PriceList;
use crate::series::{Bucket, Least, Series};
use crate::tally;

/// How far ahead is looked at most, in buckets.
const MAX_HORIZON: usize = 120;
/// What is shown of the past, in buckets.
const MAX_HISTORY: usize = 100;
const LEAST: Least = Least {
    days: 14,
    hours: 48,
    minutes: None,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    /// In buckets: days or hours.
    horizon: Option<usize>,
    baseline_model: Option<String>,
    pub(crate) price_list: Option<Value>,
}

/// How the next values are guessed from those before. In the order of simplicity: the first of equals is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Mean,
    Trend,
    Season(usize),
    TrendAndSeason(usize),
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Trend => "trend",
            Self::Season(_) => "season",
            Self::TrendAndSeason(_) => "trend_and_season",
        }
    }

    fn period(self) -> Option<usize> {
        match self {
            Self::Mean | Self::Trend => None,
            Self::Season(period) | Self::TrendAndSeason(period) => Some(period),
        }
    }
}

/// A straight line through values at 0, 1, 2 and so on, by least squares.
#[derive(Debug, Clone, Copy)]
struct Line {
    base: f64,
    slope: f64,
}

impl Line {
    fn through(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let middle = (n - 1.0) / 2.0;
        let mean = mean(values);
        let (mut up, mut across) = (0.0, 0.0);
        for (at, value) in values.iter().enumerate() {
            let x = at as f64 - middle;
            up += x * (value - mean);
            across += x * x;
        }
        let slope = if across > 0.0 { up / across } else { 0.0 };
        Self {
            base: mean - slope * middle,
            slope,
        }
    }

    fn at(self, at: usize) -> f64 {
        self.base + self.slope * at as f64
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The forecast.
pub(crate) fn forecast(log: &Log, list: &PriceList, arguments: &Arguments) -> Result<Value, Error> {
    let priceable = tally::needs_tokens(log).is_ok();
    let baseline = match priceable {
        true => Baseline::of(log, list, arguments.baseline_model.as_deref()).ok(),
        false => None,
    };
    let Some(series) = Series::of(log, baseline.as_ref(), LEAST) else {
        return Err(Error::invalid(format!(
            "{} is too short for a forecast: it needs times over at least {} complete hours, or {} complete days where rows \
             are sums of a day",
            log.file, LEAST.hours, LEAST.days
        )));
    };
    let usual = if series.unit() == "day" { 30 } else { 48 };
    let horizon = arguments.horizon.unwrap_or(usual);
    if horizon == 0 || horizon > MAX_HORIZON {
        return Err(Error::invalid(format!(
            "horizon must be from 1 to {MAX_HORIZON}"
        )));
    }
    let mut missing = Missing::default();
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("unit".into(), json!(series.unit()));
    out.insert("complete_buckets".into(), json!(series.buckets.len()));
    out.insert("first".into(), json!(series.start(0)));
    out.insert("horizon".into(), json!(horizon));
    let mut metrics = Map::new();
    type Metric = (&'static str, bool, fn(&Bucket) -> f64, i32);
    let all: [Metric; 4] = [
        ("requests", true, |b| b.requests as f64, 3),
        (
            "input_tokens",
            log.input.present() > 0,
            |b| b.input as f64,
            3,
        ),
        (
            "output_tokens",
            log.output.present() > 0,
            |b| b.output as f64,
            3,
        ),
        ("cost_usd", baseline.is_some(), |b| b.cost as f64 / 1e12, 9),
    ];
    for (name, known, pick, decimals) in all {
        if !known {
            missing.add(
                name,
                format!("the log has nothing that {name} could be computed from"),
            );
            metrics.insert(name.into(), Value::Null);
            continue;
        }
        let values: Vec<f64> = series.buckets.iter().map(pick).collect();
        metrics.insert(name.into(), one_metric(&series, &values, horizon, decimals));
    }
    out.insert("metrics".into(), Value::Object(metrics));
    out.insert("missing".into(), missing.into_value());
    let mut assumptions = baseline.map_or_else(
        || output::reading_assumptions(log),
        |b| b.assumptions(log, list),
    );
    assumptions.push("what comes goes on like what was: no launch, no holiday, no new customer is known to the log".into());
    assumptions.push(
        "the first and the last bucket of the log are left out, since it may begin and end within them; times are in UTC"
            .into(),
    );
    out.insert("assumptions".into(), json!(assumptions));
    Ok(Value::Object(out))
}

/// The longest period that two thirds of the values still show twice.
fn period(series: &Series, train: usize) -> Option<usize> {
    series
        .periods()
        .iter()
        .copied()
        .find(|period| train >= 2 * period)
}

/// How many of the last values are kept from the method, to see how well it would have done.
fn hold_out(series: &Series, count: usize) -> usize {
    let fifth = count.div_ceil(5);
    let whole = series
        .periods()
        .iter()
        .copied()
        .find(|period| count >= 3 * period);
    whole
        .map_or(fifth, |period| fifth.max(period))
        .min(count / 2)
}

fn one_metric(series: &Series, values: &[f64], horizon: usize, decimals: i32) -> Value {
    let held = hold_out(series, values.len());
    let train = values.len() - held;
    let mut methods = vec![Method::Mean, Method::Trend];
    if let Some(period) = period(series, train) {
        methods.extend([Method::Season(period), Method::TrendAndSeason(period)]);
    }
    let actual = &values[train..];
    let mut tried = Vec::new();
    let mut best: Option<(f64, Method, Vec<f64>)> = None;
    for method in methods {
        let guessed = guess(series, &values[..train], method, held);
        let errors: Vec<f64> = guessed
            .iter()
            .zip(actual)
            .map(|(g, a)| (g - a).abs())
            .collect();
        let mae = mean(&errors);
        let sum: f64 = actual.iter().sum();
        let relative = (sum > 0.0).then(|| round(errors.iter().sum::<f64>() / sum, 6));
        tried.push(json!({
            "method": method.name(), "mean_absolute_error": round(mae, decimals), "error_share": relative,
        }));
        if best.as_ref().is_none_or(|(least, ..)| mae < *least) {
            best = Some((mae, method, errors));
        }
    }
    let Some((_, method, mut errors)) = best else {
        return Value::Null;
    };
    errors.sort_by(f64::total_cmp);
    let band = errors[(errors.len() * 90).div_ceil(100).max(1) - 1];
    let next = guess(series, values, method, horizon);
    let points: Vec<Value> = next
        .iter()
        .enumerate()
        .map(|(at, value)| {
            json!({
                "start": series.start(values.len() + at), "value": round(*value, decimals),
                "low": round((value - band).max(0.0), decimals), "high": round(value + band, decimals),
            })
        })
        .collect();
    let line = Line::through(values);
    let shown = values.len().saturating_sub(MAX_HISTORY);
    let history = values.iter().enumerate().skip(shown);
    let history: Vec<Value> = history
        .map(|(at, value)| json!({ "start": series.start(at), "value": round(*value, decimals) }))
        .collect();
    json!({
        "method": method.name(),
        "hold_out": { "buckets": held, "tried": tried, "band": round(band, decimals) },
        "trend_per_bucket": round(line.slope, decimals + 3),
        "mean": round(mean(values), decimals),
        "season": season(series, values, method.period(), decimals),
        "total_of_horizon": round(next.iter().sum(), decimals),
        "points": points,
        "history": history,
    })
}

/// The next `count` values; what cannot be negative is not.
fn guess(series: &Series, values: &[f64], method: Method, count: usize) -> Vec<f64> {
    let line = match method {
        Method::Trend | Method::TrendAndSeason(_) => Line::through(values),
        Method::Mean | Method::Season(_) => Line {
            base: mean(values),
            slope: 0.0,
        },
    };
    let season = method
        .period()
        .map(|period| (period, deviations(series, values, line, period)));
    let one = |at: usize| {
        let more = season
            .as_ref()
            .map_or(0.0, |(period, means)| means[series.phase(at, *period)]);
        (line.at(at) + more).max(0.0)
    };
    (values.len()..values.len() + count).map(one).collect()
}

/// By how much each phase lies off the line, in the mean.
fn deviations(series: &Series, values: &[f64], line: Line, period: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0_u32); period];
    for (at, value) in values.iter().enumerate() {
        let (sum, count) = &mut sums[series.phase(at, period)];
        *sum += value - line.at(at);
        *count += 1;
    }
    sums.into_iter()
        .map(|(sum, count)| {
            if count > 0 {
                sum / f64::from(count)
            } else {
                0.0
            }
        })
        .collect()
}

/// The means of the phases, and how much of the ups and downs they explain.
fn season(series: &Series, values: &[f64], period: Option<usize>, decimals: i32) -> Value {
    let Some(period) = period else {
        return Value::Null;
    };
    let all = mean(values);
    let flat = Line {
        base: all,
        slope: 0.0,
    };
    let means = deviations(series, values, flat, period);
    let (mut whole, mut rest) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let off = value - all;
        whole += off * off;
        let left = off - means[series.phase(at, period)];
        rest += left * left;
    }
    let by_phase: Vec<f64> = means
        .iter()
        .map(|more| round(all + more, decimals))
        .collect();
    json!({
        "period": period, "first_phase": series.phase(0, period), "means": by_phase,
        "explains": (whole > 0.0).then(|| round(1.0 - rest / whole, 6)),
    })
}
