//! The server under chaos: built so that it can be told to die, then tried by netra-chaos.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{debian, process};

/// The server's crashes on demand, which no other build has.
const FEATURE: &str = "failpoints";

/// Runs it with these arguments of netra-chaos.
pub(crate) fn check(workspace: &Workspace, args: &[String]) -> Result<Outcome> {
    part::tests(&mut built(workspace, args)?)
}

/// The program with these arguments, and the server that it is to try, built as they want it.
pub(crate) fn built(workspace: &Workspace, args: &[String]) -> Result<Command> {
    process::require("cc")?;
    debian::program(workspace, &["faketime"], "faketime")?;
    // The long form counts events, so it is worth a build that is quick at them.
    let long = args.iter().any(|arg| arg == "--long");
    let (profile, folder) = if long {
        ("release", "release")
    } else {
        ("dev", "debug")
    };
    let folder = process::target_folder(workspace)?.join(folder);
    let build = |args: &[&str]| {
        let args = [&["build", "--profile", profile], args].concat();
        process::run(&mut process::cargo(workspace, &args))
    };
    let server = ["-p", "netra", "--bin", "netra"];
    build(&[&server[..], &["--features", FEATURE]].concat())?;
    let told_to_die = folder.join("netra-failpoints");
    fs::copy(folder.join("netra"), &told_to_die)
        .with_context(|| format!("cannot write {}", told_to_die.display()))?;
    // Under its own name there is never a server that can be told to die.
    build(&server)?;
    build(&["-p", "netra-integration", "--bin", "netra-chaos"])?;
    let mut chaos = process::command(workspace, folder.join("netra-chaos"));
    chaos.arg("--server").arg(told_to_die).args(args);
    Ok(chaos)
}
