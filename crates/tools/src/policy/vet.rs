//! Policies that fit the schema and still say nothing, because they name what there is not: a misspelt annotation bounds
//! nothing, a `forbid` for a tool that does not exist forbids nothing.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use netra_protocol::account::{Plan, Role};
use serde_json::Value;

use super::place::Place;
use crate::shelf::{OF_USERS, source_of};

/// What the server reads of a policy's annotations.
const ANNOTATIONS: [&str; 5] = ["id", "permission", "needs", "reason", "rate"];

/// The values that there are of what policies compare.
const VALUES: [(&str, &[&str]); 4] = [
    ("role", Role::WORDS),
    ("plan", Plan::WORDS),
    ("risk", &["low", "medium", "high"]),
    ("environment", &["development", "staging", "production"]),
];

/// What the arguments of a call are to a policy, each with the one name `arguments`.
pub(super) const ARGUMENTS: [&str; 2] = ["Netra::Text", "Netra::Number"];

/// What policies can name on a server.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Its tools, as far as they are known before tool servers are asked.
    pub tools: BTreeSet<String>,
    /// Its tool servers.
    pub servers: BTreeSet<String>,
    /// The permissions that tools declare.
    pub permissions: BTreeSet<String>,
}

/// What is found in policies, each with file and line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Names that there are not.
    pub mistakes: Vec<String>,
    /// What may be one, and cannot be known before the server runs.
    pub doubts: Vec<String>,
}

/// What is wrong with a policy whatever the server's tools are.
pub(super) fn vet(policy: &Policy, place: &Place, wrong: &mut Vec<String>) {
    for (name, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            let at = place.of(&format!("@{name}"));
            let known = ANNOTATIONS.map(|name| format!("@{name}")).join(", ");
            wrong.push(format!("{at}: there is no annotation @{name}, but {known}"));
        }
    }
    for (attribute, value) in compared(policy) {
        let known = VALUES.iter().find(|(name, _)| *name == attribute);
        let Some((_, known)) = known else { continue };
        if !known.contains(&value.as_str()) {
            let at = place.of(&format!("{value:?}"));
            let known = known.join(", ");
            wrong.push(format!("{at}: {attribute} is never {value:?}, but {known}"));
        }
    }
    let json = policy.to_json().unwrap_or_default();
    for kind in ARGUMENTS {
        let mut named = BTreeSet::new();
        entities(&json, kind, &mut named);
        for name in named.into_iter().filter(|name| name != "arguments") {
            let at = place.of(&format!("{name:?}"));
            wrong.push(format!(
                "{at}: there is no {kind}::{name:?}, but {kind}::\"arguments\""
            ));
        }
    }
}

/// What a policy names that this server does not have.
pub(super) fn unknown(policy: &Policy, place: &Place, known: &Known, findings: &mut Findings) {
    let compared = compared(policy);
    let named = compared
        .iter()
        .filter(|(attribute, _)| attribute == "permission");
    for (_, permission) in named {
        if !known.permissions.contains(permission) {
            let at = place.of(&format!("{permission:?}"));
            findings
                .mistakes
                .push(format!("{at}: no tool has the permission {permission:?}"));
        }
    }
    let mut tools = BTreeSet::new();
    if let Ok(json) = policy.to_json() {
        entities(&json, "Netra::Tool", &mut tools);
    }
    let named = compared
        .into_iter()
        .filter(|(attribute, _)| attribute == "name");
    tools.extend(named.map(|(_, name)| name));
    for tool in tools {
        if known.tools.contains(&tool) || tool.starts_with(OF_USERS) {
            continue;
        }
        let at = place.of(&format!("{tool:?}"));
        match source_of(&tool) {
            None => findings
                .mistakes
                .push(format!("{at}: there is no tool {tool:?}")),
            Some(server) if known.servers.contains(server) => findings.doubts.push(format!(
                "{at}: whether there is a tool {tool:?}, its server says when it runs"
            )),
            Some(server) => findings.doubts.push(format!(
                "{at}: there is no tool {tool:?}: no tool server {server:?} is configured"
            )),
        }
    }
}

/// Attributes that a policy compares with texts, by `==`, `!=` or `contains`.
fn compared(policy: &Policy) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if let Ok(json) = policy.to_json() {
        compare(&json, &mut found);
    }
    found
}

fn compare(json: &Value, found: &mut Vec<(String, String)>) {
    match json {
        Value::Object(fields) => {
            for (operation, sides) in fields {
                if matches!(operation.as_str(), "==" | "!=" | "contains") {
                    let (left, right) = (&sides["left"], &sides["right"]);
                    for (attribute, texts) in [(left, right), (right, left)] {
                        let attribute = attribute["."]["attr"].as_str();
                        let texts = attribute.into_iter().zip(std::iter::once(texts));
                        found.extend(texts.flat_map(|(name, texts)| {
                            texts_of(texts).map(move |text| (name.to_owned(), text))
                        }));
                    }
                }
                compare(sides, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| compare(item, found)),
        _ => {}
    }
}

/// A text, or those of a set.
fn texts_of(json: &Value) -> impl Iterator<Item = String> + '_ {
    let set = json["Set"].as_array().into_iter().flatten();
    let all = std::iter::once(json).chain(set);
    all.filter_map(|one| one["Value"].as_str().map(str::to_owned))
}

/// What a policy names of this kind.
fn entities(json: &Value, kind: &str, found: &mut BTreeSet<String>) {
    match json {
        Value::Object(fields) => {
            if json["type"] == kind {
                found.extend(json["id"].as_str().map(str::to_owned));
            }
            fields
                .values()
                .for_each(|value| entities(value, kind, found));
        }
        Value::Array(items) => items.iter().for_each(|item| entities(item, kind, found)),
        _ => {}
    }
}
