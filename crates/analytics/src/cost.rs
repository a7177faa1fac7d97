//! What a log cost: as it says itself, by a price list, and what the same traffic would cost on other models.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::log::Log;
use crate::output::{self, Missing, round, usd};
use crate::prices::{Model, PriceList};
use crate::tally::{self, Change, Groups, Tiers};

/// How many models are told.
const MAX_MODELS: usize = 30;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    pub(crate) models: Option<Vec<String>>,
    pub(crate) price_list: Option<Value>,
}

/// One model name of the log with its price, if there is one.
pub(crate) struct Priced<'a> {
    pub(crate) name: String,
    pub(crate) model: Option<&'a Model>,
}

/// The models that a log names, each a group of its own, and at the end the rows that name none. Empty when no row does.
pub(crate) fn models_of<'a>(log: &Log, list: &'a PriceList) -> (Vec<Priced<'a>>, Groups) {
    if log.model.present() == 0 {
        return (Vec::new(), Groups::default());
    }
    let numbers = 0..u32::try_from(log.models.len()).unwrap_or(u32::MAX);
    let mut models: Vec<Priced<'a>> = numbers
        .map(|number| {
            let name = log.models.name(number).to_owned();
            let model = list.find(&name);
            Priced { name, model }
        })
        .collect();
    let otherwise = models.len();
    models.push(Priced {
        name: "(no model named)".to_owned(),
        model: None,
    });
    let above = models
        .iter()
        .map(|p| p.model.and_then(|m| m.long).map(|l| l.above))
        .collect();
    (
        models,
        Groups {
            of_model: (0..otherwise).collect(),
            otherwise,
            above,
        },
    )
}

/// The cost of a log.
pub(crate) fn cost(log: &Log, list: &PriceList, wanted: Option<&[String]>) -> Result<Value, Error> {
    let mut missing = Missing::default();
    let all = tally::sum_all(log, None, &Change::default()).all();
    let mut totals = Map::new();
    tally::sum_variables(log, &all, &mut totals);
    for (field, values) in [("input_tokens", &log.input), ("output_tokens", &log.output)] {
        if let Some(reason) = output::gap_in(log, field, values.present()) {
            missing.add(field, reason);
            if values.present() == 0 {
                totals.insert(field.into(), Value::Null);
            }
        }
    }
    let logged: i128 = log.cost_pico.iter().map(i128::from).sum();
    let has_logged = log.cost_pico.present() > 0;
    if let Some(reason) = output::gap_in(log, "cost", log.cost_pico.present()) {
        missing.add("cost", reason);
    }
    if let Some(reason) = output::gap_in(log, "model", log.model.present()) {
        missing.add("model", reason);
    }
    let mut out = Map::new();
    out.insert("file".into(), json!(log.file));
    out.insert("price_list".into(), list.describe());
    out.insert("totals".into(), Value::Object(totals));
    out.insert(
        "logged_cost_usd".into(),
        json!(has_logged.then(|| usd(logged))),
    );
    let mut assumptions = output::reading_assumptions(log);
    assumptions.push(list.assumption());
    let names = match wanted {
        Some(names) if names.len() > MAX_MODELS => {
            return Err(Error::invalid(format!(
                "ask for at most {MAX_MODELS} models"
            )));
        }
        Some(names) => names.to_vec(),
        None => list.default_models.clone(),
    };
    let mut not_priced = Vec::new();
    let mut candidates: Vec<&Model> = Vec::new();
    for name in &names {
        match list.require(name) {
            Ok(model) if candidates.iter().any(|c| c.id == model.id) => {}
            Ok(model) => candidates.push(model),
            Err(error) => not_priced
                .push(json!({ "model": output::cut(name, 80), "reason": error.to_string() })),
        }
    }
    let priceable = tally::needs_tokens(log).is_ok();
    let (in_log, groups) = models_of(log, list);
    as_used(log, priceable, &in_log, &groups, &mut out);
    let mut used: Vec<&Model> = candidates.clone();
    used.extend(in_log.iter().filter_map(|p| p.model));
    if priceable {
        assumptions.extend(tally::pricing_assumptions(log, &used));
        if !candidates.is_empty() {
            assumptions.push(
                "on_models takes the same requests and token counts on each model; models split text into \
                 tokens differently and answer at different length and quality"
                    .to_owned(),
            );
        }
    }
    let on_models = if priceable {
        elsewhere(log, &candidates)
    } else {
        Vec::new()
    };
    out.insert("on_models".into(), Value::Array(on_models));
    out.insert("not_priced".into(), Value::Array(not_priced));
    out.insert("missing".into(), missing.into_value());
    out.insert("assumptions".into(), json!(assumptions));
    Ok(Value::Object(out))
}

