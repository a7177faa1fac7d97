//! A JSON Schema that may be a stranger's, and how values are held against it: never for longer than a bound.

mod effort;
mod plan;
mod references;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use plan::Plan;

/// The bytes that all compiled patterns of one schema have together.
const PATTERNS: usize = 1 << 20;
/// The steps that any value may take, and those that each node of a large one may take.
const STEPS: u64 = 100_000;
const STEPS_OF_NODE: u64 = 16;
/// The steps up to which the places are named where a value does not fit: naming them makes a report of each.
const NAMED: u64 = 20_000;

/// A schema, what holds values against it, and what that will take.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    plan: Plan,
}

impl Schema {
    /// Patterns take linear time, and nothing is fetched.
    ///
    /// # Errors
    /// In words, where the schema is none, or one whose parts lead back to each other without an end or multiply.
    pub fn new(schema: &Value) -> Result<Self, String> {
        // Before it is compiled: that would follow the references too.
        let plan = Plan::of(schema)?;
        let each = PATTERNS / plan.patterns().max(1);
        let validator = jsonschema::options()
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(each)
                    .dfa_size_limit(PATTERNS),
            )
            .build(schema)
            .map_err(|error| error.to_string())?;
        Ok(Self { validator, plan })
    }

    /// The first few places where a value does not fit, without the value; none where it fits. A value that would take
    /// too many steps does not fit either, and is told so before the first of them.
    pub fn misfits(&self, value: &Value, most: usize) -> Vec<String> {
        let budget = STEPS.max(STEPS_OF_NODE.saturating_mul(effort::nodes(value)));
        let effort = match self.plan.effort(value, budget) {
            Ok(effort) => effort,
            Err(problem) => return vec![problem.to_string()],
        };
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        if effort.reports > NAMED {
            return vec!["there are too many places to name".to_owned()];
        }
        self.validator
            .iter_errors(value)
            .take(most)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.masked().to_string(),
                path => format!("{path}: {}", error.masked()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
