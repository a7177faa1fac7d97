//! The traffic as it is, and on which model each part of it is priced: what every costing of a log starts from.

use serde_json::{Map, Value, json};

use crate::cost::{Priced, models_of};
use crate::error::Error;
use crate::log::Log;
use crate::output::{self, thousands, usd};
use crate::prices::{Model, PriceList};
use crate::tally::{self, Change, Groups, Tiers};

/// How many models are told one by one.
const MAX_TERMS: usize = 20;

/// The traffic as it is: its groups, the model of each, and what each costs.
pub(crate) struct Baseline<'a> {
    pub(crate) name: String,
    pub(crate) assumed: bool,
    pub(crate) models: Vec<&'a Model>,
    pub(crate) groups: Groups,
    pub(crate) tiers: Vec<Tiers>,
    pub(crate) costs: Vec<i128>,
    pub(crate) left_out: u64,
    /// A row is one request, so the length of its prompt decides its price.
    single: bool,
}

/// What one row costs, in pico-dollars.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowCost {
    /// For input tokens that came from no cache.
    pub(crate) fresh: i128,
    pub(crate) cached: i128,
    pub(crate) output: i128,
}

impl RowCost {
    pub(crate) fn total(self) -> i128 {
        self.fresh + self.cached + self.output
    }
}

impl<'a> Baseline<'a> {
    /// The models that the log names, or all rows on `wanted`; with neither, on the first default of the list.
    pub(crate) fn of(log: &Log, list: &'a PriceList, wanted: Option<&str>) -> Result<Self, Error> {
        let none = Change::default();
        let (in_log, groups) = models_of(log, list);
        if wanted.is_none() && !in_log.is_empty() {
            return logged_baseline(log, in_log, groups);
        }
        let name = wanted
            .or(list.default_models.first().map(String::as_str))
            .ok_or_else(|| {
                Error::invalid(
                    "the log names no model and the price list no default; give baseline_model",
                )
            })?;
        let model = list.require(name)?;
        let groups = Groups::single(model.long.map(|long| long.above));
        let tiers = tally::sum(log, &groups, &none);
        let costs = priced(&[model], &tiers, &none).map_err(Error::internal)?;
        let (name, models) = (model.id.clone(), vec![model]);
        Ok(Self {
            name,
            assumed: true,
            models,
            groups,
            tiers,
            costs,
            left_out: 0,
            single: !log.is_aggregated(),
        })
    }

    /// What all of it costs, in pico-dollars.
    pub(crate) fn total(&self) -> i128 {
        self.costs.iter().sum()
    }

    /// The sums of all rows that have a price.
    pub(crate) fn all(&self) -> Tiers {
        let mut all = Tiers::default();
        for tiers in &self.tiers {
            all.standard = all.standard.plus(tiers.standard);
            all.long = all.long.plus(tiers.long);
        }
        all
    }

    /// What one row costs; `None` where its model has no price. The sum over the rows is [`Self::total`] to the digit.
    pub(crate) fn row(&self, log: &Log, row: usize) -> Option<RowCost> {
        let named = log
            .model
            .get(row)
            .and_then(|n| self.groups.of_model.get(n as usize));
        let group = named.copied().unwrap_or(self.groups.otherwise);
        let model = self.models.get(group)?;
        let input = i128::from(log.input.get(row).unwrap_or(0));
        let cached = i128::from(log.cached.get(row).unwrap_or(0));
        let output = i128::from(log.output.get(row).unwrap_or(0));
        let long = model
            .long
            .filter(|long| self.single && input > i128::from(long.above));
        let rates = long.map_or(model.rates, |long| long.rates);
        Some(RowCost {
            fresh: (input - cached) * i128::from(rates.input),
            cached: cached * i128::from(rates.cached_input.unwrap_or(rates.input)),
            output: output * i128::from(rates.output),
        })
    }

    /// What every cost of this baseline takes for granted.
    pub(crate) fn assumptions(&self, log: &Log, list: &PriceList) -> Vec<String> {
        let mut found = output::reading_assumptions(log);
        found.push(list.assumption());
        if self.assumed {
            found.push(format!(
                "the baseline is {}: the log names no model, so the saving holds only if it ran on this one",
                self.name
            ));
        }
        if self.left_out > 0 {
            found.push(format!(
                "{} requests are left out of the baseline and of all scenarios, since their model is not in the price list",
                thousands(self.left_out)
            ));
        }
        found.extend(tally::pricing_assumptions(log, &self.models));
        found
    }

