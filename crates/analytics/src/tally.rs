//! Exact sums of tokens by model and by price tier, and what they cost: the one place where tokens become money.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::log::Log;
use crate::output::usd;
use crate::prices::{Model, Rates, per_million};

/// A whole as the fractions here are counted: in millionths.
pub(crate) const WHOLE: u32 = 1_000_000;

/// Sums over some rows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) input: u64,
    /// Part of `input`.
    pub(crate) cached: u64,
    pub(crate) output: u64,
}

impl Sums {
    fn add(&mut self, requests: u64, input: u32, cached: u32, output: u32) {
        self.requests += requests;
        self.input += u64::from(input);
        self.cached += u64::from(cached);
        self.output += u64::from(output);
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            input: self.input + other.input,
            cached: self.cached + other.cached,
            output: self.output + other.output,
        }
    }
}

/// Sums by the tier of the prompt's length.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiers {
    pub(crate) standard: Sums,
    /// Requests whose prompt is longer than the model's threshold.
    pub(crate) long: Sums,
    /// Requests whose output was cut by a cap.
    pub(crate) capped: u64,
    pub(crate) rows: u64,
    /// Rows that have a logged cost, and its sum in pico-dollars.
    pub(crate) logged_rows: u64,
    pub(crate) logged: i128,
}

impl Tiers {
    pub(crate) fn all(&self) -> Sums {
        self.standard.plus(self.long)
    }
}

/// Into which groups the rows fall. All groups are summed in one pass, since a log may name very many models.
#[derive(Debug, Default, Clone)]
pub(crate) struct Groups {
    /// The group of each model number of the log; a row without one falls into `otherwise`.
    pub(crate) of_model: Vec<usize>,
    pub(crate) otherwise: usize,
    /// The threshold of the long-context price of each group; its length is the number of groups.
    pub(crate) above: Vec<Option<u32>>,
}

impl Groups {
    /// One group that holds every row.
    pub(crate) fn single(above: Option<u32>) -> Self {
        Self {
            of_model: Vec::new(),
            otherwise: 0,
            above: vec![above],
        }
    }
}

/// How the traffic is changed before it is priced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    /// The part of the input tokens that stays, in millionths.
    pub(crate) keep_input: u32,
    /// The part of the input tokens that comes from the cache, in millionths; `None`: as logged.
    pub(crate) cached: Option<u32>,
    /// The most output tokens of a request.
    pub(crate) cap_output: Option<u32>,
    /// The part of the requests that goes by the batch interface, in millionths.
    pub(crate) batch: u32,
    /// The discount of the batch interface in millionths; `None`: the batch prices of the list.
    pub(crate) discount: Option<u32>,
}

impl Default for Change {
    fn default() -> Self {
        Self {
            keep_input: WHOLE,
            cached: None,
            cap_output: None,
            batch: 0,
            discount: None,
        }
    }
}

/// Sums the rows of each group. The tier of a row follows from the length of its prompt after the change; rows that stand
/// for several requests have no such length and count as standard.
pub(crate) fn sum(log: &Log, groups: &Groups, change: &Change) -> Vec<Tiers> {
    let mut found = vec![Tiers::default(); groups.above.len()];
    let single = !log.is_aggregated();
    for row in 0..log.rows {
        let named = log
            .model
            .get(row)
            .and_then(|n| groups.of_model.get(n as usize))
            .copied();
        let group = named.unwrap_or(groups.otherwise);
        let Some(tiers) = found.get_mut(group) else {
            continue;
        };
        tiers.rows += 1;
        if let Some(pico) = log.cost_pico.get(row) {
            tiers.logged_rows += 1;
            tiers.logged += i128::from(pico);
        }
        let input = log.input.get(row).unwrap_or(0);
        let cached = log.cached.get(row).unwrap_or(0);
        let mut output = log.output.get(row).unwrap_or(0);
        if let Some(cap) = change.cap_output
            && output > cap
        {
            output = cap;
            tiers.capped += 1;
        }
        let kept = u64::from(input) * u64::from(change.keep_input);
        let above = groups.above[group].filter(|_| single);
        let long = above.is_some_and(|above| kept > u64::from(above) * u64::from(WHOLE));
        let sums = if long {
            &mut tiers.long
        } else {
            &mut tiers.standard
        };
        sums.add(log.requests_of(row), input, cached, output);
    }
    found
}

