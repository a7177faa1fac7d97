//! How many steps it takes to hold a value against a schema, counted before the first of them is made.
//!
//! A step is one part of the schema for one node of the value. Doubling references make as many as they like of a few
//! bytes, but the pairs of a part and a node are few: what a pair takes is counted once and remembered. The count takes no
//! more time than it says, and stops where it says too much.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::plan::{Part, Plan};

/// How far parts and nodes may lead on to each other: what holds values against schemas needs stack for each.
const MOST_IN_A_ROW: usize = 512;
/// The bytes of a text that are a step.
const TEXT: usize = 128;

/// Steps by what they are made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effort {
    /// To say whether the value fits.
    pub(super) steps: u64,
    /// To find what neighbours of `unevaluated…` have looked at.
    looks: u64,
    /// To report all places where it does not fit: every choice is made once more before its branches are reported.
    pub(super) reports: u64,
}

impl Effort {
    pub(super) const fn of_own(own: u64) -> Self {
        Self {
            steps: own,
            looks: own,
            reports: own,
        }
    }

    /// Adds what another part takes for the same value.
    pub(super) fn take_here(&mut self, other: Self) {
        self.looks = self.looks.saturating_add(other.looks);
        self.take_inner(other);
    }

    /// Adds what a part takes for something inside of the value.
    pub(super) fn take_inner(&mut self, other: Self) {
        self.steps = self.steps.saturating_add(other.steps);
        self.looks = self.looks.saturating_add(other.steps);
        let reports = other.steps.saturating_add(other.reports);
        self.reports = self.reports.saturating_add(reports);
    }

    /// When all has been added.
    pub(super) const fn close(&mut self, is_unevaluated: bool) {
        if is_unevaluated {
            self.steps = self.steps.saturating_add(self.looks);
            self.reports = self.reports.saturating_add(self.looks);
        }
    }

    const fn times(self, factor: u64) -> Self {
        Self {
            steps: self.steps.saturating_mul(factor),
            looks: self.looks.saturating_mul(factor),
            reports: self.reports.saturating_mul(factor),
        }
    }
}

/// Why a value is not held against a schema at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMuch {
    Steps(u64),
    InARow,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(most) => write!(
                f,
                "checking the value against the schema would take more than {most} steps"
            ),
            Self::InARow => write!(
                f,
                "more than {MOST_IN_A_ROW} parts of the schema lead on to each other for the value"
            ),
        }
    }
}

impl Plan {
    /// What it takes to hold this value against the schema, at most this much.
    pub(super) fn effort(&self, value: &Value, most: u64) -> Result<Effort, TooMuch> {
        let mut count = Count {
            parts: &self.parts,
            known: HashMap::new(),
            left: most,
            most,
        };
        match count.of(0, value, 0)? {
            effort if effort.steps > most => Err(TooMuch::Steps(most)),
            effort => Ok(effort),
        }
    }
}

struct Count<'a> {
    parts: &'a [Part],
    known: HashMap<(usize, *const Value), Effort>,
    left: u64,
    most: u64,
}

impl Count<'_> {
    fn of(&mut self, number: usize, value: &Value, in_a_row: usize) -> Result<Effort, TooMuch> {
        let parts = self.parts;
        let part = &parts[number];
        self.spend(1)?;
        match value {
            Value::String(text) => return Ok(part.at_once.times(of_text(text))),
            Value::Array(_) | Value::Object(_) => {}
            _ => return Ok(part.at_once),
        }
        let pair = (number, std::ptr::from_ref(value));
        if let Some(known) = self.known.get(&pair) {
            return Ok(*known);
        }
        if in_a_row == MOST_IN_A_ROW {
            return Err(TooMuch::InARow);
        }
        self.spend(part.own)?;
        let mut sum = Effort::of_own(part.own);
        for next in &part.here {
            sum.take_here(self.of(*next, value, in_a_row + 1)?);
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.of_field(part, (name, field), &mut sum, in_a_row + 1)?;
                }
            }
            Value::Array(items) => {
                if part.is_unique {
                    let nodes = nodes(value);
                    self.spend(nodes)?;
                    sum.take_inner(Effort::of_own(nodes));
                }
                for (at, item) in items.iter().enumerate() {
                    for next in part.first_items.get(at).into_iter().chain(&part.each_item) {
                        sum.take_inner(self.of(*next, item, in_a_row + 1)?);
                    }
                }
            }
            _ => {}
        }
        sum.close(part.is_unevaluated);
        if part.is_shared {
            self.known.insert(pair, sum);
        }
        Ok(sum)
    }

    fn of_field(
        &mut self,
        part: &Part,
        (name, field): (&str, &Value),
        sum: &mut Effort,
        in_a_row: usize,
    ) -> Result<(), TooMuch> {
        let tried = part.patterns.saturating_mul(2 * of_text(name));
        self.spend(tried)?;
        sum.take_inner(Effort::of_own(tried));
        let by_name = part.fields.get(name);
        let others = by_name.is_none().then_some(&part.other_fields);
        let schemas = by_name.into_iter().chain(others.into_iter().flatten());
        for next in schemas.chain(&part.each_field) {
            sum.take_inner(self.of(*next, field, in_a_row)?);
        }
        for next in &part.names {
            sum.take_inner(self.parts[*next].at_once.times(of_text(name)));
        }
        Ok(())
    }

    /// The count itself makes no more steps than it counts.
    fn spend(&mut self, steps: u64) -> Result<(), TooMuch> {
        self.left = self
            .left
            .checked_sub(steps)
            .ok_or(TooMuch::Steps(self.most))?;
        Ok(())
    }
}

fn of_text(text: &str) -> u64 {
    u64::try_from(1 + text.len() / TEXT).unwrap_or(u64::MAX)
}

/// How many values there are in this one, itself among them.
pub(super) fn nodes(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(nodes).sum::<u64>(),
        _ => 1,
    }
}
