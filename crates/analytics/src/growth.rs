//! What the same kind of traffic costs when there is more of it: by day, by month, and in its peak minute.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::baseline::Baseline;
use crate::error::Error;
use crate::log::Log;
use crate::output::{Missing, round};
use crate::prices::PriceList;
use crate::profile::{loads, ordered};
use crate::tally::{self, Change, WHOLE};
use crate::times::MINUTE;

/// The most scenarios of a call.
const MAX_SCENARIOS: usize = 20;
/// How much more there may be of anything.
const MAX_FACTOR: f64 = 1_000.0;
const DAY_NANOS: i128 = 86_400_000_000_000;
const MONTH_DAYS: f64 = 30.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) baseline_model: Option<String>,
    pub(crate) price_list: Option<Value>,
}

/// How much more of what; 1 is as it is.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    #[serde(default = "as_it_is")]
    requests: f64,
    #[serde(default = "as_it_is")]
    input_tokens: f64,
    #[serde(default = "as_it_is")]
    output_tokens: f64,
}

fn as_it_is() -> f64 {
    1.0
}

/// What the log shows of one stretch of time.
struct Observed {
    days: Option<f64>,
    peak_requests: Option<u64>,
    peak_tokens: Option<u64>,
}

/// The schema of one scenario.
pub(crate) fn schema() -> Value {
    let factor = json!({ "type": "number", "minimum": 0, "maximum": MAX_FACTOR });
    json!({
        "type": "array", "minItems": 1, "maxItems": MAX_SCENARIOS,
        "description": "Factors of growth, 1 is as it is: requests (more users), input_tokens and output_tokens (of each request).",
        "items": {
            "type": "object",
            "properties": { "requests": factor, "input_tokens": factor, "output_tokens": factor },
            "additionalProperties": false,
        },
    })
}

/// The cost of each scenario of growth.
pub(crate) fn growth(log: &Log, list: &PriceList, arguments: &Arguments) -> Result<Value, Error> {
    if arguments.scenarios.is_empty() || arguments.scenarios.len() > MAX_SCENARIOS {
        return Err(Error::invalid(format!(
            "give 1 to {MAX_SCENARIOS} scenarios"
        )));
    }
    tally::needs_tokens(log)?;
    let baseline = Baseline::of(log, list, arguments.baseline_model.as_deref())?;
    let observed = observe(log);
    let mut missing = Missing::default();
    if observed.days.is_none() {
        missing.add(
            "cost_per_day_usd",
            "the log does not cover a whole day, so nothing can be said about a day or a month",
        );
    }
    let mut assumptions = baseline.assumptions(log, list);
    assumptions.push(
        "more traffic is of the same kind: the same mix of models, users, lengths and hours, so that all of it grows alike"
            .to_owned(),
    );
    let now = baseline.total() as f64;
    let mut scenarios = Vec::new();
    for scenario in &arguments.scenarios {
        let pico = grown(log, &baseline, *scenario)?;
        scenarios.push(answer(&observed, *scenario, (now, pico)));
    }
    let as_it_is = Scenario {
        requests: 1.0,
        input_tokens: 1.0,
        output_tokens: 1.0,
    };
    Ok(json!({
        "file": log.file,
        "price_list": list.describe(),
        "baseline": { "model": baseline.name, "assumed": baseline.assumed, "requests": baseline.all().all().requests },
        "observed_days": observed.days,
        "now": answer(&observed, as_it_is, (now, now)),
        "scenarios": scenarios,
        "formula": "cost = requests × (input_tokens × cost of the input + output_tokens × cost of the output); by day: divided \
            by observed_days, which is the time from the first to the last request; by 30 days: 30 times that",
        "missing": missing.into_value(),
        "assumptions": assumptions,
    }))
}

fn observe(log: &Log) -> Observed {
    let (order, _) = ordered(log);
    let at = |row: Option<&u32>| row.and_then(|row| log.time.get(*row as usize));
    let days = at(order.first())
        .zip(at(order.last()))
        .and_then(|(first, last)| {
            let span = i128::from(last) - i128::from(first);
            (span >= DAY_NANOS).then(|| span as f64 / DAY_NANOS as f64)
        });
    // A row that sums up a day has no minute.
    let minutes = match log.is_aggregated() {
        true => Vec::new(),
        false => loads(log, &order, MINUTE),
    };
    Observed {
        days,
        peak_requests: minutes.iter().map(|(_, load)| load.requests).max(),
        peak_tokens: minutes.iter().map(|(_, load)| load.tokens()).max(),
    }
}

/// The cost of the grown traffic, in pico-dollars. Longer prompts may pass the threshold of a price for long ones.
fn grown(log: &Log, baseline: &Baseline<'_>, scenario: Scenario) -> Result<f64, Error> {
    let Scenario {
        requests,
        input_tokens,
        output_tokens,
    } = scenario;
    for factor in [requests, input_tokens, output_tokens] {
        if !(0.0..=MAX_FACTOR).contains(&factor) {
            return Err(Error::invalid(format!(
                "a factor must be from 0 to {MAX_FACTOR}, not {factor}"
            )));
        }
    }
    let keep_input = (input_tokens * f64::from(WHOLE)).round() as u32;
    let change = Change {
        keep_input,
        ..Change::default()
    };
    let tiers = tally::sum(log, &baseline.groups, &change);
    let mut pico = 0.0;
    for (model, tiers) in baseline.models.iter().zip(&tiers) {
        let cost = tally::cost(model, tiers, &change).map_err(Error::internal)?;
        pico += requests * (cost.input as f64 + output_tokens * cost.output as f64);
    }
    Ok(pico)
}

/// One scenario; the amounts, now and then, are in pico-dollars.
fn answer(observed: &Observed, scenario: Scenario, (now, pico): (f64, f64)) -> Value {
    let dollars = round(pico / 1e12, 6);
    let a_day = observed.days.map(|days| pico / 1e12 / days);
    let scaled =
        |count: Option<u64>, factor: f64| count.map(|count| (count as f64 * factor).ceil() as u64);
    let longer = scenario.input_tokens.max(scenario.output_tokens);
    json!({
        "requests_factor": scenario.requests,
        "input_tokens_factor": scenario.input_tokens,
        "output_tokens_factor": scenario.output_tokens,
        "cost_usd": dollars,
        "more_usd": round((pico - now) / 1e12, 6),
        "cost_per_day_usd": a_day.map(|cost| round(cost, 6)),
        "cost_per_30_days_usd": a_day.map(|cost| round(cost * MONTH_DAYS, 6)),
        "peak_minute_requests": scaled(observed.peak_requests, scenario.requests),
        "peak_minute_tokens_at_most": scaled(observed.peak_tokens, scenario.requests * longer),
    })
}
