//! The page in a real browser against the real server: finds or installs Chromium, runs ui/e2e.

use anyhow::Result;

use crate::part::{self, Outcome};
use crate::workspace::Workspace;
use crate::{debian, node, process, ui};

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
    part::server(workspace)?;
    let binary = process::target_folder(workspace)?.join("debug/netra");
    let mut tests = node::npm(workspace, &["run", "e2e"]);
    tests
        .env("CI", "1")
        .env("NO_COLOR", "1")
        .env("NETRA_BINARY", binary)
        .env("CHROMIUM", debian::program(workspace, &NAMES, "chromium")?);
    part::tests(&mut tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_without_the_page_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(&Workspace::at(folder.path())).is_err());
    }
}
