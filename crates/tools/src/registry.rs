//! All tools of the server: those that are built in never change, those of tool servers come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use netra_context::UserExecutionContext;
use serde_json::Value;
use tokio::sync::watch;

use crate::policy::{Policy, Question, Verdict};
use crate::tool::{Tool, ToolSpec};

/// Names that scripts know already: a tool of that name could not be called there.
const RESERVED: [&str; 4] = ["agent", "think", "ask_model", "print"];
/// What stands between the name of a source and that of its tool.
const OF_SOURCE: &str = "__";

/// A tool that the registry does not take. The server does not start with one that is built in.
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
    fn new(tool: Arc<dyn Tool>) -> Result<Self, InvalidTool> {
        let spec = tool.spec();
        if !is_name(&spec.name) {
            return Err(InvalidTool::Name(spec.name.clone()));
        }
        // A pattern may be a stranger's, so it is held against texts in linear time.
        let schema = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&spec.input_schema)
            .map_err(|error| InvalidTool::Schema {
                name: spec.name.clone(),
                problem: error.to_string(),
            })?;
        Ok(Self { tool, schema })
    }

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

/// Where a source of tools stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It has been asked for its tools and has not answered yet.
    Asked,
    /// Its tools are there.
    Here,
    /// It does not answer, for this reason. What it had before stays listed.
    Away(String),
}

/// What there is at one moment. It never changes; a later moment has another one.
#[derive(Clone, Default)]
pub(crate) struct Shelf {
    tools: BTreeMap<String, Arc<Entry>>,
    sources: BTreeMap<String, Standing>,
}

impl Shelf {
    pub(crate) fn entry(&self, name: &str) -> Option<&Arc<Entry>> {
        self.tools.get(name)
    }

    /// Where the source stands that a tool of this name would come from.
    fn standing(&self, name: &str) -> Option<(&str, &Standing)> {
        let (source, standing) = self.sources.get_key_value(source_of(name)?)?;
        Some((source, standing))
    }

    /// Why there is nothing of this name, where it would come from a source.
    fn absence(&self, name: &str) -> Option<String> {
        let (source, standing) = self.standing(name)?;
        match standing {
            Standing::Asked => Some(format!("the tool server {source} has not answered yet")),
            Standing::Away(why) => Some(format!("the tool server {source} is away: {why}")),
            Standing::Here if self.tools.contains_key(name) => None,
            Standing::Here => Some(format!("the tool server {source} has no tool of this name")),
        }
    }
}

/// The tools by name, and the policy that says who may call them.
///
/// What tool servers offer can change while runs go on. It is therefore kept as one value that is
/// replaced whole: a run keeps the one that it began with.
pub struct Registry {
    shelf: watch::Sender<Arc<Shelf>>,
    policy: Arc<Policy>,
}

impl Registry {
    /// Takes the tools under this policy, or names the first that cannot be taken.
    pub fn new(tools: Vec<Arc<dyn Tool>>, policy: Policy) -> Result<Self, InvalidTool> {
        let mut shelf = Shelf::default();
        for tool in tools {
            let name = tool.spec().name.clone();
            let entry = Arc::new(Entry::new(tool)?);
            if shelf.tools.insert(name.clone(), entry).is_some() {
                return Err(InvalidTool::Duplicate(name));
            }
        }
        Ok(Self {
            shelf: watch::Sender::new(Arc::new(shelf)),
            policy: Arc::new(policy),
        })
    }

    /// Says that tools named `SOURCE__…` will come from these sources, so that agents may name
    /// them before they are there.
    pub fn expect(&self, sources: impl IntoIterator<Item = String>) {
        self.change(|shelf| {
            let asked = sources.into_iter().map(|name| (name, Standing::Asked));
            shelf.sources.extend(asked);
        });
    }

    /// Puts the tools of a source in the place of those that it had, but for those that cannot be
    /// taken, which are named.
    pub fn learn(&self, source: &str, tools: Vec<Arc<dyn Tool>>) -> Vec<InvalidTool> {
        let mut refused = Vec::new();
        let mut learned = BTreeMap::new();
        for tool in tools {
            let name = tool.spec().name.clone();
            if source_of(&name) != Some(source) {
                refused.push(InvalidTool::Name(name));
                continue;
            }
            match Entry::new(tool) {
                Err(problem) => refused.push(problem),
                Ok(_) if learned.contains_key(&name) => refused.push(InvalidTool::Duplicate(name)),
                Ok(entry) => {
                    learned.insert(name, Arc::new(entry));
                }
            }
        }
        self.change(|shelf| {
            shelf
                .tools
                .retain(|name, _| source_of(name) != Some(source));
            shelf.tools.append(&mut learned);
            shelf.sources.insert(source.to_owned(), Standing::Here);
        });
        refused
    }

