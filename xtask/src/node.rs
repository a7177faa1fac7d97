//! Node and npm: are they there, are they new enough, are the packages of the web page installed.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// Major and minor version; what builds the page refuses older ones.
const OLDEST: (u32, u32) = (20, 19);
/// The lock file that was installed last, kept beside what it installed.
const STAMP: &str = "ui/node_modules/.netra-lock.json";

/// Fails with a way to get Node when Node or npm is missing or too old.
pub(crate) fn check() -> Result<()> {
    let said = process::output(Command::new("node").arg("--version"))?;
    let version = version(&said).with_context(|| format!("`node --version` said {said:?}"))?;
    if version < OLDEST {
        bail!(
            "Node {} is too old; {}",
            said.trim(),
            process::missing("node")
        );
    }
    process::require("npm")
}

/// Installs the packages when the lock file is not the one that was installed last.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    let lock = workspace.path("ui/package-lock.json");
    let wanted = fs::read(&lock).with_context(|| {
        format!(
            "{} is missing; `npm install` in ui/ writes it",
            lock.display()
        )
    })?;
    let stamp = workspace.path(STAMP);
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the packages of the web page (npm ci)");
    process::run(npm(workspace, &["ci", "--no-audit", "--no-fund"]).env("CI", "1"))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// npm in the folder of the web page.
pub(crate) fn npm(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = process::command(workspace, "npm");
    command.args(args).current_dir(workspace.path("ui"));
    command
}

fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read() {
        assert_eq!(version("v20.20.2\n"), Some((20, 20)));
        assert!(version("v20.9.0") < Some(OLDEST));
        assert!(version("v22.1.0") > Some(OLDEST));
        assert_eq!(version("20.1.0"), None);
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_missing_lock_file_is_an_error_and_the_same_lock_is_not_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        let error = install(&workspace).unwrap_err().to_string();
        assert!(error.contains("npm install"), "{error}");
        fs::create_dir_all(workspace.path("ui/node_modules")).unwrap();
        fs::write(workspace.path("ui/package-lock.json"), "{}").unwrap();
        fs::write(workspace.path(STAMP), "{}").unwrap();
        install(&workspace).unwrap();
    }
}
