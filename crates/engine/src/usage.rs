//! What one run uses, counted while it goes on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use netra_protocol::usage::RunUsage;
use netra_store::{Journal, JournalKind};
use parking_lot::Mutex;
use serde::Deserialize as _;

/// Counters of one run; shared by its agents.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    model_calls: AtomicU64,
    cost: Mutex<Cost>,
    steps: AtomicU32,
}

/// What the calls cost whose price is known.
#[derive(Debug, Default)]
struct Cost {
    /// None where that is none of them.
    usd: Option<f64>,
    /// The price lists that it is by.
    by: BTreeSet<String>,
}

impl Counters {
    /// With what earlier attempts of the run have used, as the journal has it.
    pub(crate) fn of(journal: &Journal) -> Self {
        let counters = Self {
            // The run's own agent began in the first step, which no entry may tell of.
            steps: AtomicU32::new(journal.last_step().max(1)),
            ..Self::default()
        };
        for call in journal.of_kind(JournalKind::ModelCall) {
            if call.value["cached"] == true {
                counters.model_spared();
                continue;
            }
            counters.model_called();
            if let Ok(usage) = netra_model::Usage::deserialize(&call.value["usage"]) {
                counters.model_used(&usage, call.value["price_source"].as_str());
            }
        }
        counters
    }

    /// A model was called.
    pub(crate) fn model_called(&self) {
        self.model_calls.fetch_add(1, Relaxed);
    }

    /// An answer was given before, and has cost nothing.
    pub(crate) fn model_spared(&self) {
        self.cost.lock().usd.get_or_insert_default();
    }

    /// A model's provider told what a call used; its price, where it has one, is by this list.
    pub(crate) fn model_used(&self, usage: &netra_model::Usage, price_source: Option<&str>) {
        self.input_tokens.fetch_add(usage.input_tokens, Relaxed);
        self.output_tokens.fetch_add(usage.output_tokens, Relaxed);
        if let Some(usd) = usage.cost_usd {
            let mut cost = self.cost.lock();
            *cost.usd.get_or_insert_default() += usd;
            cost.by.extend(price_source.map(str::to_owned));
        }
    }

    /// The number of the next step, from 1; none when `allowed` are taken.
    pub(crate) fn next_step(&self, allowed: u32) -> Option<u32> {
        let taken = self.steps.fetch_update(Relaxed, Relaxed, |steps| {
            (steps < allowed).then_some(steps + 1)
        });
        taken.ok().map(|steps| steps + 1)
    }

    /// All counters. What others measure (tool calls, memory, time) is added by the engine.
    pub(crate) fn read(&self) -> RunUsage {
        let cost = self.cost.lock();
        RunUsage {
            input_tokens: self.input_tokens.load(Relaxed),
            output_tokens: self.output_tokens.load(Relaxed),
            model_calls: self.model_calls.load(Relaxed),
            cost_usd: cost.usd,
            price_sources: cost.by.iter().cloned().collect(),
            ..RunUsage::default()
        }
    }
}