    /// Says that a source does not answer. The tools that it had stay, and are listed with this reason.
    pub fn away(&self, source: &str, why: &str) {
        self.change(|shelf| {
            let standing = Standing::Away(why.to_owned());
            shelf.sources.insert(source.to_owned(), standing);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Shelf)) {
        self.shelf.send_modify(|shelf| change(Arc::make_mut(shelf)));
    }

    /// What there is now.
    pub(crate) fn now(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf.borrow())
    }

    /// Waits until every source that tools of these names would come from has been asked once. A
    /// source bounds by itself how long that takes.
    pub async fn settled(&self, names: &[String]) {
        let settled = |shelf: &Arc<Shelf>| {
            names
                .iter()
                .all(|name| !matches!(shelf.standing(name), Some((_, Standing::Asked))))
        };
        // The sender is this registry, so it cannot be gone.
        self.shelf.subscribe().wait_for(settled).await.ok();
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Whether there is a tool of this name, or a source that may bring it.
    pub fn contains(&self, name: &str) -> bool {
        let shelf = self.shelf.borrow();
        shelf.tools.contains_key(name)
            || matches!(
                shelf.standing(name),
                Some((_, Standing::Asked | Standing::Away(_)))
            )
    }

    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn Tool>> {
        let shelf = self.shelf.borrow();
        shelf.entry(name).map(|entry| Arc::clone(&entry.tool))
    }

    /// Why there is nothing of this name now, where it would come from a tool server.
    pub(crate) fn absence(&self, name: &str) -> Option<String> {
        self.shelf.borrow().absence(name)
    }

    /// Where the arguments do not fit the tool's schema; none where they fit, or there is no such
    /// tool.
    pub fn misfits(&self, name: &str, arguments: &Value) -> Option<String> {
        self.now().entry(name)?.misfits(arguments)
    }

    /// Every tool, with whether this user may call it and why not, by name.
    pub fn list_for(&self, ctx: &UserExecutionContext) -> Vec<netra_protocol::tool::Tool> {
        let shelf = self.now();
        let shown = |entry: &Arc<Entry>| {
            let spec = entry.tool.spec();
            let verdict = match shelf.absence(&spec.name) {
                Some(absence) => Verdict::Refused(absence),
                None => self.offers(ctx, spec),
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
        };
        shelf.tools.values().map(shown).collect()
    }

    fn offers(&self, ctx: &UserExecutionContext, spec: &ToolSpec) -> Verdict {
        match ctx.principal() {
            None => Verdict::Refused("no user asks".into()),
            Some(principal) => self.policy.offers(&Question {
                principal,
                tool: spec,
                agent: "",
                thread: None,
            }),
        }
    }
}

/// The source that a tool of this name comes from; none for one that is built in.
fn source_of(name: &str) -> Option<&str> {
    name.split_once(OF_SOURCE).map(|(source, _)| source)
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
        let shelf = registry.now();
        let entry = shelf.entry("a").unwrap();
        assert_eq!(entry.misfits(&json!({"n": 1})), None);
        let misfit = entry.misfits(&json!({"n": "secret"})).unwrap();
        assert!(
            misfit.contains("/n") && !misfit.contains("secret"),
            "{misfit}"
        );
    }

    #[tokio::test]
    async fn a_source_brings_tools_and_replaces_them_whole() {
        let registry = registry(vec![tool("a", json!({}))]).unwrap();
        assert!(!registry.contains("src__x"));
        registry.expect(["src".to_owned()]);
        assert!(registry.contains("src__x") && !registry.contains("other__x"));
        assert!(registry.get("src__x").is_none());
        let before = registry.now();

        let backtracking = json!({"properties": {"n": {"type": "string", "pattern": "(?=a)a"}}});
        let refused = registry.learn(
            "src",
            vec![
                tool("src__x", json!({})),
                tool("src__x", json!({})),
                tool("other__x", json!({})),
                tool("src__bad", json!({"type": 7})),
                tool("src__slow", backtracking),
            ],
        );
        assert_eq!(refused.len(), 4, "{refused:?}");
        registry.settled(&["src__x".to_owned()]).await;
        assert!(registry.get("src__x").is_some() && registry.get("a").is_some());
        assert!(!registry.contains("src__bad"));
        // Who began before keeps what there was.
        assert!(before.entry("src__x").is_none());

        registry.away("src", "it fell over");
        let absence = registry.absence("src__x").unwrap();
        assert!(absence.contains("it fell over"), "{absence}");
        registry.learn("src", vec![tool("src__y", json!({}))]);
        assert!(registry.get("src__x").is_none() && registry.get("src__y").is_some());
    }

    #[tokio::test]
    async fn who_needs_a_source_waits_for_its_first_answer_and_nobody_else() {
        let registry = registry(vec![]).unwrap();
        registry.expect(["src".to_owned()]);
        registry.settled(&["time_now".to_owned()]).await;
        let names = ["src__x".to_owned()];
        let mut waits = std::pin::pin!(registry.settled(&names));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        registry.away("src", "no answer");
        waits.await;
    }
}
