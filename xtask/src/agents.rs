//! The examples of agents in other languages, against the real server: installs what they need, checks
//! their types, runs them.

use std::path::Path;

use anyhow::Result;

use crate::part::{self, Outcome};
use crate::python::Environment;
use crate::workspace::Workspace;
use crate::{node, process};

/// The tests of netra-integration that need the examples.
pub(crate) const TESTS: &str = "http_agents::examples::";
const TYPESCRIPT: &str = "docs/examples/typescript-agent";
const PYTHON: &str = "docs/examples/python-agent/requirements.txt";
/// The checker of types that scripts are tried with.
const TYPES: &str = "crates/integration/agents/requirements.txt";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut tests = part::end_to_end(workspace, &[TESTS])?;
    let folder = process::target_folder(workspace)?.join("agents");
    in_typescript(workspace, &folder.join("typescript"))?;
    for (name, requirements) in [("python", PYTHON), ("types", TYPES)] {
        let environment = Environment {
            folder: folder.join(name),
            python: Path::new("python3"),
        };
        environment.wheels(workspace, requirements)?;
    }
    part::tests(tests.env("NETRA_AGENTS", &folder))
}

/// The compiler checks the types of the example and makes `dist/agent.js` of it.
fn in_typescript(workspace: &Workspace, folder: &Path) -> Result<()> {
    node::check()?;
    node::install_into(workspace, TYPESCRIPT, folder)?;
    for file in ["agent.ts", "tsconfig.json"] {
        let text = workspace.read(&format!("{TYPESCRIPT}/{file}"))?;
        std::fs::write(folder.join(file), text)?;
    }
    let mut compile = process::command(workspace, folder.join("node_modules/.bin/tsc"));
    process::run(compile.current_dir(folder))
}
