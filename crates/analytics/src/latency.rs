//! What makes answers slow, where the log has times: percentiles by model, length, hour and load, a straight line through
//! all requests, and which parts the slowest requests come from.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::dimension::Dimension;
use crate::drivers::why_unknown;
use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round, thousands};
use crate::stats::{nearest_rank, summary};
use crate::times::{self, MINUTE};

/// How many parts of a dimension are told.
const MAX_PARTS: usize = 24;
/// How many bottlenecks, and how many of the slowest requests.
const MAX_SHOWN: usize = 6;
/// The slowest requests are those from this percentile on.
const SLOW_PERCENT: usize = 95;
/// A part is a bottleneck only with so many slow requests.
const LEAST_SLOW: u64 = 5;
/// A line is laid through at least so many requests.
const LEAST_FIT: usize = 30;

/// One request with everything that its time may hang on.
struct Timed {
    row: usize,
    micros: i64,
}

/// The drivers of latency.
pub(crate) fn latency(log: &Log) -> Result<Value, Error> {
    let timed: Vec<Timed> = (0..log.rows)
        .filter_map(|row| {
            log.latency_micros
                .get(row)
                .map(|micros| Timed { row, micros })
        })
        .collect();
    if timed.is_empty() {
        let reason = output::gap_in(log, "latency", 0).unwrap_or_default();
        return Err(Error::invalid(format!(
            "{} tells nothing of latency: {reason}",
            log.file
        )));
    }
    if log.is_aggregated() {
        return Err(Error::invalid(format!(
            "{} tells nothing of latency: rows are sums over several requests",
            log.file
        )));
    }
    let mut sorted: Vec<i64> = timed.iter().map(|t| t.micros).collect();
    sorted.sort_unstable();
    let threshold = nearest_rank(&sorted, SLOW_PERCENT).unwrap_or(i64::MAX);
    let mut missing = Missing::default();
    if let Some(reason) = output::gap_in(log, "latency", timed.len()) {
        missing.add("latency", reason);
    }
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("latency_ms".into(), Value::Object(summary(&sorted, 1_000)));
    out.insert("output_tokens_per_second".into(), speed(log, &timed));
    let mut bottlenecks = Vec::new();
    for dimension in Dimension::ALL {
        if !dimension.known(log) {
            out.insert(dimension.field().into(), Value::Null);
            missing.add(dimension.field(), why_unknown(log, dimension));
            continue;
        }
        let parts = parts(&timed, &|t: &Timed| dimension.part(log, t.row));
        let name = |at: usize, out: &mut Map<String, Value>| dimension.put_name(log, at, out);
        let (told, slow) = told(
            log,
            (dimension.field(), dimension.ordered()),
            &parts,
            threshold,
            &name,
        );
        out.insert(dimension.field().into(), told);
        bottlenecks.extend(slow);
    }
    let (told, slow) = by_load(log, &timed, threshold);
    out.insert("by_load".into(), told);
    bottlenecks.extend(slow);
    let fit = fit(log, &timed.iter().collect::<Vec<_>>());
    if fit.is_null() {
        missing.add(
            "fit",
            format!(
                "a line needs input and output tokens of at least {LEAST_FIT} requests that differ"
            ),
        );
    }
    out.insert("fit".into(), fit);
    let slow = timed.iter().filter(|t| t.micros >= threshold).count();
    out.insert(
        "slow_from_ms".into(),
        json!(round(threshold as f64 / 1e3, 3)),
    );
    out.insert("slow_requests".into(), json!(slow));
    out.insert("bottlenecks".into(), ranked(bottlenecks, slow, timed.len()));
    out.insert("slowest".into(), slowest(log, &timed));
    out.insert("missing".into(), missing.into_value());
    out.insert(
        "assumptions".into(),
        json!(output::reading_assumptions(log)),
    );
    Ok(Value::Object(out))
}

