//! What a schema applies to a value, to its fields and to its items, as far as it takes to count steps.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::effort::{Effort, nodes};
use super::references::References;

/// Keywords with one schema for the same value, a list of them, and named ones.
const ONE: [&str; 5] = ["not", "if", "then", "else", "contentSchema"];
const LISTED: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const NAMED: [&str; 2] = ["dependentSchemas", "dependencies"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose own size is what they cost.
const COMPARED: [&str; 4] = ["enum", "const", "required", "dependentRequired"];

/// The most parts of one schema.
const MOST_PARTS: usize = 10_000;
/// The most steps that a schema takes for a single value without fields or items, and how many of its parts may lead on
/// to each other there.
const MOST_AT_ONCE: u64 = 20_000;
const MOST_IN_A_ROW: usize = 64;

/// The parts of a schema that can be reached from its first, by number.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    patterns: usize,
}

/// One schema within a schema.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What it takes by itself.
    pub(super) own: u64,
    /// For the same value.
    pub(super) here: Vec<usize>,
    pub(super) fields: HashMap<String, usize>,
    /// For the fields that have no schema by name.
    pub(super) other_fields: Vec<usize>,
    /// For every field.
    pub(super) each_field: Vec<usize>,
    pub(super) names: Vec<usize>,
    pub(super) first_items: Vec<usize>,
    pub(super) each_item: Vec<usize>,
    /// Patterns that are held against the name of each field.
    pub(super) patterns: u64,
    pub(super) is_unique: bool,
    /// What its neighbours have looked at is looked for again.
    pub(super) is_unevaluated: bool,
    /// Whether several parts lead to it, so that what it takes for a value is worth being remembered.
    pub(super) is_shared: bool,
    /// What it takes for a value without fields or items.
    pub(super) at_once: Effort,
}

impl Plan {
    pub(super) fn of(schema: &Value) -> Result<Self, String> {
        let mut draft = Draft {
            references: References::of(schema)?,
            known: HashMap::new(),
            left: VecDeque::new(),
            leads: Vec::new(),
        };
        draft.number(schema)?;
        let (mut parts, mut patterns) = (Vec::new(), 0);
        while let Some(next) = draft.left.pop_front() {
            let part = draft.part(next)?;
            patterns += usize::from(next.get("pattern").is_some());
            patterns += usize::try_from(part.patterns).unwrap_or(usize::MAX);
            parts.push(part);
        }
        for (part, leads) in parts.iter_mut().zip(&draft.leads) {
            part.is_shared = *leads > 1;
        }
        let mut plan = Self { parts, patterns };
        plan.reckon_at_once()?;
        Ok(plan)
    }

    /// How many patterns there are.
    pub(super) const fn patterns(&self) -> usize {
        self.patterns
    }

    fn reckon_at_once(&mut self) -> Result<(), String> {
        let mut reckoned = vec![Reckoned::No; self.parts.len()];
        for number in 0..self.parts.len() {
            let effort = self.at_once(number, &mut reckoned, 0)?;
            if effort.steps > MOST_AT_ONCE {
                return Err(format!(
                    "its parts multiply: a single value would take more than {MOST_AT_ONCE} steps"
                ));
            }
        }
        Ok(())
    }

    fn at_once(
        &mut self,
        number: usize,
        reckoned: &mut [Reckoned],
        in_a_row: usize,
    ) -> Result<Effort, String> {
        match reckoned[number] {
            Reckoned::Yes => return Ok(self.parts[number].at_once),
            Reckoned::Now => {
                let words = "its references lead back to where they began, for the same value";
                return Err(words.to_owned());
            }
            Reckoned::No if in_a_row > MOST_IN_A_ROW => {
                return Err(format!(
                    "more than {MOST_IN_A_ROW} of its parts lead on to each other for the same value"
                ));
            }
            Reckoned::No => reckoned[number] = Reckoned::Now,
        }
        let mut sum = Effort::of_own(self.parts[number].own);
        for at in 0..self.parts[number].here.len() {
            let next = self.parts[number].here[at];
            sum.take_here(self.at_once(next, reckoned, in_a_row + 1)?);
        }
        sum.close(self.parts[number].is_unevaluated);
        self.parts[number].at_once = sum;
        reckoned[number] = Reckoned::Yes;
        Ok(sum)
    }
}

#[derive(Clone, Copy)]
enum Reckoned {
    No,
    Now,
    Yes,
}

/// A plan in the making: parts have their number before they are looked at.
struct Draft<'a> {
    references: References<'a>,
    known: HashMap<*const Value, usize>,
    left: VecDeque<&'a Value>,
    leads: Vec<u32>,
}

impl<'a> Draft<'a> {
    fn number(&mut self, schema: &'a Value) -> Result<usize, String> {
        let next = self.known.len();
        let number = *self.known.entry(std::ptr::from_ref(schema)).or_insert(next);
        if number == MOST_PARTS {
            return Err(format!("it has more than {MOST_PARTS} parts"));
        }
        if number == next {
            self.left.push_back(schema);
            self.leads.push(0);
        }
        self.leads[number] = self.leads[number].saturating_add(1);
        Ok(number)
    }

    fn numbers(
        &mut self,
        schemas: impl IntoIterator<Item = &'a Value>,
    ) -> Result<Vec<usize>, String> {
        schemas.into_iter().map(|one| self.number(one)).collect()
    }

    fn part(&mut self, schema: &'a Value) -> Result<Part, String> {
        let mut part = Part {
            own: 1,
            ..Part::default()
        };
        let Some(keywords) = schema.as_object() else {
            return Ok(part);
        };
        let get = |key: &str| keywords.get(key);
        let object = |key: &str| get(key).and_then(Value::as_object);
        part.own += COMPARED
            .iter()
            .filter_map(|key| get(key))
            .map(nodes)
            .sum::<u64>();
        part.is_unique = get("uniqueItems") == Some(&Value::Bool(true));
        part.is_unevaluated =
            get("unevaluatedProperties").is_some() || get("unevaluatedItems").is_some();

        part.here = self.numbers(ONE.iter().filter_map(|key| get(key)))?;
        let listed = LISTED.iter().filter_map(|key| get(key)?.as_array());
        part.here.extend(self.numbers(listed.flatten())?);
        let named = NAMED.iter().filter_map(|key| object(key));
        part.here
            .extend(self.numbers(named.flat_map(|all| all.values()))?);
        for reference in REFERENCES.iter().filter_map(|key| get(key)?.as_str()) {
            let targets = self.references.targets(reference)?;
            part.here.extend(self.numbers(targets)?);
        }

        for (name, schema) in object("properties").into_iter().flatten() {
            part.own += 1;
            part.fields.insert(name.clone(), self.number(schema)?);
        }
        let patterns = object("patternProperties").into_iter().flatten();
        part.each_field = self.numbers(patterns.map(|(_, schema)| schema))?;
        part.patterns = u64::try_from(part.each_field.len()).unwrap_or(u64::MAX);
        part.each_field
            .extend(self.numbers(get("unevaluatedProperties"))?);
        part.other_fields = self.numbers(get("additionalProperties"))?;
        part.names = self.numbers(get("propertyNames"))?;

        let first = [get("prefixItems"), get("items")];
        let first = first.into_iter().flatten().filter_map(Value::as_array);
        part.first_items = self.numbers(first.flatten())?;
        let each = ["items", "additionalItems", "contains", "unevaluatedItems"];
        let each = each.iter().filter_map(|key| get(key));
        part.each_item = self.numbers(each.filter(|one| !one.is_array()))?;
        Ok(part)
    }
}
