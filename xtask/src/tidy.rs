//! The rules of the house that no other tool knows: sizes, first lines, names, and which crate
//! may speak of what.

mod decisions;
mod image;
mod links;
mod manifest;
mod names;
mod owners;
mod security;
mod size;
mod source;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::finding::{self, Finding};
use crate::workspace::Workspace;
use source::Source;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let verbose = match args {
        [] => false,
        [flag] if flag == "--verbose" => true,
        _ => bail!("`cargo xtask tidy` takes only --verbose; see `cargo xtask tidy --help`"),
    };
    let good = finding::report("tidy", &findings(workspace)?, verbose);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what is wrong and gives whether nothing is.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    Ok(finding::report("tidy", &findings(workspace)?, false))
}

fn findings(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in workspace.files(folder, ".rs")? {
            let source = Source::new(&path, &workspace.read(&path)?);
            findings.extend(size::check(&source));
            findings.extend(names::check(&source));
            findings.extend(owners::check(&source));
        }
    }
    findings.extend(manifest::check(workspace)?);
    findings.extend(links::check(workspace)?);
    findings.extend(decisions::check(workspace)?);
    findings.extend(security::check(workspace)?);
    findings.extend(image::check(workspace)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_MANIFEST: &str = "[package]\nname = 'netra-engine'\n[lints]\nworkspace = true\n";

    fn house(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let findings = findings(&Workspace::with_files(folder.path(), files)).unwrap();
        findings
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn a_tidy_house_has_no_findings() {
        let found = house(&[
            ("README.md", "See [the guide](docs/guide.md)."),
            ("docs/guide.md", "# Guide\n"),
            ("crates/engine/Cargo.toml", GOOD_MANIFEST),
            (
                "crates/engine/src/lib.rs",
                "//! Runs agents.\n\npub struct Engine;\n",
            ),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn every_kind_of_rule_is_asked() {
        let found = house(&[
            ("README.md", "See [the guide](docs/gone.md)."),
            (
                "crates/engine/Cargo.toml",
                "[package]\nname = 'netra-engine'\n",
            ),
            (
                "crates/engine/src/lib.rs",
                "pub struct RunManager;\n#[allow(dead_code)]\nfn f() {}\n",
            ),
        ]);
        let mut rules: Vec<&str> = found
            .iter()
            .map(|line| line.split(": ").nth(1).unwrap())
            .collect();
        rules.sort_unstable();
        assert_eq!(rules, ["first line", "link", "lints", "name", "no allow"]);
    }

    #[test]
    fn a_finding_names_file_and_line() {
        let found = house(&[
            ("crates/engine/Cargo.toml", GOOD_MANIFEST),
            (
                "crates/engine/src/run.rs",
                "//! A run.\n\npub struct RunManager;\n",
            ),
        ]);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/engine/src/run.rs:3: name: "),
            "{found:?}"
        );
    }
}
