//! How a model agent goes about its work: to whom it may hand over, when it stops, how its result is
//! mended, and what becomes of a conversation that grows too long.

use std::collections::BTreeMap;

use netra_protocol::agent::AgentKind;
use serde::Deserialize;
use toml::Spanned;

use super::manifest::{Flaw, Kind, Manifest, Text};

/// What stands before the name of a sub-agent in the name of the tool that calls it.
pub(crate) const CALLS: &str = "agent_";
/// What stands before the name of an agent in the name of the tool that hands over to it.
pub(crate) const HANDS_OVER: &str = "handoff_";
/// The tool by which a model gives a result that has a schema.
pub(crate) const FINAL_ANSWER: &str = "final_answer";
/// The longest name of a tool that every provider takes.
const MAX_TOOL_NAME: usize = 64;
/// How often a result that does not fit is sent back by default, and at most.
const OUTPUT_REPAIRS: u32 = 2;
const MAX_OUTPUT_REPAIRS: u32 = 10;
/// The smallest window, in tokens: instructions and a question have to have room in it.
const MIN_CONTEXT_TOKENS: u32 = 1_000;

/// What is done with a conversation that no longer fits the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The oldest results of tools are left out, then the oldest rounds.
    #[default]
    Trim,
    /// The model sums up what is older.
    Summarise,
}

/// How a model agent goes about its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Conduct {
    /// The agents to which it may hand the conversation over.
    pub handoffs: Vec<String>,
    /// The most answers of its model; the run's steps bound it anyway.
    pub max_rounds: Option<u32>,
    /// Tools whose first success ends the agent, with what they gave as its result.
    pub stop_after_tool: Vec<String>,
    /// How often a result that does not fit the schema is sent back.
    pub output_repairs: u32,
    /// What is done with a conversation that no longer fits the model.
    pub overflow: Overflow,
    /// The most tokens of a request, where that is to be less than the model takes.
    pub context_tokens: Option<u32>,
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            handoffs: Vec::new(),
            max_rounds: None,
            stop_after_tool: Vec::new(),
            output_repairs: OUTPUT_REPAIRS,
            overflow: Overflow::default(),
            context_tokens: None,
        }
    }
}

impl Conduct {
    /// Reads it from the manifest.
    pub(super) fn of(text: &Text, manifest: &Manifest) -> Result<Self, Flaw> {
        if *manifest.kind.get_ref() != Kind::Model {
            return match manifest.of_models_only() {
                Some((field, span)) => {
                    Err(text.flaw(span, format!("only a model agent has `{field}`")))
                }
                None => Ok(Self::default()),
            };
        }
        check_names(text, manifest)?;
        check_stops(text, manifest)?;
        check_numbers(text, manifest)?;
        let names = |list: &[Spanned<String>]| list.iter().map(|n| n.get_ref().clone()).collect();
        let number = |field: &Option<Spanned<u32>>| field.as_ref().map(|n| *n.get_ref());
        Ok(Self {
            handoffs: names(&manifest.handoffs),
            max_rounds: number(&manifest.max_rounds),
            stop_after_tool: names(&manifest.stop_after_tool),
            output_repairs: number(&manifest.output_repairs).unwrap_or(OUTPUT_REPAIRS),
            overflow: manifest
                .context
                .as_ref()
                .map(|mode| *mode.get_ref())
                .unwrap_or_default(),
            context_tokens: number(&manifest.context_tokens),
        })
    }
}

/// The names of the tools that a model is told of, each with the place that it comes from.
fn tool_names(manifest: &Manifest) -> impl Iterator<Item = (String, &Spanned<String>)> {
    let own = manifest
        .tools
        .iter()
        .map(|tool| (tool.get_ref().clone(), tool));
    let named = |prefix: &'static str| {
        move |agent: &'_ Spanned<String>| format!("{prefix}{}", agent.get_ref())
    };
    let (calls, hands_over) = (named(CALLS), named(HANDS_OVER));
    let called = manifest
        .sub_agents
        .iter()
        .map(move |agent| (calls(agent), agent));
    let handed = manifest
        .handoffs
        .iter()
        .map(move |agent| (hands_over(agent), agent));
    own.chain(called).chain(handed)
}

fn check_names(text: &Text, manifest: &Manifest) -> Result<(), Flaw> {
    let mut known = Vec::new();
    if manifest.output_schema.is_some() {
        known.push(FINAL_ANSWER.to_owned());
    }
    for (name, from) in tool_names(manifest) {
        if name.len() > MAX_TOOL_NAME {
            let words = format!("{name:?} would be its name for the model, and that is too long");
            return Err(text.flaw(from.span(), words));
        }
        if known.contains(&name) {
            let words = format!("the model would have two tools named {name:?}");
            return Err(text.flaw(from.span(), words));
        }
        known.push(name);
    }
    Ok(())
}

/// Whether those that it may hand over to are there, and can take over.
pub(super) fn check_handoffs(
    text: &Text,
    manifest: &Manifest,
    agents: &BTreeMap<String, AgentKind>,
) -> Result<(), Flaw> {
    for agent in &manifest.handoffs {
        let flaw = match agents.get(agent.get_ref()) {
            None => format!("there is no agent named {:?}", agent.get_ref()),
            Some(AgentKind::Model) => continue,
            Some(_) => "only a model agent can take a conversation over".to_owned(),
        };
        return Err(text.flaw(agent.span(), flaw));
    }
    Ok(())
}

fn check_stops(text: &Text, manifest: &Manifest) -> Result<(), Flaw> {
    for stop in &manifest.stop_after_tool {
        let name = stop.get_ref();
        let hands_over = manifest
            .handoffs
            .iter()
            .any(|agent| name.strip_prefix(HANDS_OVER) == Some(agent.get_ref().as_str()));
        if hands_over || !tool_names(manifest).any(|(known, _)| known == *name) {
            let words = format!("{name:?} is neither in `tools` nor `{CALLS}…` of `sub_agents`");
            return Err(text.flaw(stop.span(), words));
        }
    }
    Ok(())
}

fn check_numbers(text: &Text, manifest: &Manifest) -> Result<(), Flaw> {
    if let Some(rounds) = &manifest.max_rounds
        && *rounds.get_ref() == 0
    {
        return Err(text.flaw(rounds.span(), "a model agent needs one round at least"));
    }
    if let Some(repairs) = &manifest.output_repairs {
        if *repairs.get_ref() > MAX_OUTPUT_REPAIRS {
            let words = format!("a result is sent back {MAX_OUTPUT_REPAIRS} times at most");
            return Err(text.flaw(repairs.span(), words));
        }
        if manifest.output_schema.is_none() {
            let words = "without `output_schema` every result fits";
            return Err(text.flaw(repairs.span(), words));
        }
    }
    if let Some(tokens) = &manifest.context_tokens
        && *tokens.get_ref() < MIN_CONTEXT_TOKENS
    {
        let words = format!("a conversation needs room for {MIN_CONTEXT_TOKENS} tokens at least");
        return Err(text.flaw(tokens.span(), words));
    }
    Ok(())
}
