//! What makes the cost of a log: which tokens, models, users, lengths and hours, and how few requests make most of it.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::baseline::{Baseline, RowCost};
use crate::dimension::Dimension;
use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round, usd};
use crate::prices::PriceList;
use crate::tally;

/// How many parts of a dimension are told.
const MAX_PARTS: usize = 24;
/// How many drivers are told.
const MAX_DRIVERS: usize = 6;
/// The shares of the most expensive requests that are looked at, in percent.
const TOP: [usize; 4] = [1, 5, 10, 20];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    pub(crate) baseline_model: Option<String>,
    pub(crate) price_list: Option<Value>,
}

/// What some requests cost together.
#[derive(Debug, Default, Clone, Copy)]
struct Weight {
    requests: u64,
    pico: i128,
}

/// The whole of the priced requests, against which each part is held.
struct Whole {
    weight: Weight,
    parts: RowCost,
    tokens: (u64, u64, u64),
}

/// The drivers of a log's cost.
pub(crate) fn drivers(log: &Log, list: &PriceList, arguments: &Arguments) -> Result<Value, Error> {
    tally::needs_tokens(log)?;
    let baseline = Baseline::of(log, list, arguments.baseline_model.as_deref())?;
    let whole = Whole::of(log, &baseline);
    let mut missing = Missing::default();
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("price_list".into(), list.describe());
    let cost = whole.weight.pico;
    let each =
        (whole.weight.requests > 0).then(|| usd(cost * 1_000 / i128::from(whole.weight.requests)));
    out.insert(
        "baseline".into(),
        json!({
            "model": baseline.name, "assumed": baseline.assumed, "cost_usd": usd(cost),
            "requests": whole.weight.requests, "per_1000_requests_usd": each,
        }),
    );
    out.insert("parts".into(), whole.token_parts(log));
    let mut found = Vec::new();
    for dimension in Dimension::ALL {
        if !dimension.known(log) {
            out.insert(dimension.field().into(), Value::Null);
            missing.add(dimension.field(), why_unknown(log, dimension));
            continue;
        }
        let weights = weigh(log, &baseline, dimension);
        let parts = told(log, dimension, &weights, &whole.weight);
        found.extend(excess(dimension, &parts));
        out.insert(dimension.field().into(), json!(parts));
    }
    out.insert(
        "concentration".into(),
        concentration(log, &baseline, &whole.weight),
    );
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let drivers: Vec<Value> = found
        .into_iter()
        .take(MAX_DRIVERS)
        .map(|(_, driver)| driver)
        .collect();
    out.insert("drivers".into(), json!(drivers));
    out.insert("missing".into(), missing.into_value());
    out.insert("assumptions".into(), json!(baseline.assumptions(log, list)));
    Ok(Value::Object(out))
}

/// Why a log does not tell a dimension.
pub(crate) fn why_unknown(log: &Log, dimension: Dimension) -> String {
    let (column, present) = match dimension {
        Dimension::Model => ("model", log.model.present()),
        Dimension::User => ("user", log.user.present()),
        Dimension::PromptLength => ("input_tokens", log.input.present()),
        Dimension::OutputLength => ("output_tokens", log.output.present()),
        Dimension::Hour => ("timestamp", log.time.present()),
    };
    if present > 0 && log.is_aggregated() {
        return "rows are sums over several requests".to_owned();
    }
    if present > 0 {
        return "the times do not name a calendar day".to_owned();
    }
    output::gap_in(log, column, present).unwrap_or_default()
}

impl Whole {
    fn of(log: &Log, baseline: &Baseline<'_>) -> Self {
        let mut whole = Self {
            weight: Weight::default(),
            parts: RowCost::default(),
            tokens: (0, 0, 0),
        };
        for row in 0..log.rows {
            let Some(cost) = baseline.row(log, row) else {
                continue;
            };
            whole.weight.requests += log.requests_of(row);
            whole.weight.pico += cost.total();
            whole.parts.fresh += cost.fresh;
            whole.parts.cached += cost.cached;
            whole.parts.output += cost.output;
            let cached = u64::from(log.cached.get(row).unwrap_or(0));
            whole.tokens.0 += u64::from(log.input.get(row).unwrap_or(0)) - cached;
            whole.tokens.1 += cached;
            whole.tokens.2 += u64::from(log.output.get(row).unwrap_or(0));
        }
        whole
    }

