//! The profile of a log: how much, when, how large, how fast, by whom. Every number is exact.

use serde_json::{Map, Value, json};

use crate::log::{Cell, Log, Names, Values};
use crate::output::{self, Missing, round, share};
use crate::stats;
use crate::times::{self, Base, HOUR, MINUTE, SECOND};

/// The most points of a time series.
const MAX_POINTS: i64 = 120;
/// How many of the longest pauses are told.
const MAX_GAPS: usize = 5;
/// How many models or users are told one by one.
const MAX_GROUPS: usize = 20;

/// The whole profile.
pub(crate) fn profile(log: &Log) -> Value {
    let mut missing = Missing::default();
    let mut assumptions = output::reading_assumptions(log);
    let mut out = Map::new();
    counts(log, &mut out);
    out.insert("percentile_method".into(), json!(stats::PERCENTILE_METHOD));
    sizes(log, &mut missing, &mut out);
    in_time(log, &mut missing, &mut out);
    for (field, column, names, values) in [
        ("by_model", "model", &log.models, &log.model),
        ("by_user", "user", &log.users, &log.user),
    ] {
        if let Some(reason) = output::gap_in(log, column, values.present()) {
            missing.add(column, reason);
        }
        out.insert(field.into(), groups(log, names, values));
        if names.overflow > 0 {
            assumptions.push(format!(
                "{} rows have a {column} beyond the first 100,000 different ones and are counted under none",
                output::thousands(names.overflow)
            ));
        }
    }
    out.insert("missing".into(), missing.into_value());
    out.insert("assumptions".into(), json!(assumptions));
    Value::Object(out)
}

fn counts(log: &Log, out: &mut Map<String, Value>) {
    out.insert("file".into(), json!(log.file));
    out.insert("format".into(), json!(log.format));
    out.insert("kind".into(), json!(log.kind.name()));
    out.insert("records".into(), json!(log.records()));
    out.insert("rows".into(), json!(log.rows));
    out.insert("bad_rows".into(), output::bad_rows(log));
    out.insert("other_rows".into(), json!(log.other_rows));
    let definition = "rows whose text is the same as that of an earlier row; they are counted in all other numbers";
    out.insert(
        "duplicates".into(),
        json!({ "count": log.duplicates, "definition": definition }),
    );
    out.insert("requests".into(), json!(log.total_requests()));
}

fn sizes(log: &Log, missing: &mut Missing, out: &mut Map<String, Value>) {
    let aggregated = log.is_aggregated();
    if aggregated {
        let reason =
            "rows are sums over several requests, so the size of a single request is unknown";
        missing.add("percentiles", reason);
    }
    let mut histograms = Map::new();
    for (field, side, column) in [
        ("input_tokens", Some("input"), &log.input),
        ("output_tokens", Some("output"), &log.output),
        ("cached_input_tokens", None, &log.cached),
    ] {
        if let Some(reason) = output::gap_in(log, field, column.present()) {
            missing.add(field, reason);
        }
        let mut sorted: Vec<u32> = column.iter().collect();
        sorted.sort_unstable();
        out.insert(field.into(), token_summary(log, field, &sorted, aggregated));
        if let Some(side) = side {
            let histogram = if aggregated {
                None
            } else {
                stats::histogram(&sorted)
            };
            histograms.insert(side.into(), histogram.unwrap_or(Value::Null));
        }
    }
    out.insert("token_histogram".into(), Value::Object(histograms));
    if let Some(reason) = output::gap_in(log, "latency", log.latency_micros.present()) {
        missing.add("latency", reason);
    }
    out.insert("latency_ms".into(), latency(log));
    if let Some(reason) = output::gap_in(log, "cost", log.cost_pico.present()) {
        missing.add("cost", reason);
    }
    let cost: i128 = log.cost_pico.iter().map(i128::from).sum();
    let logged = (log.cost_pico.present() > 0).then(|| output::usd(cost));
    out.insert("logged_cost_usd".into(), json!(logged));
    let hits: u64 = log.cache_hit.iter().map(u64::from).sum();
    let of = log.cache_hit.present();
    let cache = if of > 0 {
        json!({ "count": hits, "of": of })
    } else {
        Value::Null
    };
    out.insert("cache_hits".into(), cache);
}