/// How quickly answers are written: output tokens over the whole time of the request.
fn speed(log: &Log, timed: &[Timed]) -> Value {
    let rate = |t: &Timed| {
        let tokens = log.output.get(t.row).filter(|tokens| *tokens > 0)?;
        // In thousandths of a token per second, so that it is sorted as a whole number.
        (t.micros > 0).then(|| {
            i64::try_from(i128::from(tokens) * 1_000_000_000 / i128::from(t.micros))
                .unwrap_or(i64::MAX)
        })
    };
    let mut rates: Vec<i64> = timed.iter().filter_map(rate).collect();
    if rates.is_empty() {
        return Value::Null;
    }
    rates.sort_unstable();
    Value::Object(summary(&rates, 1_000))
}

/// The requests by part; a request without one is left out.
fn parts<'a>(
    timed: &'a [Timed],
    part: &dyn Fn(&Timed) -> Option<usize>,
) -> Vec<(usize, Vec<&'a Timed>)> {
    let mut found: HashMap<usize, Vec<&Timed>> = HashMap::new();
    for one in timed {
        if let Some(part) = part(one) {
            found.entry(part).or_default().push(one);
        }
    }
    let mut found: Vec<(usize, Vec<&Timed>)> = found.into_iter().collect();
    found.sort_by_key(|(part, _)| *part);
    found
}

/// A part whose requests are among the slowest more often than others.
struct Slow {
    dimension: &'static str,
    name: Value,
    requests: u64,
    slow: u64,
}

type Name<'a> = dyn Fn(usize, &mut Map<String, Value>) + 'a;

