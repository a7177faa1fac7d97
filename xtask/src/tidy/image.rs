//! What the image of deploy/Dockerfile is built of is there, is let in, and is all that the code takes in.

use anyhow::Result;

use crate::finding::Finding;
use crate::workspace::Workspace;

const DOCKERFILE: &str = "deploy/Dockerfile";
const LET_IN: &str = "deploy/Dockerfile.dockerignore";
/// How code takes a file in when it is compiled.
const INCLUDES: [&str; 2] = ["include_str!(\"", "include_bytes!(\""];

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    if !workspace.path(DOCKERFILE).is_file() {
        return Ok(Vec::new());
    }
    let copied = copied(&workspace.read(DOCKERFILE)?);
    let let_in = workspace.read(LET_IN)?;
    let let_in: Vec<&str> = let_in
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let mut findings = Vec::new();
    for (line, path) in &copied {
        let mut refuse = |text: String| {
            findings.push(Finding::new(DOCKERFILE, Some(*line), "image", text));
        };
        if !workspace.path(path).exists() {
            refuse(format!("{path} is not there"));
        }
        if !let_in.iter().any(|wide| is_within(path, wide)) {
            refuse(format!("{path} is not let in by {LET_IN}"));
        }
    }
    let sources = workspace.files("crates", ".rs")?;
    // Tests are not built into an image.
    let in_image = |path: &&String| !path.contains("/tests/") && !path.ends_with("tests.rs");
    for source in sources.iter().filter(in_image) {
        for path in included(source, &workspace.read(source)?) {
            if !copied.iter().any(|(_, wide)| is_within(&path, wide)) {
                let text = format!("{path} is compiled in, and {DOCKERFILE} does not copy it");
                findings.push(Finding::new(source, None, "image", text));
            }
        }
    }
    Ok(findings)
}

fn is_within(path: &str, wide: &str) -> bool {
    let wide = wide.trim_end_matches('/');
    path == wide
        || path
            .strip_prefix(wide)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// What is copied from the repository, with its line.
fn copied(dockerfile: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in dockerfile.lines().enumerate() {
        let Some(words) = line
            .strip_prefix("COPY ")
            .filter(|words| !words.starts_with("--from"))
        else {
            continue;
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        let sources = words.iter().take(words.len().saturating_sub(1));
        found.extend(sources.map(|path| (index + 1, (*path).to_owned())));
    }
    found
}

/// The files outside of the source's own folder that it takes in.
fn included(source: &str, text: &str) -> Vec<String> {
    let folder = source.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    for include in INCLUDES {
        for after in text.split(include).skip(1) {
            let path = after.split('"').next().unwrap_or_default();
            if !path.starts_with("../") {
                continue;
            }
            let mut parts: Vec<&str> = folder.split('/').collect();
            for part in path.split('/') {
                match part {
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            found.push(parts.join("/"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dockerfile: &str, let_in: &str, code: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            (DOCKERFILE, dockerfile),
            (LET_IN, let_in),
            ("crates/a/src/lib.rs", code),
            ("docs/page.md", ""),
        ];
        let workspace = Workspace::with_files(folder.path(), &files);
        let findings = check(&workspace).unwrap();
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn what_is_copied_is_there_and_let_in_and_what_is_compiled_in_is_copied() {
        let code = "const PAGE: &str = include_str!(\"../../../docs/page.md\");\n";
        let good = "FROM a\nCOPY crates crates\nCOPY docs/page.md docs/\nCOPY --from=a /x /y\n";
        let let_in = "*\n!crates\n!docs/page.md\n";
        assert_eq!(found(good, let_in, code), [""; 0]);
        let without = good.replace("COPY docs/page.md docs/\n", "");
        assert!(found(&without, let_in, code)[0].contains("does not copy it"));
        assert!(found(good, "*\n!crates\n", code)[0].contains("is not let in"));
        let gone = good.replace("page.md", "gone.md");
        let told = found(&gone, "*\n!crates\n!docs\n", "");
        assert_eq!(told, ["docs/gone.md is not there"]);
    }
}