fn token_summary(log: &Log, field: &str, sorted: &[u32], aggregated: bool) -> Value {
    if sorted.is_empty() {
        return Value::Null;
    }
    let total: u64 = sorted.iter().map(|v| u64::from(*v)).sum();
    let wide: Vec<i64> = sorted.iter().map(|v| i64::from(*v)).collect();
    let mut out = stats::summary(&wide, 1);
    if aggregated {
        for (name, value) in &mut out {
            if name != "count" {
                *value = Value::Null;
            }
        }
    }
    out.insert("total".into(), json!(total));
    if field == "cached_input_tokens" {
        let input: u64 = log.input.iter().map(u64::from).sum();
        out.insert("share_of_input".into(), share(total, input));
    }
    Value::Object(out)
}

fn latency(log: &Log) -> Value {
    if log.latency_micros.present() == 0 {
        return Value::Null;
    }
    let mut sorted: Vec<i64> = log.latency_micros.iter().collect();
    sorted.sort_unstable();
    Value::Object(stats::summary(&sorted, 1_000))
}

/// Sums over a stretch of time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) input: u64,
    pub(crate) output: u64,
}

impl Load {
    fn add(&mut self, log: &Log, row: usize) {
        self.requests += log.requests_of(row);
        self.input += log.input.get(row).map_or(0, u64::from);
        self.output += log.output.get(row).map_or(0, u64::from);
    }

    /// Input and output tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.input + self.output
    }

    fn put(&self, log: &Log, out: &mut Map<String, Value>) {
        let known = |values: &Values<u32>, sum: u64| (values.present() > 0).then_some(sum);
        out.insert("requests".into(), json!(self.requests));
        out.insert("input_tokens".into(), json!(known(&log.input, self.input)));
        out.insert(
            "output_tokens".into(),
            json!(known(&log.output, self.output)),
        );
    }
}

/// The rows that have a time, in the order of time.
pub(crate) fn ordered(log: &Log) -> (Vec<u32>, u64) {
    let mut order: Vec<u32> = Vec::with_capacity(log.time.present());
    let mut before = i64::NONE;
    let mut out_of_order = 0;
    for row in 0..log.rows {
        if let (Some(time), Ok(number)) = (log.time.get(row), u32::try_from(row)) {
            out_of_order += u64::from(time < before);
            before = time;
            order.push(number);
        }
    }
    if out_of_order > 0 {
        order.sort_by_key(|row| log.time.get(*row as usize));
    }
    (order, out_of_order)
}

fn in_time(log: &Log, missing: &mut Missing, out: &mut Map<String, Value>) {
    let (order, out_of_order) = ordered(log);
    let at = |index: usize| order.get(index).and_then(|row| log.time.get(*row as usize));
    out.insert("out_of_order_rows".into(), json!(out_of_order));
    out.insert("time_base".into(), json!(log.base.map(Base::name)));
    if let Some(reason) = output::gap_in(log, "timestamp", order.len()) {
        missing.add("timestamp", reason);
    }
    let (Some(first), Some(last), Some(base)) = (at(0), at(order.len().wrapping_sub(1)), log.base)
    else {
        let absent = [
            "first_ts",
            "last_ts",
            "duration_seconds",
            "rates",
            "peak_minute",
        ];
        for field in absent
            .into_iter()
            .chain(["peak_minute_by_tokens", "peak_hour", "time_series"])
        {
            out.insert(field.into(), Value::Null);
        }
        out.insert("gaps".into(), json!([]));
        return;
    };
    if base == Base::FirstDay {
        missing.add(
            "calendar_date",
            "the times count from the first day of the log, which it does not name",
        );
    }
    out.insert("first_ts".into(), json!(times::format(first, base)));
    out.insert("last_ts".into(), json!(times::format(last, base)));
    let seconds = (i128::from(last) - i128::from(first)) as f64 / SECOND as f64;
    out.insert("duration_seconds".into(), json!(round(seconds, 6)));
    rates(log, &order, base, out);
    out.insert("gaps".into(), gaps(log, &order, base));
    out.insert("time_series".into(), series(log, &order, base, first, last));
}

