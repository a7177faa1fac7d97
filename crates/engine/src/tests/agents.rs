//! Model agents for tests that call, hand over, stop, and mind their windows.

use async_trait::async_trait;
use netra_context::Right;
use netra_protocol::Failure;
use netra_tools::{Call, Tool, ToolSpec};
use serde_json::{Value, json};

use super::house::spec;
use crate::agents::EmbeddedAgent;

/// A tool that says what its caller may do.
pub(super) struct Rights(ToolSpec);

impl Rights {
    pub(super) fn new() -> Self {
        Self(spec("rights", "basic"))
    }
}

#[async_trait]
impl Tool for Rights {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let has = Right::ALL.iter().filter(|(right, _)| call.ctx.may(*right));
        Ok(json!(has.map(|(_, name)| *name).collect::<Vec<_>>()))
    }
}

macro_rules! model_agent {
    ($name:literal, $manifest:literal) => {
        EmbeddedAgent {
            name: $name,
            files: &[
                (
                    "agent.toml",
                    concat!(
                        "description = \"As ",
                        $name,
                        "\"\nkind = \"model\"\ninstructions = \"i.md\"\n",
                        $manifest
                    ),
                ),
                ("i.md", concat!("You are ", $name, ".")),
            ],
        }
    };
}

pub(super) const ALL: &[EmbeddedAgent] = &[
    model_agent!(
        "lead",
        "tools = [\"count\", \"once\", \"hold\", \"consent\", \"rights\"]\n\
         sub_agents = [\"worker\", \"clerk\", \"lead\", \"echo\", \"broken\"]\n\
         handoffs = [\"billing\", \"desk\"]\n"
    ),
    model_agent!(
        "worker",
        "tools = [\"count\", \"once\", \"hold\", \"consent\", \"rights\"]\n"
    ),
    model_agent!(
        "clerk",
        "output_schema = { type = \"object\", required = [\"sum\"] }\n\
         input_schema = { properties = { n = { type = \"integer\" } }, required = [\"n\"] }\n"
    ),
    model_agent!("desk", "handoffs = [\"lead\", \"billing\"]\n"),
    model_agent!("billing", "tools = [\"count\"]\n"),
    model_agent!(
        "careful",
        "output_schema = { type = \"object\", required = [\"answer\"] }\n\
         tools = [\"count\"]\noutput_repairs = 1\n"
    ),
    model_agent!("lister", "output_schema = { type = \"array\" }\n"),
    model_agent!("brief", "tools = [\"count\"]\nmax_rounds = 2\n"),
    model_agent!(
        "stopper",
        "tools = [\"count\", \"fail\", \"time_now\"]\n\
         stop_after_tool = [\"count\", \"fail\"]\n"
    ),
    model_agent!("plain", "tools = [\"large\"]\n"),
    model_agent!(
        "trimmer",
        "tools = [\"large\", \"count\"]\ncontext_tokens = 4000\n"
    ),
    model_agent!(
        "summer",
        "tools = [\"large\", \"count\"]\ncontext_tokens = 4000\ncontext = \"summarise\"\n"
    ),
];
