//! The OpenAPI document in the repository is what the server itself prints.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::workspace::Workspace;

const FILE: &str = "openapi/netra.json";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args {
        [] => {
            write(workspace)?;
            println!("wrote {FILE}");
            Ok(ExitCode::SUCCESS)
        }
        [flag] if flag == "--check" => {
            check(workspace)?;
            println!("{FILE} is up to date");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("`cargo xtask openapi` takes only --check; see `cargo xtask openapi --help`"),
    }
}

/// Fails with the first difference when the file is not what the server prints.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let printed = printed(workspace)?;
    let stored = fs::read_to_string(workspace.path(FILE)).unwrap_or_default();
    match first_difference(&stored, &printed) {
        None => Ok(()),
        Some(difference) => bail!("{FILE} is stale; `cargo xtask openapi` writes it\n{difference}"),
    }
}

fn write(workspace: &Workspace) -> Result<()> {
    let printed = printed(workspace)?;
    let path = workspace.path(FILE);
    fs::create_dir_all(path.parent().context("the file has a folder")?)?;
    fs::write(&path, printed).with_context(|| format!("cannot write {}", path.display()))
}

fn printed(workspace: &Workspace) -> Result<String> {
    let mut netra = process::cargo(
        workspace,
        &["run", "--quiet", "-p", "netra", "--bin", "netra", "--"],
    );
    let printed = process::output(netra.arg("openapi"))?;
    let document: serde_json::Value =
        serde_json::from_str(&printed).context("`netra openapi` did not print JSON")?;
    if !document["openapi"].is_string() {
        bail!("`netra openapi` printed JSON that is no OpenAPI document");
    }
    Ok(format!("{}\n", printed.trim_end()))
}

/// Names the first line that differs and shows it on both sides.
fn first_difference(stored: &str, printed: &str) -> Option<String> {
    if stored == printed {
        return None;
    }
    let (mut left, mut right) = (stored.lines(), printed.lines());
    let mut line = 1_usize;
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some("only the line ends differ".to_owned()),
            (old, new) if old == new => line += 1,
            (old, new) => {
                let (old, new) = (old.unwrap_or("(end)"), new.unwrap_or("(end)"));
                return Some(format!("line {line}\n  file:   {old}\n  server: {new}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let shown = first_difference("a\nb\n", "a\nc\n").unwrap();
        assert_eq!(shown, "line 2\n  file:   b\n  server: c");
        let shown = first_difference("", "a\n").unwrap();
        assert_eq!(shown, "line 1\n  file:   (end)\n  server: a");
        assert_eq!(
            first_difference("a", "a\n").unwrap(),
            "only the line ends differ"
        );
    }
}
