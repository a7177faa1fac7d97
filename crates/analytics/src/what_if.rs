//! What a change of the traffic would cost: one formula per kind of change, with its variables and its assumptions.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::baseline::{Baseline, priced, terms};
use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round, thousands, usd};
use crate::prices::{Model, PriceList};
use crate::tally::{self, Change, Tiers, WHOLE};

/// The most scenarios of a call, and the most steps of a combined one.
const MAX_SCENARIOS: usize = 20;
/// How many models are told one by one in a scenario, and in all scenarios together.
const MAX_TERMS: usize = 20;
const MAX_SCENARIO_TERMS: usize = 60;
/// The longest scenario, as JSON text in bytes.
const MAX_SCENARIO_BYTES: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    pub(crate) scenarios: Vec<Value>,
    pub(crate) baseline_model: Option<String>,
    pub(crate) price_list: Option<Value>,
}

/// One change as the caller writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Scenario {
    OtherModel {
        label: Option<String>,
        model: String,
    },
    ShorterPrompts {
        label: Option<String>,
        fraction: f64,
    },
    PromptCaching {
        label: Option<String>,
        cached_share: f64,
    },
    Batching {
        label: Option<String>,
        share: Option<f64>,
        discount: Option<f64>,
    },
    CappedOutput {
        label: Option<String>,
        max_tokens: u32,
    },
    Combined {
        label: Option<String>,
        steps: Vec<Scenario>,
    },
}

/// A scenario made ready for the sums.
#[derive(Default)]
struct Plan<'a> {
    change: Change,
    model: Option<&'a Model>,
    formulas: Vec<&'static str>,
    variables: Map<String, Value>,
    assumptions: Vec<String>,
    labels: Vec<String>,
}

fn scenarios(raw: &[Value]) -> Result<Vec<Scenario>, Error> {
    if raw.is_empty() || raw.len() > MAX_SCENARIOS {
        return Err(Error::invalid(format!(
            "give 1 to {MAX_SCENARIOS} scenarios"
        )));
    }
    let read = |(index, raw): (usize, &Value)| {
        if raw.to_string().len() > MAX_SCENARIO_BYTES {
            return Err(Error::invalid(format!(
                "scenario {} is too long",
                index + 1
            )));
        }
        serde_json::from_value(raw.clone()).map_err(|error| {
            let error = error.to_string();
            Error::invalid(format!(
                "scenario {} is wrong: {}",
                index + 1,
                output::cut(&error, 200)
            ))
        })
    };
    raw.iter().enumerate().map(read).collect()
}

/// Answers all scenarios against one baseline.
pub(crate) fn what_if(log: &Log, list: &PriceList, arguments: &Arguments) -> Result<Value, Error> {
    let scenarios = scenarios(&arguments.scenarios)?;
    tally::needs_tokens(log)?;
    let mut missing = Missing::default();
    for (field, present) in [
        ("model", log.model.present()),
        ("latency", log.latency_micros.present()),
        ("cached_input_tokens", log.cached.present()),
    ] {
        if let Some(reason) = output::gap_in(log, field, present) {
            missing.add(field, reason);
        }
    }
    let baseline = Baseline::of(log, list, arguments.baseline_model.as_deref())?;
    let assumptions = baseline.assumptions(log, list);
    let base = baseline.total();
    let mut options = vec![json!({ "label": "As it is", "cost_usd": usd(base) })];
    let mut answers = Vec::new();
    let most = (MAX_SCENARIO_TERMS / scenarios.len()).min(MAX_TERMS);
    for (scenario, raw) in scenarios.iter().zip(&arguments.scenarios) {
        let (answer, option) = answer(log, list, &baseline, (scenario, raw), most)?;
        answers.push(answer);
        options.extend(option);
    }
    Ok(json!({
        "file": log.file,
        "price_list": list.describe(),
        "baseline": baseline.describe(log),
        "scenarios": answers,
        "options_for_chart": options,
        "missing": missing.into_value(),
        "assumptions": assumptions,
    }))
}