/// The load of each stretch of `width` nanoseconds that has a row, by its start, in order.
pub(crate) fn loads(log: &Log, order: &[u32], width: i64) -> Vec<(i64, Load)> {
    let mut found: Vec<(i64, Load)> = Vec::new();
    for row in order {
        let row = *row as usize;
        let Some(time) = log.time.get(row) else {
            continue;
        };
        let number = time.div_euclid(width);
        if found.last().is_none_or(|(last, _)| *last != number) {
            found.push((number, Load::default()));
        }
        if let Some((_, load)) = found.last_mut() {
            load.add(log, row);
        }
    }
    found
}

fn rates(log: &Log, order: &[u32], base: Base, out: &mut Map<String, Value>) {
    let minutes = loads(log, order, MINUTE);
    let calendar = match (minutes.first(), minutes.last()) {
        (Some(first), Some(last)) => last.0.abs_diff(first.0) + 1,
        _ => 0,
    };
    let mut counts: Vec<u64> = minutes.iter().map(|(_, load)| load.requests).collect();
    counts.sort_unstable();
    // The minutes without a request come first in sorted order and need not be stored.
    let empty = calendar - counts.len() as u64;
    let rank = |percent: u64| {
        let rank = (u128::from(calendar) * u128::from(percent))
            .div_ceil(100)
            .max(1) as u64;
        if rank <= empty {
            0
        } else {
            counts
                .get((rank - empty - 1) as usize)
                .copied()
                .unwrap_or(0)
        }
    };
    let mut all = Load::default();
    for (_, load) in &minutes {
        all.requests += load.requests;
        all.input += load.input;
        all.output += load.output;
    }
    let mean = |sum: u64| round(sum as f64 / calendar as f64, 3);
    let known = |values: &Values<u32>, sum: u64| (values.present() > 0).then(|| mean(sum));
    let rates = json!({
        "calendar_minutes": calendar,
        "active_minutes": minutes.len(),
        "requests_per_minute": {
            "mean": mean(all.requests), "p50": rank(50), "p95": rank(95), "p99": rank(99),
            "max": counts.last(),
        },
        "input_tokens_per_minute_mean": known(&log.input, all.input),
        "output_tokens_per_minute_mean": known(&log.output, all.output),
    });
    out.insert("rates".into(), rates);
    let average = all.requests as f64 / calendar as f64;
    let peak = |loads: &[(i64, Load)], width: i64, by: fn(&Load) -> u64| {
        // The first of equals wins: `max_by_key` gives the last one, hence the reversal.
        let Some((number, load)) = loads.iter().rev().max_by_key(|(_, load)| by(load)) else {
            return Map::new();
        };
        let mut peak = Map::new();
        let start = number.saturating_mul(width);
        peak.insert("start".into(), json!(times::format(start, base)));
        peak.insert(
            "end".into(),
            json!(times::format(start.saturating_add(width), base)),
        );
        load.put(log, &mut peak);
        if width == MINUTE && average > 0.0 {
            peak.insert(
                "times_mean".into(),
                json!(round(load.requests as f64 / average, 3)),
            );
        }
        peak
    };
    let hours = loads(log, order, HOUR);
    out.insert(
        "peak_minute".into(),
        peak(&minutes, MINUTE, |load| load.requests).into(),
    );
    let by_tokens = log.input.present() + log.output.present() > 0;
    let heaviest = by_tokens.then(|| peak(&minutes, MINUTE, Load::tokens));
    out.insert("peak_minute_by_tokens".into(), json!(heaviest));
    out.insert(
        "peak_hour".into(),
        peak(&hours, HOUR, |load| load.requests).into(),
    );
}

