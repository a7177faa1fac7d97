//! Policy files: read, parsed, and held against the schema, before the server starts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Effect, Policy, PolicyId, PolicySet, ValidationMode, Validator,
};
use miette::Diagnostic as _;
use netra_store::Rate;
use serde_json::Value;

use super::place::{Place, Places, line_of};
use super::vet::{ARGUMENTS, vet};

/// What the server has where the operator gives no files.
pub(super) const SHIPPED: &str = include_str!("default.cedar");
const SCHEMA: &str = include_str!("netra.cedarschema");
/// The most that policy files may have together, in bytes: each call is held against all of them.
const MAX_BYTES: u64 = 1024 * 1024;

/// Policies that cannot be used. The server does not start with them.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file or the folder cannot be read.
    #[error("cannot read {path}: {problem}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        problem: String,
    },
    /// The folder has no policies. An empty one would refuse every call.
    #[error(
        "there is no file *.cedar in {0}; `netra policy print` prints the policies to begin with"
    )]
    Empty(String),
    /// A policy is not one, or asks about something that there is not.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

impl Unusable {
    pub(super) fn shipped(error: impl std::fmt::Display) -> Self {
        Self::Wrong(vec![format!("a policy of the server itself: {error}")])
    }
}

/// The schema that policies are held against.
#[derive(Debug, Clone)]
pub(super) struct Schema(cedar_policy::Schema);

impl Schema {
    pub(super) fn new() -> Result<Self, Unusable> {
        let (schema, _) =
            cedar_policy::Schema::from_cedarschema_str(SCHEMA).map_err(Unusable::shipped)?;
        Ok(Self(schema))
    }

    pub(super) fn cedar(&self) -> &cedar_policy::Schema {
        &self.0
    }
}

/// Policies that fit the schema.
#[derive(Debug, Clone)]
pub(super) struct Policies {
    /// All of them.
    pub(super) whole: PolicySet,
    /// Those that ask about no argument: what they say holds for every call of a run.
    pub(super) fixed: PolicySet,
    /// Whether one that asks about arguments permits something.
    pub(super) permits_by_arguments: bool,
    /// Whether any asks about arguments.
    pub(super) reads_arguments: bool,
    /// How often the calls that a policy permits may be made, where its `@rate` says so.
    pub(super) rates: HashMap<PolicyId, Vec<Rate>>,
    /// Where each stands.
    pub(super) places: HashMap<PolicyId, Place>,
    /// The files that have none.
    pub(super) empty: Vec<String>,
}

/// The permissions that the shipped policies say they grant.
pub(super) fn shipped_permissions() -> Result<BTreeSet<String>, Unusable> {
    let shipped = PolicySet::from_str(SHIPPED).map_err(Unusable::shipped)?;
    let granted = shipped
        .policies()
        .filter_map(|policy| policy.annotation("permission"));
    Ok(granted.map(str::to_owned).collect())
}

/// The `*.cedar` files of a folder, in the order of their names.
pub(super) fn read(dir: &Path) -> Result<Vec<(String, String)>, Unusable> {
    let unreadable = |path: &Path, problem: std::io::Error| Unusable::Unreadable {
        path: path.display().to_string(),
        problem: problem.to_string(),
    };
    let mut files = BTreeMap::new();
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, error))? {
        let path = entry.map_err(|error| unreadable(dir, error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            bytes += text.len() as u64;
            files.insert(path.display().to_string(), text);
        }
    }
    if files.is_empty() {
        return Err(Unusable::Empty(dir.display().to_string()));
    }
    if bytes > MAX_BYTES {
        let words = format!("{}: more than {MAX_BYTES} bytes of policies", dir.display());
        return Err(Unusable::Wrong(vec![words]));
    }
    Ok(files.into_iter().collect())
}

impl Policies {
    /// Of these files, by name and text; every mistake in them is told at once.
    pub(super) fn parse(schema: &Schema, files: &[(String, String)]) -> Result<Self, Unusable> {
        let (mut wrong, mut whole) = (Vec::new(), PolicySet::new());
        let (mut rates, mut places, mut empty) = (HashMap::new(), HashMap::new(), Vec::new());
        for (file, text) in files {
            match PolicySet::from_str(text) {
                Ok(set) => {
                    if set.is_empty() {
                        empty.push(file.clone());
                    }
                    let of_file = Places::of(file, text);
                    take(&mut whole, (file.as_str(), &of_file), &set, &mut wrong);
                    take_rates(&mut rates, (file.as_str(), &of_file), &set, &mut wrong);
                    for policy in set.policies() {
                        let place = of_file.find(policy);
                        vet(policy, &place, &mut wrong);
                        places.insert(PolicyId::new(id_of(file, policy)), place);
                    }
                }
                Err(errors) => wrong.extend(errors.iter().map(|error| {
                    let offset = error.labels().and_then(|mut labels| labels.next());
                    let line = offset.map_or(1, |label| line_of(text, label.offset()));
                    format!("{file}:{line}: {error}")
                })),
            }
        }
        let checked =
            Validator::new(schema.cedar().clone()).validate(&whole, ValidationMode::Strict);
        wrong.extend(checked.validation_errors().map(|error| {
            let place = places.get(error.policy_id()).map(Place::start);
            format!("{}: {error}", place.unwrap_or_default())
        }));
        if wrong.is_empty() && whole.is_empty() {
            let words = "no policy in it, and no other file has one: every call would be refused";
            wrong.extend(empty.iter().map(|file| format!("{file}:1: {words}")));
        }
        if !wrong.is_empty() {
            return Err(Unusable::Wrong(wrong));
        }
        Ok(Self {
            rates,
            places,
            empty,
            ..Self::sort(whole)?
        })
    }

