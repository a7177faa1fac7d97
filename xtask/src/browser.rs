//! The page in a real browser against the real server: finds or installs Chromium, runs ui/e2e.

use std::process::Command;

use anyhow::{Result, bail};

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{node, process, ui};

/// Under what names Chromium and what is built from it is found, the one of Debian first.
const NAMES: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
];

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    ui::require_sources(workspace)?;
    process::require("cc")?;
    node::check()?;
    // The server carries the page, so the page is built first; an old one would be tested.
    if ui::is_fresh(workspace)? {
        node::install(workspace)?;
    } else {
        ui::build(workspace)?;
    }
    process::run(&mut process::cargo(
        workspace,
        &["build", "-p", "netra", "--bin", "netra"],
    ))?;
    let binary = process::target_folder(workspace)?.join("debug/netra");
    let mut tests = node::npm(workspace, &["run", "e2e"]);
    tests
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("NETRA_BINARY", binary)
        .env("CHROMIUM", found_or_installed(workspace)?);
    part::tests(&mut tests)
}

fn found_or_installed(workspace: &Workspace) -> Result<String> {
    if let Some(path) = find(&NAMES)? {
        return Ok(path);
    }
    if !process::exists("apt-get") || process::output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(process::missing("chromium"));
    }
    println!("installing chromium");
    for args in [
        &["update", "-q"][..],
        &["install", "-qy", "--no-install-recommends", "chromium"],
    ] {
        let mut install = process::command(workspace, "apt-get");
        process::run(install.args(args).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    match find(&NAMES)? {
        Some(path) => Ok(path),
        None => bail!("apt-get has installed chromium, but it is not in the PATH"),
    }
}

/// The full path of the first of these programs that there is.
fn find(names: &[&str]) -> Result<Option<String>> {
    let script = "for name; do command -v \"$name\" && exit; done; true";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args(names);
    let path = process::output(&mut shell)?.trim().to_owned();
    Ok(Some(path).filter(|path| !path.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_that_is_there_is_found_with_its_path() {
        let found = find(&["no-such-program", "cat", "ls"]).unwrap().unwrap();
        assert!(found.starts_with('/') && found.ends_with("/cat"), "{found}");
        assert_eq!(find(&["no-such-program"]).unwrap(), None);
    }

    #[test]
    fn a_missing_browser_says_how_to_get_it() {
        let error = process::missing("chromium").to_string();
        assert!(error.contains("apt-get install chromium"), "{error}");
    }

    #[test]
    fn a_clone_without_the_page_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(&Workspace::at(folder.path())).is_err());
    }
}
