//! Every decision has a number of its own and stands in the index.

use std::collections::HashSet;

use anyhow::Result;

use crate::finding::Finding;
use crate::workspace::Workspace;

const FOLDER: &str = "docs/decisions";

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let pages = workspace.files(FOLDER, ".md")?;
    let index = format!("{FOLDER}/README.md");
    let known = if pages.contains(&index) {
        workspace.read(&index)?
    } else {
        String::new()
    };
    let mut numbers = HashSet::new();
    let mut findings = Vec::new();
    for page in pages.iter().filter(|page| **page != index) {
        let name = page.rsplit('/').next().unwrap_or(page);
        let number = name.split('-').next().unwrap_or_default();
        let mut refuse = |text: &str| {
            findings.push(Finding::new(page, None, "decision", text.to_owned()));
        };
        if number.len() != 4 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
            refuse("the name must begin with a number of four digits, as in 0001-title.md");
        } else if !numbers.insert(number) {
            refuse("another decision has this number");
        }
        if !known.contains(&format!("({name})")) {
            refuse("docs/decisions/README.md does not link to it");
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn house(index: &str, pages: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::at(folder.path());
        fs::create_dir_all(workspace.path(FOLDER)).unwrap();
        fs::write(workspace.path(FOLDER).join("README.md"), index).unwrap();
        for page in pages {
            fs::write(workspace.path(FOLDER).join(page), "# x\n").unwrap();
        }
        check(&workspace)
            .unwrap()
            .into_iter()
            .map(|finding| finding.text)
            .collect()
    }

    #[test]
    fn a_decision_with_a_number_and_a_link_passes() {
        assert_eq!(
            house("[1](0001-a.md) [2](0002-b.md)", &["0001-a.md", "0002-b.md"]),
            [""; 0]
        );
        assert_eq!(
            check(&Workspace::at("/no/such/folder".as_ref())).unwrap(),
            []
        );
    }

    #[test]
    fn numbers_are_given_once_and_pages_are_listed() {
        let found = house("[1](0001-a.md) [1](0001-b.md)", &["0001-a.md", "0001-b.md"]);
        assert_eq!(found, ["another decision has this number"]);
        assert!(house("", &["0001-a.md"])[0].contains("does not link"));
        assert!(house("[a](a.md)", &["a.md"])[0].contains("four digits"));
    }
}