    /// What input, cached input and output cost.
    fn token_parts(&self, log: &Log) -> Value {
        let part = |name: &str, tokens: u64, pico: i128| {
            json!({
                "name": name, "tokens": tokens, "cost_usd": usd(pico),
                "share_of_cost": of_whole(pico, self.weight.pico),
            })
        };
        let (fresh, cached, output) = self.tokens;
        let mut parts = vec![part("input_tokens", fresh, self.parts.fresh)];
        if log.cached.present() > 0 {
            parts.push(part("cached_input_tokens", cached, self.parts.cached));
        }
        parts.push(part("output_tokens", output, self.parts.output));
        json!(parts)
    }
}

/// A part of a cost, to six decimals.
fn of_whole(part: i128, whole: i128) -> Option<f64> {
    (whole > 0).then(|| round(part as f64 / whole as f64, 6))
}

fn weigh(log: &Log, baseline: &Baseline<'_>, dimension: Dimension) -> Vec<Weight> {
    let mut weights: Vec<Weight> = Vec::new();
    for row in 0..log.rows {
        let (Some(part), Some(cost)) = (dimension.part(log, row), baseline.row(log, row)) else {
            continue;
        };
        if weights.len() <= part {
            weights.resize(part + 1, Weight::default());
        }
        weights[part].requests += log.requests_of(row);
        weights[part].pico += cost.total();
    }
    weights
}

fn told(log: &Log, dimension: Dimension, weights: &[Weight], whole: &Weight) -> Vec<Value> {
    let mut order: Vec<usize> = (0..weights.len())
        .filter(|at| weights[*at].requests > 0)
        .collect();
    if !dimension.ordered() {
        order.sort_by_key(|at| (std::cmp::Reverse(weights[*at].pico), *at));
    }
    let one = |at: usize| {
        let weight = weights[at];
        let mut part = Map::new();
        dimension.put_name(log, at, &mut part);
        part.insert("requests".into(), json!(weight.requests));
        part.insert(
            "share_of_requests".into(),
            output::share(weight.requests, whole.requests),
        );
        part.insert("cost_usd".into(), json!(usd(weight.pico)));
        part.insert(
            "share_of_cost".into(),
            json!(of_whole(weight.pico, whole.pico)),
        );
        let each = usd(weight.pico * 1_000 / i128::from(weight.requests));
        part.insert("per_1000_requests_usd".into(), json!(each));
        Value::Object(part)
    };
    order.into_iter().take(MAX_PARTS).map(one).collect()
}

/// The parts that cost more than their share of the requests, with how much more.
fn excess(dimension: Dimension, parts: &[Value]) -> Vec<(f64, Value)> {
    let mut found = Vec::new();
    for part in parts {
        let (Some(cost), Some(requests)) = (
            part["share_of_cost"].as_f64(),
            part["share_of_requests"].as_f64(),
        ) else {
            continue;
        };
        let more = round(cost - requests, 6);
        if more > 0.01 {
            let driver = json!({
                "dimension": dimension.field(), "name": part["name"], "cost_usd": part["cost_usd"],
                "share_of_cost": cost, "share_of_requests": requests, "excess": more,
            });
            found.push((more, driver));
        }
    }
    found
}

/// How much of the cost the most expensive requests make; nothing where rows are sums.
fn concentration(log: &Log, baseline: &Baseline<'_>, whole: &Weight) -> Value {
    if log.is_aggregated() {
        return Value::Null;
    }
    let costs = (0..log.rows).filter_map(|row| baseline.row(log, row));
    let mut costs: Vec<i64> = costs
        .map(|cost| i64::try_from(cost.total()).unwrap_or(i64::MAX))
        .collect();
    costs.sort_unstable_by_key(|cost| std::cmp::Reverse(*cost));
    let top = |percent: usize| {
        let count = (costs.len() * percent).div_ceil(100);
        let pico: i128 = costs.iter().take(count).map(|cost| i128::from(*cost)).sum();
        json!({
            "most_expensive_percent": percent, "requests": count, "cost_usd": usd(pico),
            "share_of_cost": of_whole(pico, whole.pico),
        })
    };
    TOP.into_iter().map(top).collect()
}