/// One scenario: its answer, and the bar of it for a chart when it has a price.
fn answer(
    log: &Log,
    list: &PriceList,
    baseline: &Baseline<'_>,
    (scenario, raw): (&Scenario, &Value),
    most: usize,
) -> Result<(Value, Option<Value>), Error> {
    let mut plan = Plan::default();
    plan.add(log, list, scenario)?;
    let models: Vec<&Model> = baseline
        .models
        .iter()
        .map(|model| plan.model.unwrap_or(model))
        .collect();
    let mut groups = baseline.groups.clone();
    groups.above = models
        .iter()
        .map(|m| m.long.map(|long| long.above))
        .collect();
    let tiers = tally::sum(log, &groups, &plan.change);
    plan.assume_of(&models, &tiers);
    let base = baseline.total();
    let mut out = Map::new();
    let label = scenario
        .label()
        .map_or_else(|| plan.labels.join(" + "), str::to_owned);
    let label = output::cut(&label, 80).into_owned();
    out.insert("label".into(), json!(label));
    out.insert(
        "kind".into(),
        raw.get("kind").cloned().unwrap_or(Value::Null),
    );
    out.insert("arguments".into(), raw.clone());
    let batch = plan.change.batch > 0 && plan.change.discount.is_none();
    let mut option = None;
    match priced(&models, &tiers, &plan.change) {
        Ok(costs) => {
            let total: i128 = costs.iter().sum();
            let fraction = (base > 0).then(|| round((base - total) as f64 / base as f64, 6));
            out.insert("cost_usd".into(), json!(usd(total)));
            out.insert("saving_usd".into(), json!(usd(base - total)));
            out.insert("saving_fraction".into(), json!(fraction));
            out.insert("reason".into(), Value::Null);
            out.insert(
                "terms".into(),
                terms(log, &models, &tiers, (&baseline.costs, &costs), batch, most),
            );
            option = Some(json!({ "label": label, "cost_usd": usd(total) }));
        }
        Err(reason) => {
            for field in ["cost_usd", "saving_usd", "saving_fraction"] {
                out.insert(field.into(), Value::Null);
            }
            out.insert("reason".into(), json!(reason));
            out.insert("terms".into(), json!([]));
        }
    }
    let mut variables = Map::new();
    if let ([model], [tiers]) = (models.as_slice(), tiers.as_slice()) {
        tally::sum_variables(log, &tiers.all(), &mut variables);
        tally::price_variables(model, tiers, batch, &mut variables);
    }
    if plan.change.cached.is_some() {
        // The logged count, if any, does not take part.
        variables.remove("cached_input_tokens");
    }
    variables.append(&mut plan.variables);
    let capped: u64 = tiers.iter().map(|t| t.capped).sum();
    let affected = plan.change.cap_output.is_some() && !log.is_aggregated();
    out.insert(
        "affected_requests".into(),
        json!(affected.then_some(capped)),
    );
    out.insert("formula".into(), json!(plan.formula(log, models.len())));
    out.insert("variables".into(), Value::Object(variables));
    out.insert("assumptions".into(), json!(plan.assumptions));
    Ok((Value::Object(out), option))
}

impl Scenario {
    fn label(&self) -> Option<&str> {
        match self {
            Self::OtherModel { label, .. }
            | Self::ShorterPrompts { label, .. }
            | Self::PromptCaching { label, .. }
            | Self::Batching { label, .. }
            | Self::CappedOutput { label, .. }
            | Self::Combined { label, .. } => label.as_deref(),
        }
    }
}

/// A fraction of the caller in millionths.
fn millionths(name: &str, fraction: f64) -> Result<u32, Error> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::invalid(format!(
            "{name} must be from 0 to 1, not {fraction}"
        )));
    }
    Ok((fraction * f64::from(WHOLE)).round() as u32)
}

fn percent(millionths: u32) -> String {
    format!("{} %", round(f64::from(millionths) / 1e4, 2))
}

impl<'a> Plan<'a> {
    fn add(&mut self, log: &Log, list: &'a PriceList, scenario: &Scenario) -> Result<(), Error> {
        match scenario {
            Scenario::OtherModel { model, .. } => self.other_model(list, model)?,
            Scenario::ShorterPrompts { fraction, .. } => self.shorter_prompts(*fraction)?,
            Scenario::PromptCaching { cached_share, .. } => self.caching(log, *cached_share)?,
            Scenario::Batching {
                share, discount, ..
            } => self.batching(*share, *discount)?,
            Scenario::CappedOutput { max_tokens, .. } => self.capped(log, *max_tokens)?,
            Scenario::Combined { steps, .. } => {
                if steps.is_empty() || steps.len() > 5 {
                    return Err(Error::invalid("a combined scenario has 1 to 5 steps"));
                }
                for (index, step) in steps.iter().enumerate() {
                    let kind = std::mem::discriminant(step);
                    let again = steps[..index]
                        .iter()
                        .any(|s| std::mem::discriminant(s) == kind);
                    if again || matches!(step, Scenario::Combined { .. }) {
                        return Err(Error::invalid(
                            "the steps of a combined scenario must be of different kinds and not combined themselves",
                        ));
                    }
                    self.add(log, list, step)?;
                }
            }
        }
        Ok(())
    }

    fn other_model(&mut self, list: &'a PriceList, name: &str) -> Result<(), Error> {
        let model = list.require(name)?;
        self.model = Some(model);
        self.labels
            .push(model.name.clone().unwrap_or_else(|| model.id.clone()));
        self.formulas.push("the prices are those of model");
        self.variables.insert("model".into(), json!(model.id));
        self.assumptions.push(format!(
            "{} needs and writes as many tokens for the same requests; models split text differently, so check on a sample",
            model.id
        ));
        self.assumptions
            .push("its answers are good and quick enough: the log cannot show either".into());
        Ok(())
    }

