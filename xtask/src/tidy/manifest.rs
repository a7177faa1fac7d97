//! Every crate stands under the lints of the workspace.

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use crate::finding::Finding;
use crate::workspace::Workspace;

/// The allocator cannot forbid `unsafe`, so it may bring a list of its own.
const OWN_LIST: &str = "memory";

pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for folder in ["crates", "xtask"] {
        for path in workspace.files(folder, "Cargo.toml")? {
            let manifest: Table = workspace
                .read(&path)?
                .parse()
                .with_context(|| format!("{path} is no TOML"))?;
            findings.extend(judge(&path, &manifest));
        }
    }
    Ok(findings)
}

fn judge(path: &str, manifest: &Table) -> Option<Finding> {
    let lints = manifest.get("lints");
    let inherits = lints
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool);
    let own = |tool| {
        lints
            .and_then(|lints| lints.get(tool))
            .is_some_and(Value::is_table)
    };
    let may_own = path == format!("crates/{OWN_LIST}/Cargo.toml");
    if inherits == Some(true) || (may_own && own("rust") && own("clippy")) {
        return None;
    }
    let text = "the crate must inherit the lints: [lints] workspace = true".to_owned();
    Some(Finding::new(path, None, "lints", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(path: &str, text: &str) -> bool {
        judge(path, &text.parse().unwrap()).is_none()
    }

    #[test]
    fn a_crate_without_the_lints_fails() {
        let path = "crates/engine/Cargo.toml";
        assert!(good(path, "[lints]\nworkspace = true"));
        assert!(!good(path, "[package]\nname = 'x'"));
        assert!(!good(path, "[lints]\nworkspace = false"));
        assert!(!good(path, "[lints.rust]\n[lints.clippy]"));
    }

    #[test]
    fn the_allocator_may_have_its_own_list_but_must_have_one() {
        let path = "crates/memory/Cargo.toml";
        assert!(good(path, "[lints.rust]\n[lints.clippy]"));
        assert!(!good(path, "[lints.rust]"));
        assert!(!good(path, ""));
    }
}
