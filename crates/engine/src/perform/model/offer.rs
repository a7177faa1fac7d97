//! What a model is told that it can call: tools, sub-agents, agents to hand over to, the final answer.

use std::sync::Arc;

use netra_model::ToolSpec;
use serde_json::{Value, json};

use crate::agents::{CALLS, Definition, FINAL_ANSWER, HANDS_OVER};
use crate::execution::Frame;

/// What a name that the model calls stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// A tool, or nothing that there is: the dispatcher says so.
    Tool,
    /// One of the agent's sub-agents.
    Agent(&'a str),
    /// An agent that it may hand over to.
    Handoff(&'a str),
}

impl<'a> Target<'a> {
    pub(super) fn of(agent: &Definition, name: &'a str) -> Self {
        let listed = |list: &[String], prefix| {
            let other = name.strip_prefix(prefix)?;
            list.iter().any(|one| one == other).then_some(other)
        };
        if let Some(other) = listed(&agent.sub_agents, CALLS) {
            return Self::Agent(other);
        }
        listed(&agent.conduct.handoffs, HANDS_OVER).map_or(Self::Tool, Self::Handoff)
    }
}

/// All that the model may call, but for the final answer.
pub(super) fn offer(frame: &Frame<'_>) -> Vec<ToolSpec> {
    let mut offered = tools(frame);
    offered.extend(others(frame, &frame.agent.sub_agents).map(|agent| call(&agent)));
    let handoffs = others(frame, &frame.agent.conduct.handoffs);
    offered.extend(handoffs.map(|agent| handoff(&agent)));
    offered
}

/// The tool that takes a result of this schema.
pub(super) fn final_answer(input_schema: Value) -> ToolSpec {
    ToolSpec {
        name: FINAL_ANSWER.to_owned(),
        description: "Gives your result and ends your work. Call it alone, when all is done."
            .to_owned(),
        input_schema,
    }
}

/// The agent's tools that this user may call: a model is not told of the others.
pub(in crate::perform) fn tools(frame: &Frame<'_>) -> Vec<ToolSpec> {
    let dispatcher = &frame.execution.dispatcher;
    let names = dispatcher.spelt_out(&frame.agent.tools);
    let named = names.iter().filter_map(|name| dispatcher.tool(name));
    let allowed = named.filter(|tool| {
        let offer = dispatcher.offers(frame.ctx, &frame.agent.name, tool.spec());
        offer.permits()
    });
    allowed
        .map(|tool| {
            let spec = tool.spec();
            ToolSpec {
                name: spec.name.clone(),
                description: spec.description.clone(),
                input_schema: spec.input_schema.clone(),
            }
        })
        .collect()
}

/// Those of the agents that there are.
fn others<'f>(
    frame: &'f Frame<'_>,
    names: &'f [String],
) -> impl Iterator<Item = Arc<Definition>> + 'f {
    let agents = &frame.execution.infra.agents;
    names.iter().filter_map(|name| agents.get(name))
}

fn call(agent: &Definition) -> ToolSpec {
    ToolSpec {
        name: format!("{CALLS}{}", agent.name),
        description: agent.description.clone(),
        input_schema: of_object(agent.input.schema.clone()),
    }
}

fn handoff(agent: &Definition) -> ToolSpec {
    let what = &agent.description;
    ToolSpec {
        name: format!("{HANDS_OVER}{}", agent.name),
        description: format!(
            "Hands the conversation over to another agent, which answers in your place. Call it alone. {what}"
        ),
        input_schema: json!({
            "type": "object",
            "properties": {
                "message": {
                    "type": "string",
                    "description": "What it needs to know beside what was said."
                }
            },
            "additionalProperties": false
        }),
    }
}

/// The schema of an object, as providers want it said.
pub(super) fn of_object(mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.entry("type").or_insert_with(|| json!("object"));
    }
    schema
}
