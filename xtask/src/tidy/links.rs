//! Every link of the documents to a file of the repository leads somewhere.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::finding::Finding;
use crate::workspace::Workspace;

const DOCUMENTS: [&str; 5] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
];

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut files: Vec<String> = DOCUMENTS.into_iter().map(str::to_owned).collect();
    files.retain(|file| workspace.path(file).is_file());
    files.extend(workspace.files("docs", ".md")?);
    let mut findings = Vec::new();
    for file in files {
        for (line, target) in links(&workspace.read(&file)?) {
            if let Some(problem) = problem(workspace, &file, &target) {
                let text = format!("`{target}`: {problem}");
                findings.push(Finding::new(&file, Some(line), "link", text));
            }
        }
    }
    Ok(findings)
}

/// What is wrong with a link from `file`, if anything. Addresses of the net are not tried: the
/// gate must pass without it.
fn problem(workspace: &Workspace, file: &str, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let page = if path.is_empty() {
        workspace.path(file)
    } else if let Some(from_root) = path.strip_prefix('/') {
        workspace.path(from_root)
    } else {
        workspace
            .path(file)
            .parent()
            .unwrap_or(workspace.root())
            .join(path.replace("%20", " "))
    };
    if !page.exists() {
        return Some("there is no such file");
    }
    let markdown = page.extension().is_some_and(|ending| ending == "md");
    if anchor.is_empty() || !markdown || has_heading(&page, anchor) {
        return None;
    }
    Some("the file has no such heading")
}

fn has_heading(page: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(page).unwrap_or_default();
    let mut seen: HashMap<String, usize> = HashMap::new();
    prose(&text).iter().any(|(_, line)| {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            return false;
        }
        let slug = slug(title);
        let times = seen.entry(slug.clone()).or_default();
        let named = if *times == 0 {
            slug
        } else {
            format!("{slug}-{times}")
        };
        *times += 1;
        named == anchor
    })
}

/// The name that hosts of repositories give to a heading.
fn slug(title: &str) -> String {
    let kept = title
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Lines outside of fenced code, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        if fence {
            fenced = !fenced;
        } else if !fenced {
            lines.push((at + 1, line));
        }
    }
    lines
}

/// Targets of `[text](target)` and of `[name]: target`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            // A title may follow: [text](target "title").
            links.push((
                number,
                target.split(" \"").next().unwrap_or_default().to_owned(),
            ));
        }
        let definition = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = definition {
            let target = target.split_whitespace().next().unwrap_or_default();
            links.push((number, target.to_owned()));
        }
    }
    links.iter_mut().for_each(|(_, target)| {
        *target = target.trim_matches(['<', '>', ' ']).to_owned();
    });
    links
}

/// The line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(readme: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("docs/errors")).unwrap();
        fs::write(
            folder.path().join("docs/a.md"),
            "# One run\n\n## `why`, then?\n\n# One run\n",
        )
        .unwrap();
        fs::write(
            folder.path().join("docs/errors/b.md"),
            "[up](../a.md) [root](/README.md)",
        )
        .unwrap();
        fs::write(folder.path().join("README.md"), readme).unwrap();
        let findings = check(&Workspace::at(folder.path())).unwrap();
        findings
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        for good in [
            "[a](docs/a.md) and [b](docs/errors)",
            "[a](docs/a.md#one-run) [a](docs/a.md#one-run-1) [c](docs/a.md#why-then)",
            "# Top\n[here](#top)",
            "[a](https://example.test/x) [b](mailto:a@example.test)",
            "```\n[a](gone.md)\n```\nand `[a](gone.md)` too",
            "[a][1]\n\n[1]: docs/a.md \"title\"",
            "![picture](<docs/a.md>)",
        ] {
            assert_eq!(house(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_fail() {
        for bad in [
            "text\n[a](docs/gone.md)",
            "text\n[a](docs/a.md#two-runs)",
            "text\n[a](#nowhere)",
            "text\n[1]: gone.md",
            "text\n![picture](gone.png \"title\")",
        ] {
            let found = house(bad);
            assert_eq!(found.len(), 1, "{bad}");
            assert!(found[0].starts_with("README.md:2: link: "), "{found:?}");
        }
    }
}