    fn shorter_prompts(&mut self, fraction: f64) -> Result<(), Error> {
        let cut = millionths("fraction", fraction)?;
        self.change.keep_input = WHOLE - cut;
        self.labels
            .push(format!("Prompts {} shorter", percent(cut)));
        self.formulas
            .push("the input tokens are multiplied by (1 - fraction)");
        self.variables.insert("fraction".into(), json!(fraction));
        self.assumptions.push(format!(
            "every prompt can be shortened by {} without changing the answer",
            percent(cut)
        ));
        Ok(())
    }

    fn caching(&mut self, log: &Log, share: f64) -> Result<(), Error> {
        let cached = millionths("cached_share", share)?;
        self.change.cached = Some(cached);
        self.labels
            .push(format!("Prompt caching of {}", percent(cached)));
        self.formulas
            .push("cached_input_tokens = input_tokens × cached_share");
        self.variables.insert("cached_share".into(), json!(share));
        let known = match log.prompts.present() {
            (0, _) => "the log does not hold the texts, so this share is an assumption",
            _ => "prompt_repeats tells what share the prompts of the log show",
        };
        self.assumptions.push(format!(
            "{} of all input tokens are a repeated beginning that is read from the provider's cache; {known}",
            percent(cached)
        ));
        if log.cached.present() > 0 {
            self.assumptions
                .push("the share replaces the cached tokens that the log records".into());
        }
        Ok(())
    }

    fn batching(&mut self, share: Option<f64>, discount: Option<f64>) -> Result<(), Error> {
        let part = millionths("share", share.unwrap_or(1.0))?;
        self.change.batch = part;
        self.labels.push(format!("Batching of {}", percent(part)));
        self.variables
            .insert("share".into(), json!(share.unwrap_or(1.0)));
        if let Some(discount) = discount {
            self.change.discount = Some(millionths("discount", discount)?);
            self.formulas
                .push("cost is multiplied by (1 - share × discount)");
            self.variables.insert("discount".into(), json!(discount));
            self.assumptions.push(format!(
                "the batch discount is {discount}, as given by the caller"
            ));
        } else {
            self.formulas.push(
                "(1 - share) of cost is at the plain prices and share of it at the batch_ prices",
            );
            self.assumptions
                .push("the batch prices are those of the price list".into());
        }
        self.assumptions.push(format!(
            "requests that make up {} of the cost can wait for a batch; batch answers come later, so this is not for \
             requests that somebody waits for",
            percent(part)
        ));
        Ok(())
    }

    fn capped(&mut self, log: &Log, max_tokens: u32) -> Result<(), Error> {
        if log.is_aggregated() {
            return Err(Error::invalid(
                "capped_output needs the size of each answer, and the rows of this log are sums over several requests",
            ));
        }
        self.change.cap_output = Some(max_tokens);
        self.labels.push(format!(
            "Answers capped at {}",
            thousands(u64::from(max_tokens))
        ));
        self.formulas
            .push("output_tokens = sum over the requests of min(output_tokens, max_tokens)");
        self.variables
            .insert("max_tokens".into(), json!(max_tokens));
        self.assumptions
            .push("answers that are cut off there are still good enough".into());
        Ok(())
    }

    /// What follows from the models that are priced.
    fn assume_of(&mut self, models: &[&Model], tiers: &[Tiers]) {
        if self.change.cached.is_some() {
            let mut writes: Vec<String> = Vec::new();
            for model in models {
                let price = model.rates.cache_write;
                if let Some(price) = price.filter(|price| *price > model.rates.input) {
                    let price = crate::prices::per_million(price);
                    let text = format!("{} ({price} USD per million tokens)", model.id);
                    if !writes.contains(&text) {
                        writes.push(text);
                    }
                }
            }
            if !writes.is_empty() {
                writes.truncate(5);
                self.assumptions.push(format!(
                    "writing the beginnings into the cache costs more than plain input on {}; how often that happens \
                     is unknown and it is not in the cost",
                    writes.join(", ")
                ));
            }
        }
        let no_cached_batch = |m: &&Model| {
            m.batch.is_some_and(|b| b.cached_input.is_none()) && m.rates.cached_input.is_some()
        };
        let caches = self.change.cached.is_some() || tiers.iter().any(|t| t.all().cached > 0);
        if caches
            && self.change.batch > 0
            && self.change.discount.is_none()
            && models.iter().any(no_cached_batch)
        {
            self.assumptions.push(
                "where the list has no batch price for cached tokens they cost as much as other input of the batch".into(),
            );
        }
    }

    fn formula(&self, log: &Log, models: usize) -> String {
        let caching = self.change.cached.is_some() || log.cached.present() > 0;
        let mut text = if caching {
            "cost = (input_tokens - cached_input_tokens) × price_input + cached_input_tokens × price_cached_input \
             + output_tokens × price_output"
        } else {
            "cost = input_tokens × price_input + output_tokens × price_output"
        }
        .to_owned();
        text.push_str(", where ");
        text.push_str(&self.formulas.join("; "));
        if models > 1 {
            text.push_str("; summed over the models, see terms");
        }
        text
    }
}