fn told(
    log: &Log,
    (field, ordered): (&'static str, bool),
    parts: &[(usize, Vec<&Timed>)],
    threshold: i64,
    name: &Name<'_>,
) -> (Value, Vec<Slow>) {
    let mut order: Vec<&(usize, Vec<&Timed>)> = parts.iter().collect();
    if !ordered {
        order.sort_by_key(|(part, requests)| (std::cmp::Reverse(requests.len()), *part));
    }
    let (mut told, mut slow) = (Vec::new(), Vec::new());
    for (part, requests) in order.into_iter().take(MAX_PARTS) {
        let mut sorted: Vec<i64> = requests.iter().map(|t| t.micros).collect();
        sorted.sort_unstable();
        let mut one = Map::new();
        name(*part, &mut one);
        one.append(&mut summary(&sorted, 1_000));
        if field == Dimension::Model.field() {
            one.insert("fit".into(), fit(log, requests));
        }
        slow.push(Slow {
            dimension: field,
            name: one["name"].clone(),
            requests: requests.len() as u64,
            slow: (sorted.len() - sorted.partition_point(|micros| *micros < threshold)) as u64,
        });
        told.push(Value::Object(one));
    }
    (json!(told), slow)
}

/// By how many requests began in the same minute, in quarters of the requests.
fn by_load(log: &Log, timed: &[Timed], threshold: i64) -> (Value, Vec<Slow>) {
    let mut minutes: HashMap<i64, u32> = HashMap::new();
    for row in 0..log.rows {
        if let Some(time) = log.time.get(row) {
            *minutes.entry(time.div_euclid(MINUTE)).or_default() += 1;
        }
    }
    let load = |t: &Timed| {
        minutes
            .get(&log.time.get(t.row)?.div_euclid(MINUTE))
            .copied()
    };
    let mut loads: Vec<u32> = timed.iter().filter_map(load).collect();
    loads.sort_unstable();
    let mut edges: Vec<u32> = [25, 50, 75, 100]
        .iter()
        .filter_map(|p| nearest_rank(&loads, *p))
        .collect();
    edges.dedup();
    if edges.is_empty() {
        return (Value::Null, Vec::new());
    }
    let parts = parts(timed, &|t| {
        load(t).map(|load| edges.partition_point(|edge| *edge < load))
    });
    let name = |at: usize, out: &mut Map<String, Value>| {
        let from = if at == 0 { 1 } else { edges[at - 1] + 1 };
        let (low, high) = (thousands(u64::from(from)), thousands(u64::from(edges[at])));
        let span = if low == high {
            low
        } else {
            format!("{low} to {high}")
        };
        out.insert(
            "name".into(),
            json!(format!("{span} requests in the same minute")),
        );
        out.insert("from".into(), json!(from));
        out.insert("to".into(), json!(edges[at]));
    };
    told(log, ("by_load", true), &parts, threshold, &name)
}

/// The parts that hold more of the slowest requests than of all, the most telling first.
fn ranked(found: Vec<Slow>, slow: usize, all: usize) -> Value {
    let mut rows: Vec<(f64, Value)> = Vec::new();
    for one in found {
        if one.slow < LEAST_SLOW || slow == 0 || all == 0 {
            continue;
        }
        let of_slow = one.slow as f64 / slow as f64;
        let of_all = one.requests as f64 / all as f64;
        if of_slow / of_all > 1.2 {
            let row = json!({
                "dimension": one.dimension, "name": one.name, "requests": one.requests, "slow_requests": one.slow,
                "share_of_slow": round(of_slow, 6), "share_of_requests": round(of_all, 6),
                "times_as_often": round(of_slow / of_all, 3),
            });
            rows.push((of_slow - of_all, row));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.into_iter()
        .take(MAX_SHOWN)
        .map(|(_, row)| row)
        .collect()
}

fn slowest(log: &Log, timed: &[Timed]) -> Value {
    let mut order: Vec<&Timed> = timed.iter().collect();
    order.sort_by_key(|t| (std::cmp::Reverse(t.micros), t.row));
    let one = |t: &&Timed| {
        let time = log
            .time
            .get(t.row)
            .zip(log.base)
            .map(|(time, base)| times::format(time, base));
        json!({
            "time": time, "latency_ms": round(t.micros as f64 / 1e3, 3),
            "model": log.model.get(t.row).map(|n| log.models.name(n)),
            "input_tokens": log.input.get(t.row), "output_tokens": log.output.get(t.row),
        })
    };
    order.iter().take(MAX_SHOWN).map(one).collect()
}

/// Sums of squares and products about the means: what a line of two variables is made of.
#[derive(Default)]
struct Moments {
    xx: f64,
    xy: f64,
    yy: f64,
    xz: f64,
    yz: f64,
    zz: f64,
}

/// Least squares: latency = base + a × input tokens + b × output tokens. Nothing where it is not determined.
fn fit(log: &Log, timed: &[&Timed]) -> Value {
    let point = |t: &&Timed| {
        let (x, y) = log.input.get(t.row).zip(log.output.get(t.row))?;
        Some((f64::from(x), f64::from(y), t.micros as f64 / 1e3))
    };
    let points: Vec<(f64, f64, f64)> = timed.iter().filter_map(point).collect();
    if points.len() < LEAST_FIT {
        return Value::Null;
    }
    let n = points.len() as f64;
    let mean = |pick: fn(&(f64, f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / n;
    let (mx, my, mz) = (mean(|p| p.0), mean(|p| p.1), mean(|p| p.2));
    let mut m = Moments::default();
    for (x, y, z) in &points {
        let (x, y, z) = (x - mx, y - my, z - mz);
        m.xx += x * x;
        m.xy += x * y;
        m.yy += y * y;
        m.xz += x * z;
        m.yz += y * z;
        m.zz += z * z;
    }
    let determinant = m.xx * m.yy - m.xy * m.xy;
    if determinant <= 1e-9 * m.xx * m.yy || m.zz <= 0.0 {
        return Value::Null;
    }
    let a = (m.xz * m.yy - m.yz * m.xy) / determinant;
    let b = (m.yz * m.xx - m.xz * m.xy) / determinant;
    json!({
        "formula": "latency_ms = base_ms + ms_per_input_token × input_tokens + ms_per_output_token × output_tokens",
        "requests": points.len(),
        "base_ms": round(mz - a * mx - b * my, 6),
        "ms_per_input_token": round(a, 6),
        "ms_per_output_token": round(b, 6),
        "r_squared": round((a * m.xz + b * m.yz) / m.zz, 6),
    })
}
