//! One agent, as its files define it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use netra_endpoint::Endpoint;
use netra_protocol::agent::{Agent, AgentKind};
use netra_tools::Schema;
use serde_json::{Value, json};

use super::calls::Calls;
use super::conduct::Conduct;
use crate::native;

/// What an agent is made of, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Compiled in.
    Native(Native),
    /// A language model.
    Model {
        /// The system prompt.
        instructions: String,
        /// Sampling temperature; the provider's when absent.
        temperature: Option<f64>,
        /// The most tokens of one answer; the provider's limit when absent.
        max_output_tokens: Option<u32>,
    },
    /// A script in a worker process.
    Script {
        /// The file's name, as tracebacks show it.
        file: String,
        /// The Python text.
        code: String,
    },
    /// Code of somebody's own, behind an endpoint.
    Http(Endpoint),
    /// Not known: the definition cannot be read.
    Broken,
}

/// The code of an agent that is compiled in.
#[derive(Clone)]
pub struct Native(pub(crate) Arc<dyn native::Agent>);

impl std::fmt::Debug for Native {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Native").field(&self.0.name()).finish()
    }
}

impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// One agent, as its files define it. Immutable; runs hold the version they began with.
#[derive(Debug)]
pub struct Definition {
    /// To start it by.
    pub name: String,
    /// For people.
    pub description: String,
    /// How it is made.
    pub kind: AgentKind,
    /// What it is made of.
    pub body: Body,
    /// The tools that it may call, and no others.
    pub tools: Vec<String>,
    /// The agents that it may call, and no others.
    pub sub_agents: Vec<String>,
    /// The model's `provider/model`; the server's default when absent.
    pub model: Option<String>,
    /// How its calls of models are made.
    pub calls: Calls,
    /// Whether it keeps something from run to run in its thread.
    pub keeps_state: bool,
    /// Whether users may start it; others are for agents only.
    pub listed: bool,
    /// SHA-256 over its files, in hexadecimal.
    pub hash: String,
    /// The files that it is made of, by name.
    pub files: BTreeMap<String, String>,
    /// Why it cannot run, with file and line.
    pub problem: Option<String>,
    /// A model provider of its, where it lacks nothing but a key, and a user's own would do.
    pub needs_key: Option<NeedsKey>,
    /// Where it comes from: `built-in`, `compiled in`, or the folder.
    pub origin: String,
    /// How a model agent goes about its work.
    pub conduct: Conduct,
    pub(crate) input: Shape,
    pub(crate) output: Option<Shape>,
}

/// A key that an agent lacks, which a user may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsKey {
    /// The model provider.
    pub provider: String,
    /// What to say to users who have none, with file and line.
    pub problem: String,
}

/// A JSON Schema and what checks it.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) schema: Value,
    /// None: everything fits.
    checks: Option<Schema>,
}

impl Shape {
    /// The schema of an agent that names none: a text. It is a constant and compiles; if it did
    /// not, the tests below would say so.
    pub(crate) fn of_text() -> Self {
        let schema = text_schema();
        let checks = Schema::new(&schema).ok();
        Self { schema, checks }
    }

    pub(crate) fn new(schema: Value) -> Result<Self, String> {
        let checks = Some(Schema::new(&schema)?);
        Ok(Self { schema, checks })
    }

    /// The first few places where the value does not fit.
    pub(crate) fn misfits(&self, value: &Value) -> Vec<String> {
        let checks = self.checks.iter();
        checks.flat_map(|schema| schema.misfits(value, 5)).collect()
    }
}

fn text_schema() -> Value {
    json!({
        "type": "object",
        "properties": { "text": { "type": "string" } },
        "required": ["text"],
        "additionalProperties": false
    })
}

impl Definition {
    /// Why it cannot run for a user who has keys of their own for these model providers.
    pub fn problem_with(&self, own_keys: &BTreeSet<String>) -> Option<&str> {
        let lacks_key = |needs: &&NeedsKey| !own_keys.contains(&needs.provider);
        let needs_key = self.needs_key.as_ref().filter(lacks_key);
        let no_key = needs_key.map(|needs| needs.problem.as_str());
        self.problem.as_deref().or(no_key)
    }

    /// As a user sees it who has keys of their own for these model providers.
    pub fn describe(&self, own_keys: &BTreeSet<String>) -> Agent {
        let problem = self.problem_with(own_keys);
        Agent {
            name: self.name.clone(),
            description: self.description.clone(),
            kind: self.kind,
            input_schema: self.input.schema.clone(),
            output_schema: self.output.as_ref().map(|shape| shape.schema.clone()),
            tools: self.tools.clone(),
            ready: problem.is_none(),
            problem: problem.map(str::to_owned),
        }
    }

    /// The input as an object that fits the schema: a text stands for `{"text": …}`. Fails with
    /// the places that do not fit.
    pub(crate) fn accept(&self, input: Value) -> Result<Value, Vec<String>> {
        let object = match input {
            Value::String(text) => json!({ "text": text }),
            other => other,
        };
        let misfits = self.input.misfits(&object);
        if misfits.is_empty() {
            Ok(object)
        } else {
            Err(misfits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_a_text_takes_a_text_and_nothing_else() {
        let shape = Shape::of_text();
        assert_eq!(shape.misfits(&json!({"text": "hi"})), Vec::<String>::new());
        for bad in [
            json!({}),
            json!({"text": 7}),
            json!({"text": "hi", "more": 1}),
            json!("hi"),
        ] {
            assert!(!shape.misfits(&bad).is_empty(), "{bad}");
        }
    }
}
