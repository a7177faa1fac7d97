//! Node and npm: are they there, are they new enough, are the packages of the web page installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// Major and minor version; what builds the page refuses older ones.
const OLDEST: (u32, u32) = (20, 19);
/// The lock file that was installed last, kept beside what it installed.
const STAMP: &str = ".netra-lock.json";
/// The page and its client: the file, and what the lock file calls the package.
const MEMBERS: [(&str, &str); 2] = [
    ("ui/package.json", ""),
    ("ui/client/package.json", "client"),
];

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

/// Installs what the lock file of the web page names when it is not what was installed last.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    let wanted = workspace
        .read("ui/package-lock.json")
        .context("`npm install` in ui/ writes it")?;
    for member in MEMBERS {
        require_same(member, &workspace.read(member.0)?, &wanted)?;
    }
    refresh(workspace, &workspace.path("ui"), &wanted, &[])
}

/// Installs what a folder of the repository names into another one, where it is not what was
/// installed there last. No script of theirs runs.
pub(crate) fn install_into(workspace: &Workspace, source: &str, folder: &Path) -> Result<()> {
    let [package, lock] =
        ["package.json", "package-lock.json"].map(|name| format!("{source}/{name}"));
    let (text, wanted) = (workspace.read(&package)?, workspace.read(&lock)?);
    require_same((&package, ""), &text, &wanted)?;
    fs::create_dir_all(folder)?;
    fs::write(folder.join("package.json"), text)?;
    fs::write(folder.join("package-lock.json"), &wanted)?;
    refresh(workspace, folder, &wanted, &["--ignore-scripts"])
}

/// Installs what the lock file of the folder names when it is not what was installed last.
///
/// Not by `npm ci`: that refuses a lock file without the packages of other platforms, and npm
/// leaves those out of it when a registry does not carry them. `npm install --no-save` takes the
/// versions and checksums of the lock file as well, and does not change it. What `npm ci` checks
/// besides, that the lock file belongs to package.json, is checked before.
fn refresh(workspace: &Workspace, folder: &Path, wanted: &str, args: &[&str]) -> Result<()> {
    let modules = folder.join("node_modules");
    let stamp = modules.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing the packages of {}", folder.display());
    if modules.exists() {
        // Leftovers of an earlier lock file must not be found.
        fs::remove_dir_all(&modules).with_context(|| modules.display().to_string())?;
    }
    let mut install = npm(
        workspace,
        &["install", "--no-save", "--no-audit", "--no-fund"],
    );
    process::run(install.args(args).current_dir(folder))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Fails when the lock file was written for other dependencies than package.json names.
fn require_same((path, name): (&str, &str), package: &str, lock: &str) -> Result<()> {
    let package: Value =
        serde_json::from_str(package).with_context(|| format!("{path} is no JSON"))?;
    let lock: Value = serde_json::from_str(lock).context("package-lock.json is no JSON")?;
    for kind in ["dependencies", "devDependencies", "optionalDependencies"] {
        if package[kind] != lock["packages"][name][kind] {
            bail!("the {kind} of {path} are not those of the lock file; call `npm install` there");
        }
    }
    Ok(())
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
    use serde_json::json;

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
        let error = format!("{:#}", install(&workspace).unwrap_err());
        assert!(error.contains("npm install"), "{error}");
        for folder in ["ui/node_modules", "ui/client"] {
            fs::create_dir_all(workspace.path(folder)).unwrap();
        }
        for file in [
            "ui/package.json",
            "ui/client/package.json",
            "ui/package-lock.json",
            "ui/node_modules/.netra-lock.json",
        ] {
            fs::write(workspace.path(file), "{}").unwrap();
        }
        install(&workspace).unwrap();
    }

    #[test]
    fn a_lock_file_of_other_dependencies_is_refused() {
        let package = r#"{"dependencies": {"a": "^1.0.0"}}"#;
        for member in MEMBERS {
            let lock = |version: &str| {
                let of_member = json!({ "dependencies": { "a": version } });
                json!({ "packages": { member.1: of_member } }).to_string()
            };
            require_same(member, package, &lock("^1.0.0")).unwrap();
            let error = require_same(member, package, &lock("^2.0.0"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("npm install"), "{error}");
            require_same(member, package, "{}").unwrap_err();
        }
    }
}