    /// The baseline with its formula and its variables.
    pub(crate) fn describe(&self, log: &Log) -> Value {
        let all = self.all();
        let mut out = Map::new();
        out.insert("model".into(), json!(self.name));
        out.insert("assumed".into(), json!(self.assumed));
        out.insert("cost_usd".into(), json!(usd(self.total())));
        tally::sum_variables(log, &all.all(), &mut out);
        let mut formula = tally::formula(log, &all);
        if self.models.len() > 1 {
            formula.push_str("; summed over the models, see terms");
        }
        out.insert("formula".into(), json!(formula));
        let mut variables = Map::new();
        tally::sum_variables(log, &all.all(), &mut variables);
        if let [model] = self.models.as_slice() {
            tally::price_variables(model, &all, false, &mut variables);
        }
        out.insert("variables".into(), Value::Object(variables));
        let costs = (self.costs.as_slice(), self.costs.as_slice());
        let terms = terms(log, &self.models, &self.tiers, costs, false, MAX_TERMS);
        out.insert("terms".into(), terms);
        Value::Object(out)
    }
}

/// The models of the log as it names them; rows whose model has no price fall into no group.
fn logged_baseline<'a>(
    log: &Log,
    in_log: Vec<Priced<'a>>,
    groups: Groups,
) -> Result<Baseline<'a>, Error> {
    let none = Change::default();
    let mut models = Vec::new();
    let mut numbers = Vec::with_capacity(in_log.len());
    for priced in &in_log {
        numbers.push(priced.model.map_or(usize::MAX, |model| {
            models
                .iter()
                .position(|m: &&Model| m.id == model.id)
                .unwrap_or_else(|| {
                    models.push(model);
                    models.len() - 1
                })
        }));
    }
    if models.is_empty() {
        let named = &in_log[..groups.otherwise.min(in_log.len())];
        let names: Vec<&str> = named.iter().map(|p| p.name.as_str()).take(5).collect();
        return Err(Error::invalid(format!(
            "the price list has none of the log's models ({}); give baseline_model or a price_list",
            names.join(", ")
        )));
    }
    let of_model = groups.of_model.iter().map(|at| numbers[*at]).collect();
    let above = models
        .iter()
        .map(|m: &&Model| m.long.map(|long| long.above))
        .collect();
    let groups = Groups {
        of_model,
        otherwise: usize::MAX,
        above,
    };
    let tiers = tally::sum(log, &groups, &none);
    let costs = priced(&models, &tiers, &none).map_err(Error::internal)?;
    let counted: u64 = tiers.iter().map(|t| t.all().requests).sum();
    let left_out = log.total_requests() - counted;
    Ok(Baseline {
        name: "as logged".into(),
        assumed: false,
        models,
        groups,
        tiers,
        costs,
        left_out,
        single: !log.is_aggregated(),
    })
}

/// The cost of each group on its model.
pub(crate) fn priced(
    models: &[&Model],
    tiers: &[Tiers],
    change: &Change,
) -> Result<Vec<i128>, String> {
    let each = models.iter().zip(tiers);
    each.map(|(model, tiers)| tally::cost(model, tiers, change).map(tally::Cost::total))
        .collect()
}

/// The models with their sums, and what each costs before and after a change.
pub(crate) fn terms(
    log: &Log,
    models: &[&Model],
    tiers: &[Tiers],
    costs: (&[i128], &[i128]),
    batch: bool,
    most: usize,
) -> Value {
    let (before, after) = costs;
    let mut order: Vec<usize> = (0..models.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(before[*index]));
    let term = |index: usize| {
        let mut term = Map::new();
        term.insert("model".into(), json!(models[index].id));
        tally::sum_variables(log, &tiers[index].all(), &mut term);
        tally::price_variables(models[index], &tiers[index], batch, &mut term);
        term.insert("baseline_usd".into(), json!(usd(before[index])));
        term.insert("cost_usd".into(), json!(usd(after[index])));
        Value::Object(term)
    };
    order.into_iter().take(most).map(term).collect()
}