    fn sort(whole: PolicySet) -> Result<Self, Unusable> {
        let mut fixed = PolicySet::new();
        let (mut permits_by_arguments, mut reads_arguments) = (false, false);
        // Those for servers of users' own are always asked whole, and say nothing of calls.
        let of_connecting = |policy: &&Policy| {
            matches!(policy.action_constraint(), ActionConstraint::Eq(action)
                if action.id().unescaped() == "connect")
        };
        for policy in whole.policies().filter(|policy| !of_connecting(policy)) {
            let json = policy.to_json().map_err(Unusable::shipped)?;
            if asks_about_arguments(&json) {
                reads_arguments = true;
                permits_by_arguments |= policy.effect() == Effect::Permit;
            } else {
                fixed.add(policy.clone()).map_err(Unusable::shipped)?;
            }
        }
        Ok(Self {
            whole,
            fixed,
            permits_by_arguments,
            reads_arguments,
            rates: HashMap::new(),
            places: HashMap::new(),
            empty: Vec::new(),
        })
    }
}

/// The name that a policy of a file gets: its `@id`, or file and place.
fn id_of(file: &str, policy: &Policy) -> String {
    match policy.annotation("id") {
        Some(id) => id.to_owned(),
        None => format!("{file}:{}", policy.id()),
    }
}

/// Takes the policies of one file in, each under its `@id`, or under file and place.
fn take(
    whole: &mut PolicySet,
    (file, places): (&str, &Places<'_>),
    set: &PolicySet,
    wrong: &mut Vec<String>,
) {
    if set.templates().next().is_some() {
        let line = places.line_of("?");
        wrong.push(format!("{file}:{line}: templates have no use here"));
    }
    for policy in set.policies() {
        let id = id_of(file, policy);
        if whole.add(policy.new_id(PolicyId::new(&id))).is_err() {
            let at = places.find(policy).of("@id");
            wrong.push(format!("{at}: there are two policies with the id {id:?}"));
        }
    }
}

/// Takes the rates of one file's policies in, each under the name of its policy.
fn take_rates(
    rates: &mut HashMap<PolicyId, Vec<Rate>>,
    (file, places): (&str, &Places<'_>),
    set: &PolicySet,
    wrong: &mut Vec<String>,
) {
    for policy in set.policies() {
        let Some(written) = policy.annotation("rate") else {
            continue;
        };
        let id = id_of(file, policy);
        match rates_of(policy, written) {
            Ok(all) => drop(rates.insert(PolicyId::new(&id), all)),
            Err(problem) => {
                let at = places.find(policy).of("@rate");
                wrong.push(format!("{at}: @rate of the policy {id:?}: {problem}"));
            }
        }
    }
}

fn rates_of(policy: &Policy, written: &str) -> Result<Vec<Rate>, String> {
    if policy.effect() == Effect::Forbid {
        return Err("a `forbid` permits no calls that could be counted".into());
    }
    let other = |action: &cedar_policy::EntityUid| action.id().unescaped() != "call";
    if matches!(policy.action_constraint(), ActionConstraint::Eq(action) if other(&action)) {
        return Err("calls are counted where they are permitted, by a `permit` of `call`".into());
    }
    let all = written
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<Rate>, _>>()?;
    let twice = |rate: &Rate| all.iter().filter(|one| one.window == rate.window).count() > 1;
    match all.iter().find(|rate| twice(rate)) {
        Some(rate) => Err(format!("it has two rates for one {}", rate.window.as_str())),
        None => Ok(all),
    }
}

/// Whether a policy, in Cedar's JSON, looks at `context.text` or `context.number`, at the context as a whole, or at what
/// these two are by its name: `Netra::Text::"arguments"`.
fn asks_about_arguments(json: &Value) -> bool {
    let is_context = |value: &Value| value["Var"] == "context";
    let of_arguments = |kind: &Value| ARGUMENTS.iter().any(|one| kind == one);
    match json {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            if matches!(key.as_str(), "." | "has") && is_context(&value["left"]) {
                return matches!(value["attr"].as_str(), None | Some("text" | "number"));
            }
            (key == "Var" && value == "context")
                || (key == "__entity" && of_arguments(&value["type"]))
                || asks_about_arguments(value)
        }),
        Value::Array(items) => items.iter().any(asks_about_arguments),
        _ => false,
    }
}