fn gaps(log: &Log, order: &[u32], base: Base) -> Value {
    let mut longest: Vec<(i64, i64, i64)> = Vec::new();
    for pair in order.windows(2) {
        let (Some(from), Some(to)) = (
            log.time.get(pair[0] as usize),
            log.time.get(pair[1] as usize),
        ) else {
            continue;
        };
        let pause = to.saturating_sub(from);
        let full = longest.len() == MAX_GAPS;
        if pause == 0 || (full && longest.last().is_some_and(|(least, _, _)| *least >= pause)) {
            continue;
        }
        let place = longest.partition_point(|(other, _, _)| *other >= pause);
        longest.insert(place, (pause, from, to));
        longest.truncate(MAX_GAPS);
    }
    let shown = longest.iter().map(|(pause, from, to)| {
        json!({
            "from": times::format(*from, base),
            "to": times::format(*to, base),
            "seconds": round(*pause as f64 / SECOND as f64, 6),
        })
    });
    shown.collect()
}

/// The finest round width that needs no more than [`MAX_POINTS`]; whole minutes for all but the shortest logs.
fn bucket(first: i64, last: i64) -> i64 {
    const WIDTHS: [i64; 19] = [
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400,
        604_800, 2_592_000,
    ];
    let span = |width: i64| last.div_euclid(width * SECOND) - first.div_euclid(width * SECOND) + 1;
    let short = last.saturating_sub(first) < 10 * MINUTE;
    let fits = |width: &&i64| (short || **width >= 60) && span(**width) <= MAX_POINTS;
    let found = WIDTHS.iter().find(fits).copied().unwrap_or(31_536_000);
    // A log over more than a century is one of broken times; it still gets an answer.
    let mut width = found;
    while span(width) > MAX_POINTS {
        width *= 2;
    }
    width * SECOND
}

fn series(log: &Log, order: &[u32], base: Base, first: i64, last: i64) -> Value {
    let width = bucket(first, last);
    let found = loads(log, order, width);
    let mut next = found.iter().peekable();
    let mut points = Vec::new();
    for number in first.div_euclid(width)..=last.div_euclid(width) {
        let load = next
            .next_if(|(at, _)| *at == number)
            .map_or(Load::default(), |(_, load)| *load);
        let mut point = Map::new();
        point.insert(
            "start".into(),
            json!(times::format(number.saturating_mul(width), base)),
        );
        load.put(log, &mut point);
        points.push(Value::Object(point));
    }
    json!({ "bucket_seconds": width / SECOND, "points": points })
}

fn groups(log: &Log, names: &Names, values: &Values<u32>) -> Value {
    if values.present() == 0 {
        return Value::Null;
    }
    let mut loads = vec![Load::default(); names.len()];
    let mut unnamed = Load::default();
    for row in 0..log.rows {
        match values
            .get(row)
            .and_then(|number| loads.get_mut(number as usize))
        {
            Some(load) => load.add(log, row),
            None => unnamed.add(log, row),
        }
    }
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_key(|index| (std::cmp::Reverse(loads[*index].requests), *index));
    let total = log.total_requests();
    let shown: Vec<Value> = order
        .iter()
        .take(MAX_GROUPS)
        .map(|index| {
            let name = u32::try_from(*index).map_or("", |number| names.name(number));
            let mut group = Map::new();
            group.insert("name".into(), json!(name));
            loads[*index].put(log, &mut group);
            group.insert(
                "share_of_requests".into(),
                share(loads[*index].requests, total),
            );
            Value::Object(group)
        })
        .collect();
    let mut rest = unnamed;
    for index in order.iter().skip(MAX_GROUPS) {
        rest.requests += loads[*index].requests;
        rest.input += loads[*index].input;
        rest.output += loads[*index].output;
    }
    let mut others = Map::new();
    rest.put(log, &mut others);
    let others = if rest.requests > 0 {
        Value::Object(others)
    } else {
        Value::Null
    };
    json!({ "distinct": names.len(), "shown": shown, "rest": others })
}
