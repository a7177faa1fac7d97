//! What docs/security.md names as proof is a test that there is.

use std::collections::HashSet;

use anyhow::Result;

use crate::finding::Finding;
use crate::workspace::Workspace;

const PAGE: &str = "docs/security.md";
/// The head of the last column of a table whose rows have to be proved.
const PROOF: &str = "Proved by";

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    if !workspace.path(PAGE).is_file() {
        return Ok(Vec::new());
    }
    let mut tests = HashSet::new();
    for path in workspace.files("crates", ".rs")? {
        tests.extend(tests_in(&workspace.read(&path)?));
    }
    let mut findings = Vec::new();
    for (number, cell) in proofs(&workspace.read(PAGE)?) {
        let mut refuse = |text: String| {
            findings.push(Finding::new(PAGE, Some(number), "proof", text));
        };
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            refuse("the row names no test".into());
        }
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            refuse(format!("there is no test {name}"));
        }
    }
    Ok(findings)
}

/// The last cells of the rows that have to be proved, with their lines.
fn proofs(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut wanted = false;
    for (index, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            wanted = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        if last == PROOF {
            wanted = true;
        } else if wanted && !last.starts_with("---") {
            found.push((index + 1, last.to_owned()));
        }
    }
    found
}

/// The names of the functions that stand under the attribute of a test.
fn tests_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ")
            && is_test
        {
            is_test = false;
            found.extend(rest.split(['(', '<']).next().map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(row: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let page = format!("| What | Proved by |\n|---|---|\n{row}\n\n| a | `b` |\n");
        let code = "#[tokio::test(flavor = \"x\")]\nasync fn it_holds() {}\nfn helps() {}\n";
        let files = [(PAGE, page.as_str()), ("crates/a/src/lib.rs", code)];
        let workspace = Workspace::with_files(folder.path(), &files);
        let findings = check(&workspace).unwrap();
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_proof_is_a_test_that_is_there() {
        assert_eq!(found("| x | `it_holds` |"), [""; 0]);
        assert_eq!(
            found("| x | `it_held`, `it_holds` |"),
            ["there is no test it_held"]
        );
        assert_eq!(found("| x | `helps` |"), ["there is no test helps"]);
        assert_eq!(found("| x | trust us |"), ["the row names no test"]);
    }
}
