//! All tools of the server, checked once at start and never changed after.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::Validator;
use netra_context::UserExecutionContext;
use serde_json::Value;

use crate::policy::{Policy, Question, Verdict};
use crate::tool::Tool;

/// Names that scripts know already: a tool of that name could not be called there.
const RESERVED: [&str; 4] = ["agent", "think", "ask_model", "print"];

/// A tool that the registry does not take. The server does not start with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTool {
    /// Two tools have one name.
    #[error("there are two tools named {0}")]
    Duplicate(String),
    /// The name is not one that every caller can use.
    #[error(
        "{0:?} cannot be a tool's name: a lower-case letter, then at most 63 letters, digits or `_`, and not `agent`, `think`, `ask_model` or `print`"
    )]
    Name(String),
    /// The schema of the arguments is none.
    #[error("the input schema of the tool {name} is not valid: {problem}")]
    Schema {
        /// The tool.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

pub(crate) struct Entry {
    pub(crate) tool: Arc<dyn Tool>,
    schema: Validator,
}

impl Entry {
    /// The first few places where the arguments do not fit the schema.
    pub(crate) fn misfits(&self, arguments: &Value) -> Option<String> {
        let found: Vec<String> = self
            .schema
            .iter_errors(arguments)
            .take(3)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.masked().to_string(),
                path => format!("{path}: {}", error.masked()),
            })
            .collect();
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// The tools by name, and the policy that says who may call them.
pub struct Registry {
    tools: BTreeMap<String, Entry>,
    policy: Arc<Policy>,
}

impl Registry {
    /// Takes the tools under this policy, or names the first that cannot be taken.
    pub fn new(tools: Vec<Arc<dyn Tool>>, policy: Policy) -> Result<Self, InvalidTool> {
        let mut entries = BTreeMap::new();
        for tool in tools {
            let spec = tool.spec();
            if !is_name(&spec.name) {
                return Err(InvalidTool::Name(spec.name.clone()));
            }
            let schema = jsonschema::validator_for(&spec.input_schema).map_err(|error| {
                InvalidTool::Schema {
                    name: spec.name.clone(),
                    problem: error.to_string(),
                }
            })?;
            let name = spec.name.clone();
            if entries
                .insert(name.clone(), Entry { tool, schema })
                .is_some()
            {
                return Err(InvalidTool::Duplicate(name));
            }
        }
        Ok(Self {
            tools: entries,
            policy: Arc::new(policy),
        })
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Whether there is a tool of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name).map(|entry| &entry.tool)
    }

    /// Where the arguments do not fit the tool's schema; none where they fit, or there is no such
    /// tool.
    pub fn misfits(&self, name: &str, arguments: &Value) -> Option<String> {
        self.entry(name)?.misfits(arguments)
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.tools.get(name)
    }

    /// Every tool, with whether this user may call it and why not, by name.
    pub fn list_for(&self, ctx: &UserExecutionContext) -> Vec<netra_protocol::tool::Tool> {
        self.tools
            .values()
            .map(|entry| {
                let spec = entry.tool.spec();
                let verdict = match ctx.principal() {
                    None => Verdict::Refused("no user asks".into()),
                    Some(principal) => self.policy.offers(&Question {
                        principal,
                        tool: spec,
                        agent: "",
                        thread: None,
                    }),
                };
                netra_protocol::tool::Tool {
                    name: spec.name.clone(),
                    description: spec.description.clone(),
                    input_schema: spec.input_schema.clone(),
                    permission: spec.permission.clone(),
                    risk: spec.risk,
                    allowed: verdict.permits(),
                    needs_approval: matches!(verdict, Verdict::AfterApproval(_)),
                    reason: match verdict {
                        Verdict::Refused(reason) => Some(reason),
                        _ => None,
                    },
                    idempotent: spec.idempotent,
                }
            })
            .collect()
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.len() <= 64
        && !RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use netra_protocol::Failure;
    use netra_protocol::tool::Risk;
    use serde_json::json;

    use super::*;
    use crate::tool::{Call, ToolSpec};

    struct Named(ToolSpec);

    #[async_trait]
    impl Tool for Named {
        fn spec(&self) -> &ToolSpec {
            &self.0
        }

        async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
            Ok(call.arguments)
        }
    }

    fn tool(name: &str, input_schema: Value) -> Arc<dyn Tool> {
        Arc::new(Named(ToolSpec {
            name: name.into(),
            description: String::new(),
            input_schema,
            permission: "basic".into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        }))
    }

    fn registry(tools: Vec<Arc<dyn Tool>>) -> Result<Registry, InvalidTool> {
        Registry::new(tools, Policy::shipped("production").unwrap())
    }

    #[test]
    fn duplicates_bad_names_and_bad_schemas_are_refused_at_start() {
        let twice = registry(vec![tool("a", json!({})), tool("a", json!({}))]);
        assert_eq!(twice.err(), Some(InvalidTool::Duplicate("a".into())));
        for name in ["", "Upper", "1st", "with-dash", "agent", &"x".repeat(65)] {
            let refused = registry(vec![tool(name, json!({}))]).err();
            assert_eq!(refused, Some(InvalidTool::Name(name.into())));
        }
        let schema = registry(vec![tool("a", json!({"type": 7}))]).err();
        assert!(matches!(schema, Some(InvalidTool::Schema { name, .. }) if name == "a"));
    }

    #[test]
    fn a_misfit_names_its_place_and_not_the_value() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let registry = registry(vec![tool("a", schema)]).unwrap();
        let entry = registry.entry("a").unwrap();
        assert_eq!(entry.misfits(&json!({"n": 1})), None);
        let misfit = entry.misfits(&json!({"n": "secret"})).unwrap();
        assert!(
            misfit.contains("/n") && !misfit.contains("secret"),
            "{misfit}"
        );
    }
}