/// Sums every row as if all went to one model.
pub(crate) fn sum_all(log: &Log, above: Option<u32>, change: &Change) -> Tiers {
    sum(log, &Groups::single(above), change)
        .pop()
        .unwrap_or_default()
}

/// The parts of a cost, in pico-dollars.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    /// For input tokens, cached ones included.
    pub(crate) input: i128,
    pub(crate) output: i128,
}

impl Cost {
    pub(crate) fn total(self) -> i128 {
        self.input + self.output
    }

    fn part(self, millionths: u32) -> Self {
        let whole = i128::from(WHOLE);
        let of = |pico: i128| (pico * i128::from(millionths) + whole / 2) / whole;
        Self {
            input: of(self.input),
            output: of(self.output),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            input: self.input + other.input,
            output: self.output + other.output,
        }
    }
}

/// Why a change has no price.
pub(crate) type Unpriced = String;

/// What the sums cost on a model after a change. Batch and cached prices come from the list or from the change; where
/// neither has one, there is no answer.
pub(crate) fn cost(model: &Model, tiers: &Tiers, change: &Change) -> Result<Cost, Unpriced> {
    let mut total = Cost::default();
    let long = model.long;
    let parts = [
        (tiers.standard, model.rates, model.batch),
        (
            tiers.long,
            long.map_or(model.rates, |long| long.rates),
            long.map_or(model.batch, |long| long.batch),
        ),
    ];
    for (sums, rates, batch) in parts {
        if sums == Sums::default() {
            continue;
        }
        let plain = tier_cost(model, &sums, &rates, change)?;
        total = total.plus(plain.part(WHOLE - change.batch));
        if change.batch == 0 {
            continue;
        }
        let batched = match (change.discount, batch) {
            (Some(discount), _) => plain.part(WHOLE - discount),
            (None, Some(batch)) => {
                // A list without a batch price for cached tokens bills them like others of the batch.
                let cached_input = batch.cached_input.or(Some(batch.input));
                tier_cost(
                    model,
                    &sums,
                    &Rates {
                        cached_input,
                        ..batch
                    },
                    change,
                )?
            }
            (None, None) => {
                return Err(format!(
                    "the price list has no batch price for {} and no discount was given",
                    model.id
                ));
            }
        };
        total = total.plus(batched.part(change.batch));
    }
    Ok(total)
}

fn tier_cost(model: &Model, sums: &Sums, rates: &Rates, change: &Change) -> Result<Cost, Unpriced> {
    let whole = i128::from(WHOLE);
    // In millionths of a token.
    let input = i128::from(sums.input) * i128::from(change.keep_input);
    let (cached, price) = match change.cached {
        None => (
            i128::from(sums.cached) * i128::from(change.keep_input),
            rates.cached_input.unwrap_or(rates.input),
        ),
        Some(share) => {
            let price = rates.cached_input.ok_or_else(|| {
                format!(
                    "the price list has no price for cached input tokens of {}",
                    model.id
                )
            })?;
            (input * i128::from(share) / whole, price)
        }
    };
    let fresh = (input - cached) * i128::from(rates.input);
    let reused = cached * i128::from(price);
    Ok(Cost {
        input: (fresh + reused + whole / 2) / whole,
        output: i128::from(sums.output) * i128::from(rates.output),
    })
}

