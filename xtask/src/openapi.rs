//! The OpenAPI document in the repository is what the server itself prints; what is generated from
//! it is as new.

mod catalogue;
mod python;
mod schema;
mod typescript;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::schema::Schemas;
use crate::process;
use crate::workspace::Workspace;

const FILE: &str = "openapi/netra.json";
const CATALOGUE: &str = "docs/websocket-events.md";
const PYTHON: &str = "clients/python/src/netra_client/types.py";

/// A file that is made from the contract.
struct Generated {
    path: &'static str,
    text: String,
}

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args {
        [] => {
            for file in generated(workspace)? {
                write(workspace, &file)?;
                println!("wrote {}", file.path);
            }
            Ok(ExitCode::SUCCESS)
        }
        [flag] if flag == "--check" => {
            check(workspace)?;
            println!("{FILE} and what is made from it are up to date");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("`cargo xtask openapi` takes only --check; see `cargo xtask openapi --help`"),
    }
}

/// Fails with the first difference when a file is not what the contract makes.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for Generated { path, text } in generated(workspace)? {
        let stored = fs::read_to_string(workspace.path(path)).unwrap_or_default();
        if let Some(difference) = first_difference(&stored, &text) {
            bail!("{path} is stale; `cargo xtask openapi` writes it\n{difference}");
        }
    }
    Ok(())
}

/// Everything that is made from the contract, as this build prints it.
fn generated(workspace: &Workspace) -> Result<Vec<Generated>> {
    let printed = printed(workspace)?;
    let schemas = Schemas::read(&serde_json::from_str(&printed)?)?;
    let file = |path, text| Generated { path, text };
    Ok(vec![
        file("ui/client/types.gen.ts", typescript::types(&schemas)?),
        file(PYTHON, python::types(&schemas)?),
        file(
            CATALOGUE,
            catalogue::page(&workspace.read(CATALOGUE)?, &schemas)?,
        ),
        file(FILE, printed),
    ])
}

fn write(workspace: &Workspace, file: &Generated) -> Result<()> {
    let path = workspace.path(file.path);
    fs::create_dir_all(path.parent().context("the file has a folder")?)?;
    fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))
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
