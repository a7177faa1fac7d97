//! Names of tools on the wire, where less is allowed than here.

use std::collections::{HashMap, HashSet};

use crate::{ChatRequest, Message};

/// Tool names in a request's tools and history, and what they are called on the wire: there a
/// name has at most 64 of `a-z A-Z 0-9 _ -`, ours may have dots or be longer.
#[derive(Debug, Default)]
pub(crate) struct ToolNames {
    to_wire: HashMap<String, String>,
    from_wire: HashMap<String, String>,
}

impl ToolNames {
    /// Finds the names that must be changed.
    pub(crate) fn of(request: &ChatRequest) -> Self {
        let called = request.messages.iter().flat_map(|message| match message {
            Message::Assistant { tool_calls, .. } => tool_calls.as_slice(),
            Message::User { .. } | Message::ToolResult { .. } => &[],
        });
        let all: Vec<&str> = request
            .tools
            .iter()
            .map(|tool| tool.name.as_str())
            .chain(called.map(|call| call.name.as_str()))
            .collect();
        let mut taken: HashSet<String> = all
            .iter()
            .filter(|name| fits(name))
            .map(|name| (*name).to_owned())
            .collect();
        let mut names = Self::default();
        for name in all {
            if fits(name) || names.to_wire.contains_key(name) {
                continue;
            }
            let wire = free_name(name, &taken);
            taken.insert(wire.clone());
            names.from_wire.insert(wire.clone(), name.to_owned());
            names.to_wire.insert(name.to_owned(), wire);
        }
        names
    }

    /// What a name of ours is called there.
    pub(crate) fn on_wire<'a>(&'a self, name: &'a str) -> &'a str {
        self.to_wire.get(name).map_or(name, String::as_str)
    }

    /// Our name for a name that came back.
    pub(crate) fn ours(&self, wire: String) -> String {
        self.from_wire.get(&wire).cloned().unwrap_or(wire)
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn fits(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn free_name(name: &str, taken: &HashSet<String>) -> String {
    let mut base: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(56)
        .collect();
    if base.is_empty() {
        base.push('_');
    }
    let numbered = (2_u32..).map(|number| format!("{base}_{number}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .find(|candidate| !taken.contains(candidate))
        .unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ToolSpec;

    fn spec(name: &str) -> ToolSpec {
        ToolSpec {
            name: name.to_owned(),
            description: String::new(),
            input_schema: json!({ "type": "object" }),
        }
    }

    #[test]
    fn names_that_do_not_fit_come_back_as_they_were() {
        let long = "x".repeat(80);
        let tools = ["data.profile", "data_profile", "data/profile", &long]
            .map(spec)
            .to_vec();
        let request = ChatRequest {
            tools,
            ..ChatRequest::default()
        };
        let names = ToolNames::of(&request);
        let wire: Vec<_> = request
            .tools
            .iter()
            .map(|tool| names.on_wire(&tool.name))
            .collect();
        assert!(wire.iter().all(|name| fits(name)), "{wire:?}");
        assert_eq!(wire.iter().collect::<HashSet<_>>().len(), 4);
        assert_eq!(wire[1], "data_profile");
        for (tool, wire) in request.tools.iter().zip(&wire) {
            assert_eq!(names.ours((*wire).to_owned()), tool.name);
        }
        assert_eq!(names.ours("unknown".to_owned()), "unknown");
    }
}