/// The prices of a model as variables of a formula, in dollars per million tokens.
pub(crate) fn price_variables(
    model: &Model,
    tiers: &Tiers,
    batch: bool,
    out: &mut Map<String, Value>,
) {
    let mut put = |prefix: &str, rates: &Rates| {
        let name = |what: &str| format!("{prefix}{what}_usd_per_mtok");
        out.insert(name("price_input"), json!(per_million(rates.input)));
        if let Some(cached) = rates.cached_input {
            out.insert(name("price_cached_input"), json!(per_million(cached)));
        }
        out.insert(name("price_output"), json!(per_million(rates.output)));
    };
    put("", &model.rates);
    if let (true, Some(rates)) = (batch, &model.batch) {
        put("batch_", rates);
    }
    if let (Some(long), true) = (&model.long, tiers.long != Sums::default()) {
        put("long_", &long.rates);
        if let (true, Some(rates)) = (batch, &long.batch) {
            put("long_batch_", rates);
        }
        out.insert("long_above_tokens".into(), json!(long.above));
        out.insert("long_requests".into(), json!(tiers.long.requests));
        out.insert("long_input_tokens".into(), json!(tiers.long.input));
        out.insert("long_output_tokens".into(), json!(tiers.long.output));
    }
}

/// The sums as variables of a formula.
pub(crate) fn sum_variables(log: &Log, sums: &Sums, out: &mut Map<String, Value>) {
    let cached = (log.cached.present() > 0).then_some(sums.cached);
    out.insert("requests".into(), json!(sums.requests));
    out.insert("input_tokens".into(), json!(sums.input));
    out.insert("cached_input_tokens".into(), json!(cached));
    out.insert("output_tokens".into(), json!(sums.output));
}

/// The plain formula of a cost.
pub(crate) fn formula(log: &Log, tiers: &Tiers) -> String {
    let mut text = if log.cached.present() > 0 {
        "cost = (input_tokens - cached_input_tokens) × price_input + cached_input_tokens × price_cached_input \
         + output_tokens × price_output"
    } else {
        "cost = input_tokens × price_input + output_tokens × price_output"
    }
    .to_owned();
    if tiers.long != Sums::default() {
        text.push_str("; requests with a prompt above long_above_tokens use the long_ prices");
    }
    text
}

/// What pricing needs of the log, or why it cannot be.
pub(crate) fn needs_tokens(log: &Log) -> Result<(), Error> {
    for (what, values) in [("input_tokens", &log.input), ("output_tokens", &log.output)] {
        if values.present() == 0 {
            let reason = crate::output::gap_in(log, what, 0).unwrap_or_default();
            return Err(Error::invalid(format!(
                "{} cannot be priced: {reason}",
                log.file
            )));
        }
    }
    Ok(())
}

/// What pricing takes for granted about this log and these models.
pub(crate) fn pricing_assumptions(log: &Log, models: &[&Model]) -> Vec<String> {
    let mut found = Vec::new();
    if log.cached.present() == 0 {
        found.push(
            "no input token came from a prompt cache, since the log has no column for it"
                .to_owned(),
        );
    } else {
        let lacking: Vec<&str> = models
            .iter()
            .filter(|m| m.rates.cached_input.is_none())
            .map(|m| m.id.as_str())
            .collect();
        if !lacking.is_empty() {
            found.push(format!(
                "cached tokens are billed as fresh ones on {}, for which the list has no cached price",
                lacking.join(", ")
            ));
        }
    }
    if log.is_aggregated() && models.iter().any(|m| m.long.is_some()) {
        found.push(
            "no prompt is long enough for a long-context price, since rows are sums of requests"
                .to_owned(),
        );
    }
    for (what, values) in [("input", &log.input), ("output", &log.output)] {
        let lacking = log.rows - values.present();
        if lacking > 0 {
            found.push(format!(
                "{lacking} rows without {what} tokens cost nothing for these"
            ));
        }
    }
    found
}

/// A cost in dollars.
pub(crate) fn dollars(cost: Cost) -> f64 {
    usd(cost.total())
}
