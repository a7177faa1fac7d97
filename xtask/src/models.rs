//! Formats of model providers against what nobody here wrote: installs a mock and the makers' SDKs, runs the tests
//! with them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::part::{self, Outcome};
use crate::python::Environment;
use crate::workspace::Workspace;
use crate::{node, process};

/// The tests of netra-integration that need what is installed here.
pub(crate) const TESTS: &str = "models::real::";
/// Which packages, by version and checksum.
const PACKAGES: &str = "crates/integration/models";
const REQUIREMENTS: &str = "crates/integration/models/requirements.txt";
/// Takes the recorded answers out of them.
const TRANSCRIPTS: &str = "crates/integration/models/transcripts.py";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut tests = part::end_to_end(workspace, &[TESTS])?;
    let folder = process::target_folder(workspace)?.join("models");
    install(workspace, &folder)?;
    part::tests(tests.env("NETRA_MODEL_PACKAGES", &folder))
}

/// `node` with the mock, and `transcripts` with a folder for each format.
fn install(workspace: &Workspace, folder: &Path) -> Result<()> {
    node::check()?;
    node::install_into(workspace, PACKAGES, &folder.join("node"))?;
    let environment = Environment {
        folder: folder.join("python"),
        python: Path::new("python3"),
    };
    let packages = environment.folder.join("packages");
    let into = packages.display().to_string();
    // Wheels have no tests. pip asks a source package what it is before it keeps it, which takes its build program,
    // as a wheel; it builds nothing.
    let download = [
        "download",
        "--no-deps",
        "--require-hashes",
        "--no-binary",
        "anthropic,google-genai,openai",
        "--requirement",
        REQUIREMENTS,
        "--dest",
        &into,
    ];
    environment.pip(workspace, REQUIREMENTS, &download)?;
    let transcripts = folder.join("transcripts");
    if transcripts.exists() {
        // What an earlier version had must not be found.
        fs::remove_dir_all(&transcripts).with_context(|| transcripts.display().to_string())?;
    }
    let mut take = process::command(workspace, "python3");
    process::run(take.arg(TRANSCRIPTS).arg(packages).arg(transcripts))
}
