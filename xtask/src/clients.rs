//! The clients in other languages against the real server.

use anyhow::Result;

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{node, process, python, ui};

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    part::server(workspace)?;
    let mut outcome = in_typescript(workspace)?;
    let python = python::check(workspace)?;
    outcome.tally.add(python.tally);
    outcome.good &= python.good;
    Ok(outcome)
}

/// `@netra/client` in Node.
fn in_typescript(workspace: &Workspace) -> Result<Outcome> {
    ui::require_sources(workspace)?;
    node::check()?;
    node::install(workspace)?;
    let binary = process::target_folder(workspace)?.join("debug/netra");
    let mut tests = node::npm(workspace, &["run", "e2e", "-w", "client"]);
    tests
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("NETRA_BINARY", binary);
    part::tests(&mut tests)
}
