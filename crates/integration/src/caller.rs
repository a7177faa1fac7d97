//! An agent that calls whatever tools a test tells it to.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

/// The name of the agent.
pub const CALLER: &str = "caller";

/// Makes the calls of its input one after the other; gives a result or a failure for each.
const CODE: &str = "said = []
for call in input['calls']:
    try:
        said.append(TOOLS[call['tool']](**call['arguments']))
    except RuntimeError as error:
        said.append({'failed': str(error)})
said
";

/// Writes the agent into a folder of agents; it may call these tools.
pub fn write_caller(agents: &Path, tools: &[&str]) -> Result<()> {
    let agent = agents.join(CALLER);
    std::fs::create_dir_all(&agent)?;
    let manifest = format!(
        "description = \"Calls what it is told to.\"\nkind = \"script\"\nscript = \"agent.py\"\n\
         tools = {tools:?}\ninput_schema = {{ type = \"object\" }}\n"
    );
    std::fs::write(agent.join("agent.toml"), manifest)?;
    let named: Vec<String> = tools
        .iter()
        .map(|tool| format!("{tool:?}: {tool}"))
        .collect();
    let code = format!("TOOLS = {{{}}}\n{CODE}", named.join(", "));
    std::fs::write(agent.join("agent.py"), code)?;
    Ok(())
}

/// The input of a run that makes these calls.
pub fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let call = |(tool, arguments)| json!({"tool": tool, "arguments": arguments});
    json!({"calls": calls.into_iter().map(call).collect::<Vec<Value>>()})
}
