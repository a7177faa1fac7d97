//! Peaks against the limits of a provider: how full the minutes are, which go over a limit, and how long requests would
//! have to wait if they were spread out.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round};
use crate::profile::{Load, loads, ordered};
use crate::times::{self, Base, MINUTE};

/// How many of the fullest minutes are told.
const MAX_SHOWN: usize = 5;
/// Waits, in minutes, for which the least sufficient limit is told.
const WAITS: [u64; 4] = [0, 1, 5, 60];
const MAX_GROWTH: f64 = 1_000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    growth: Option<f64>,
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Requests,
    Tokens,
}

impl Unit {
    fn of(self, load: &Load) -> u64 {
        match self {
            Self::Requests => load.requests,
            Self::Tokens => load.tokens(),
        }
    }
}

/// The minutes that have requests, by number, with what is counted; the empty ones between are known by their absence.
type Minutes = Vec<(i64, u64)>;

/// Peaks and what the limits do to them.
pub(crate) fn rate_limits(log: &Log, arguments: &Arguments) -> Result<Value, Error> {
    let growth = arguments.growth.unwrap_or(1.0);
    if !(growth > 0.0 && growth <= MAX_GROWTH) {
        return Err(Error::invalid(format!(
            "growth must be above 0 and at most {MAX_GROWTH}, not {growth}"
        )));
    }
    let (order, _) = ordered(log);
    let minutes = loads(log, &order, MINUTE);
    let (Some(base), false) = (log.base, minutes.is_empty()) else {
        let reason = output::gap_in(log, "timestamp", 0).unwrap_or_default();
        return Err(Error::invalid(format!(
            "{} tells nothing of minutes: {reason}",
            log.file
        )));
    };
    if log.is_aggregated() {
        return Err(Error::invalid(format!(
            "{} tells nothing of minutes: rows are sums over longer times",
            log.file
        )));
    }
    let has_tokens = log.input.present() + log.output.present() > 0;
    let mut missing = Missing::default();
    if !has_tokens {
        missing.add("tokens_per_minute", "the log has no tokens");
    }
    let side = |unit: Unit, limit: Option<u64>| {
        let grown = |load: &Load| (unit.of(load) as f64 * growth).ceil() as u64;
        let minutes: Minutes = minutes
            .iter()
            .map(|(at, load)| (*at, grown(load)))
            .collect();
        one_side(&minutes, limit, base)
    };
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("growth".into(), json!(growth));
    out.insert(
        "requests_per_minute".into(),
        side(Unit::Requests, arguments.requests_per_minute),
    );
    let tokens = has_tokens.then(|| side(Unit::Tokens, arguments.tokens_per_minute));
    out.insert("tokens_per_minute".into(), json!(tokens));
    out.insert("formula".into(), json!(
        "backlog of a minute = max(0, backlog of the one before + what comes in it - limit); the wait is backlog divided by limit, \
         in minutes"
    ));
    out.insert("missing".into(), missing.into_value());
    let mut assumptions = output::reading_assumptions(log);
    assumptions.push(
        "tokens are counted in the minute in which the request starts, input and output together; providers count in \
         their own ways, some by what a request asks for and some over seconds"
            .to_owned(),
    );
    if (growth - 1.0).abs() > f64::EPSILON {
        assumptions.push(format!(
            "every minute grows alike, to {growth} times what it was"
        ));
    }
    out.insert("assumptions".into(), json!(assumptions));
    Ok(Value::Object(out))
}

fn one_side(minutes: &Minutes, limit: Option<u64>, base: Base) -> Value {
    let calendar = match (minutes.first(), minutes.last()) {
        (Some(first), Some(last)) => last.0.abs_diff(first.0) + 1,
        _ => 0,
    };
    let total: u128 = minutes.iter().map(|(_, count)| u128::from(*count)).sum();
    let mut fullest: Minutes = minutes.clone();
    fullest.sort_by_key(|(at, count)| (std::cmp::Reverse(*count), *at));
    let most = fullest.first().map_or(0, |(_, count)| *count);
    let shown = fullest.iter().take(MAX_SHOWN).map(|(at, count)| {
        json!({ "start": times::format(at.saturating_mul(MINUTE), base), "count": count })
    });
    let shown: Vec<Value> = shown.collect();
    let needed: Vec<Value> = WAITS
        .into_iter()
        .map(|wait| json!({ "longest_wait_minutes": wait, "limit": least_limit(minutes, wait, most) }))
        .collect();
    json!({
        "calendar_minutes": calendar,
        "mean": round(total as f64 / calendar as f64, 3),
        "max": most,
        "fullest": shown,
        "needed": needed,
        "limit": limit.map(|limit| under(minutes, limit)),
    })
}

/// What a limit does: minutes over it, and the wait of what is put off.
fn under(minutes: &Minutes, limit: u64) -> Value {
    let over: Vec<u64> = minutes
        .iter()
        .filter(|(_, count)| *count > limit)
        .map(|(_, count)| count - limit)
        .collect();
    let excess: u128 = over.iter().map(|over| u128::from(*over)).sum();
    let most = minutes.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let backlog = largest_backlog(minutes, limit);
    let wait = (limit > 0).then(|| round(backlog as f64 / limit as f64, 3));
    json!({
        "limit": limit, "minutes_over": over.len(), "over_in_sum": u64::try_from(excess).unwrap_or(u64::MAX),
        "largest_backlog": u64::try_from(backlog).unwrap_or(u64::MAX), "longest_wait_minutes": wait,
        "share_used_at_most": (limit > 0).then(|| round(most as f64 / limit as f64, 6)),
    })
}

fn largest_backlog(minutes: &Minutes, limit: u64) -> u128 {
    let (mut backlog, mut largest, mut before) = (0_u128, 0_u128, None::<i64>);
    for (at, count) in minutes {
        // Empty minutes work the backlog off.
        let empty = before.map_or(0, |before| at.abs_diff(before).saturating_sub(1));
        backlog = backlog.saturating_sub(u128::from(empty) * u128::from(limit));
        backlog = (backlog + u128::from(*count)).saturating_sub(u128::from(limit));
        largest = largest.max(backlog);
        before = Some(*at);
    }
    largest
}

/// The least limit under which nothing waits longer than so many minutes.
fn least_limit(minutes: &Minutes, wait: u64, most: u64) -> u64 {
    let (mut low, mut high) = (1, most.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if largest_backlog(minutes, middle) <= u128::from(wait) * u128::from(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_worked_off_in_the_quiet_minutes_after_it() {
        let minutes = vec![(0, 10), (1, 30), (4, 5)];
        // 10, then 30 of which 12 are done: 18 wait; two empty minutes do 18 of them.
        assert_eq!(largest_backlog(&minutes, 12), 18);
        assert_eq!(least_limit(&minutes, 0, 30), 30);
        // With 15 a minute, 15 wait one minute.
        assert_eq!(least_limit(&minutes, 1, 30), 15);
        let told = under(&minutes, 12);
        assert_eq!(
            (told["minutes_over"].as_u64(), told["over_in_sum"].as_u64()),
            (Some(1), Some(18))
        );
    }
}
