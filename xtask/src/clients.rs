//! The clients in other languages against the real server.

use anyhow::Result;

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{node, process, ui};

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    process::require("cc")?;
    process::run(&mut process::cargo(
        workspace,
        &["build", "-p", "netra", "--bin", "netra"],
    ))?;
    in_typescript(workspace)
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