/// The cost by the models that the log names, and how it compares with the cost that it logs.
fn as_used(
    log: &Log,
    priceable: bool,
    models: &[Priced<'_>],
    groups: &Groups,
    out: &mut Map<String, Value>,
) {
    if models.is_empty() {
        for field in ["cost_usd", "by_model", "comparison"] {
            out.insert(field.into(), Value::Null);
        }
        out.insert("priced_requests".into(), json!(0));
        out.insert("unpriced_requests".into(), json!(log.total_requests()));
        return;
    }
    let (mut total, mut priced, mut unpriced) = (0i128, 0u64, 0u64);
    let (mut compared, mut logged) = (0i128, 0i128);
    let mut shown = Vec::new();
    for (group, tiers) in models
        .iter()
        .zip(tally::sum(log, groups, &Change::default()))
    {
        if tiers.rows == 0 {
            continue;
        }
        let requests = tiers.all().requests;
        let model = group.model.filter(|_| priceable);
        let cost = model.and_then(|model| tally::cost(model, &tiers, &Change::default()).ok());
        if let Some(cost) = cost {
            total += cost.total();
            priced += requests;
            if tiers.logged_rows == tiers.rows {
                compared += cost.total();
                logged += tiers.logged;
            }
        } else {
            unpriced += requests;
        }
        shown.push((requests, group, tiers, cost));
    }
    shown.sort_by_key(|(requests, ..)| std::cmp::Reverse(*requests));
    let shown: Vec<Value> = shown
        .iter()
        .take(MAX_MODELS)
        .map(|(_, group, tiers, cost)| by_model(log, group, tiers, *cost, priceable))
        .collect();
    out.insert("cost_usd".into(), json!((priced > 0).then(|| usd(total))));
    out.insert("priced_requests".into(), json!(priced));
    out.insert("unpriced_requests".into(), json!(unpriced));
    out.insert("by_model".into(), Value::Array(shown));
    let comparison = (compared > 0 || logged > 0).then(|| {
        let difference = logged - compared;
        let fraction = (compared != 0).then(|| round(difference as f64 / compared as f64, 6));
        json!({
            "logged_usd": usd(logged), "from_prices_usd": usd(compared),
            "difference_usd": usd(difference), "difference_fraction": fraction,
        })
    });
    out.insert("comparison".into(), comparison.unwrap_or(Value::Null));
}

fn by_model(
    log: &Log,
    group: &Priced<'_>,
    tiers: &Tiers,
    cost: Option<tally::Cost>,
    priceable: bool,
) -> Value {
    let mut entry = Map::new();
    entry.insert("model".into(), json!(group.name));
    entry.insert("priced_as".into(), json!(group.model.map(|m| &m.id)));
    tally::sum_variables(log, &tiers.all(), &mut entry);
    entry.insert("cost_usd".into(), json!(cost.map(tally::dollars)));
    let logged = (tiers.logged_rows > 0).then(|| usd(tiers.logged));
    entry.insert("logged_cost_usd".into(), json!(logged));
    let reason = match (cost, priceable) {
        (Some(_), _) => Value::Null,
        (None, false) => json!("the log lacks input or output tokens"),
        (None, true) => json!("the price list has no model of this name"),
    };
    entry.insert("reason".into(), reason);
    Value::Object(entry)
}

/// What the same traffic would cost on each model, cheapest first.
fn elsewhere(log: &Log, candidates: &[&Model]) -> Vec<Value> {
    let longest = log.input.iter().max().filter(|_| !log.is_aggregated());
    let mut found: Vec<(i128, Value)> = Vec::new();
    for model in candidates {
        let tiers = tally::sum_all(log, model.long.map(|l| l.above), &Change::default());
        let Ok(cost) = tally::cost(model, &tiers, &Change::default()) else {
            continue;
        };
        let requests = tiers.all().requests;
        let mut variables = Map::new();
        tally::sum_variables(log, &tiers.all(), &mut variables);
        tally::price_variables(model, &tiers, false, &mut variables);
        let per_thousand = (requests > 0).then(|| usd(cost.total() * 1_000 / i128::from(requests)));
        let fits = longest
            .zip(model.context_window)
            .map(|(longest, window)| u64::from(longest) <= window);
        let entry = json!({
            "model": model.id, "provider": model.provider, "name": model.name,
            "cost_usd": tally::dollars(cost), "input_cost_usd": usd(cost.input),
            "output_cost_usd": usd(cost.output), "per_1000_requests_usd": per_thousand,
            "formula": tally::formula(log, &tiers), "variables": variables,
            "assumption": true, "fits_context": fits,
        });
        found.push((cost.total(), entry));
    }
    found.sort_by_key(|(cost, _)| *cost);
    found.into_iter().map(|(_, entry)| entry).collect()
}
