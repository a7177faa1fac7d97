//! The part `mcp`: tool servers that others wrote, installed from their packages, and the
//! conformance suite of their protocol.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{debian, node, process, python};

/// What is installed, by name and version.
const FOLDER: &str = "crates/integration/tool-servers";
const NPM: [&str; 2] = ["package.json", "package-lock.json"];
const PIP: &str = "requirements.txt";
/// What was installed last, kept beside it. The tests look for it too.
const STAMP: &str = ".netra-installed";
/// The module whose tests need the packages.
pub(crate) const TESTS: &str = "mcp::real::";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    process::require("cc")?;
    debian::program(workspace, &["git"], "git")?;
    let folder = process::target_folder(workspace)?.join("tool-servers");
    install(workspace, &folder)?;
    for what in [
        ["build", "-p", "netra", "--bin", "netra"],
        [
            "build",
            "-p",
            "netra-mcp",
            "--example",
            "conformance-client",
        ],
    ] {
        process::run(&mut process::cargo(workspace, &what))?;
    }
    let args = ["test", "-p", "netra-integration", "--no-fail-fast", "--"];
    part::tests(process::cargo(workspace, &args).arg(TESTS))
}

/// A Python that every user can run: where the gate is root, tool servers are other users.
fn python() -> &'static str {
    const OF_SYSTEM: &str = "/usr/bin/python3";
    if Path::new(OF_SYSTEM).is_file() {
        OF_SYSTEM
    } else {
        "python3"
    }
}

/// Installs the packages when they are not those that were installed last.
fn install(workspace: &Workspace, folder: &Path) -> Result<()> {
    node::check()?;
    let requirements = format!("{FOLDER}/{PIP}");
    let environment = python::Environment {
        folder: folder.join("venv"),
        made_by: python(),
    };
    let wanted = workspace.read(&requirements)?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    environment.install(workspace, &wanted, &["--requirement", &requirements])?;
    let texts = NPM.map(|name| workspace.read(&format!("{FOLDER}/{name}")));
    let [package, lock] = texts;
    let (package, lock) = (package?, lock?);
    let stamp = folder.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("installing the tool servers of npm");
    for (name, text) in NPM.into_iter().zip([&package, &lock]) {
        fs::write(folder.join(name), text).with_context(|| folder.display().to_string())?;
    }
    let mut npm = process::command(workspace, "npm");
    // As for the web page: a lock file may lack the packages of other platforms.
    npm.args(["install", "--no-save", "--no-audit", "--no-fund"])
        .current_dir(folder);
    process::run(&mut npm)?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))
}
