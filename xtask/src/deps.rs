//! Who may depend on whom, read from the manifests; and what third-party code may come in.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use crate::finding::{self, Finding};
use crate::licences;
use crate::workspace::Workspace;

const RULE: &str = "dependency";

/// The table of ARCHITECTURE.md: a crate and what it may depend on, lower crates first.
const MAY_DEPEND: [(&str, &[&str]); 18] = [
    ("protocol", &[]),
    ("memory", &[]),
    ("context", &["protocol", "memory"]),
    ("prices", &[]),
    ("store", &["protocol", "context"]),
    ("events", &["protocol", "context", "store"]),
    ("model", &["protocol", "context", "prices", "store"]),
    ("analytics", &["protocol", "context", "prices"]),
    ("worker", &["protocol", "context", "memory", "analytics"]),
    (
        "tools",
        &["protocol", "context", "store", "events", "worker"],
    ),
    (
        "mcp",
        &["protocol", "context", "memory", "store", "worker", "tools"],
    ),
    ("endpoint", &["protocol", "context"]),
    (
        "engine",
        &[
            "protocol", "context", "memory", "store", "events", "model", "worker", "tools",
            "endpoint",
        ],
    ),
    (
        "gateway",
        &[
            "protocol", "context", "memory", "store", "events", "model", "tools", "engine",
        ],
    ),
    ("client", &["protocol"]),
    (
        "netra",
        &[
            "protocol",
            "memory",
            "context",
            "store",
            "events",
            "model",
            "analytics",
            "worker",
            "tools",
            "mcp",
            "endpoint",
            "engine",
            "gateway",
            "client",
        ],
    ),
    (
        "integration",
        &[
            "protocol",
            "memory",
            "context",
            "store",
            "events",
            "model",
            "analytics",
            "worker",
            "tools",
            "mcp",
            "endpoint",
            "engine",
            "gateway",
            "client",
            "netra",
        ],
    ),
    ("xtask", &[]),
];

/// Drivers of databases. The store has the server's; end-to-end tests look into its file too. Analytics has one of its
/// own, in memory and in a worker process, for the users' SQL over the users' files (decision 0012).
const DRIVERS: [&str; 7] = [
    "rusqlite",
    "libsqlite3-sys",
    "sqlx",
    "tokio-postgres",
    "deadpool-postgres",
    "redis",
    "fred",
];
const MAY_DRIVE: [&str; 3] = ["store", "integration", "analytics"];
/// Nor does memory drive a database: it lends SQLite its allocator.
const LENDS: (&str, &str) = ("memory", "libsqlite3-sys");

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    match args {
        [] => {
            let good = check(workspace)?;
            Ok(if good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        [flag] if flag == "--licences" => {
            print!("{}", licences::listing(workspace)?);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("`cargo xtask deps` takes only --licences; see `cargo xtask deps --help`"),
    }
}

/// Prints what is wrong and gives whether nothing is.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let inner = finding::report("who depends on whom", &own_crates(workspace)?, false);
    let outer = finding::report("third-party crates", &licences::check(workspace)?, false);
    Ok(inner && outer)
}

fn own_crates(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut manifests = vec![("xtask".to_owned(), "xtask/Cargo.toml".to_owned())];
    for name in workspace.folders("crates")? {
        let path = format!("crates/{name}/Cargo.toml");
        manifests.push((name, path));
    }
    for (name, path) in manifests {
        let manifest: Table = workspace
            .read(&path)?
            .parse()
            .with_context(|| format!("{path} is no TOML"))?;
        findings.extend(judge(&name, &path, &manifest));
    }
    Ok(findings)
}

/// What one manifest asks for that it may not have.
fn judge(name: &str, path: &str, manifest: &Table) -> Vec<Finding> {
    let Some(allowed) = allowed(name) else {
        let text = format!("crate `{name}` is not in the table of ARCHITECTURE.md");
        return vec![Finding::new(path, None, RULE, text)];
    };
    let mut findings = Vec::new();
    let mut refuse = |text: String| findings.push(Finding::new(path, None, RULE, text));
    for (dependency, dev) in dependencies(manifest) {
        let lends = (name, dependency.as_str()) == LENDS;
        if DRIVERS.contains(&dependency.as_str()) && !MAY_DRIVE.contains(&name) && !lends {
            refuse(format!(
                "only crates/store and crates/analytics drive a database, not `{name}` by {dependency}"
            ));
        }
        let Some(ours) = ours(&dependency) else {
            continue;
        };
        let lower = dev
            && depth(ours)
                .zip(depth(name))
                .is_some_and(|(dep, own)| dep < own);
        if ours != name && !allowed.contains(&ours) && !(lower && name != "xtask") {
            let kind = if dev { "in tests depend" } else { "depend" };
            refuse(format!(
                "`{name}` may not {kind} on `{ours}`; it may on {allowed:?}"
            ));
        }
    }
    findings
}

fn allowed(name: &str) -> Option<&'static [&'static str]> {
    MAY_DEPEND
        .iter()
        .find(|(own, _)| *own == name)
        .map(|(_, allowed)| *allowed)
}

/// Tests of a crate may use what is lower: of a smaller depth than the crate itself. So they
/// can never make a cycle.
fn depth(name: &str) -> Option<usize> {
    let below = allowed(name)?.iter().filter_map(|lower| depth(lower)).max();
    Some(below.map_or(0, |depth| depth + 1))
}

/// The short name of one of our crates.
fn ours(package: &str) -> Option<&str> {
    match package {
        "netra" | "xtask" => Some(package),
        _ => package.strip_prefix("netra-"),
    }
}

/// Every package that a manifest names, and whether only for tests. Build scripts count as code.
fn dependencies(manifest: &Table) -> Vec<(String, bool)> {
    let mut all = Vec::new();
    read_tables(manifest, &mut all);
    if let Some(Value::Table(targets)) = manifest.get("target") {
        for target in targets.values().filter_map(Value::as_table) {
            read_tables(target, &mut all);
        }
    }
    all
}

fn read_tables(table: &Table, all: &mut Vec<(String, bool)>) {
    for (kind, dev) in [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ] {
        let Some(Value::Table(dependencies)) = table.get(kind) else {
            continue;
        };
        for (key, value) in dependencies {
            let renamed = value.get("package").and_then(Value::as_str);
            all.push((renamed.unwrap_or(key).to_owned(), dev));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str, manifest: &str) -> Vec<String> {
        let manifest: Table = manifest.parse().unwrap();
        judge(name, "Cargo.toml", &manifest)
            .into_iter()
            .map(|finding| finding.text)
            .collect()
    }

    #[test]
    fn upward_dependencies_fail() {
        let found = texts("store", "[dependencies]\nnetra-events.workspace = true");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("`store` may not depend on `events`"),
            "{found:?}"
        );
        assert_eq!(texts("client", "[dependencies]\nnetra = '1'").len(), 1);
        assert_eq!(
            texts("xtask", "[dependencies]\nnetra-protocol = '1'").len(),
            1
        );
        assert_eq!(
            texts("xtask", "[dev-dependencies]\nnetra-protocol = '1'").len(),
            1
        );
        assert_eq!(
            texts("netra", "[dependencies]\nnetra-integration = '1'").len(),
            1
        );
    }

    #[test]
    fn allowed_dependencies_pass() {
        let manifest = "[dependencies]\nnetra-store.workspace = true\ntokio = '1'\n";
        assert_eq!(texts("events", manifest), [""; 0]);
    }

    #[test]
    fn no_table_of_the_manifest_is_overlooked() {
        for manifest in [
            "[build-dependencies]\nnetra-store = '1'",
            "[target.'cfg(unix)'.dependencies]\nnetra-store = '1'",
            "[dependencies]\nharmless = { package = 'netra-store', version = '1' }",
        ] {
            assert_eq!(texts("context", manifest).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn tests_may_use_lower_crates_only() {
        assert_eq!(
            texts("gateway", "[dev-dependencies]\nnetra-client = '1'"),
            [""; 0]
        );
        assert_eq!(
            texts("tools", "[dev-dependencies]\nnetra-model = '1'"),
            [""; 0]
        );
        let found = texts("store", "[dev-dependencies]\nnetra-engine = '1'");
        assert!(
            found[0].contains("may not in tests depend on `engine`"),
            "{found:?}"
        );
        assert_eq!(
            texts("events", "[dev-dependencies]\nnetra-model = '1'").len(),
            1
        );
    }

    #[test]
    fn unknown_crates_and_drivers_outside_of_the_store_fail() {
        assert_eq!(texts("drawer", "").len(), 1);
        assert_eq!(texts("engine", "[dependencies]\nrusqlite = '1'").len(), 1);
        assert_eq!(texts("worker", "[dependencies]\nrusqlite = '1'").len(), 1);
        assert_eq!(texts("memory", "[dependencies]\nrusqlite = '1'").len(), 1);
        let lent = "[dependencies]\nlibsqlite3-sys = '1'";
        assert_eq!(
            (texts("memory", lent).len(), texts("worker", lent).len()),
            (0, 1)
        );
        for driver in ["store", "analytics"] {
            assert_eq!(texts(driver, "[dependencies]\nrusqlite = '1'"), [""; 0]);
        }
    }

    #[test]
    fn the_table_has_no_cycle_and_names_only_its_own() {
        for (place, (name, allowed)) in MAY_DEPEND.iter().enumerate() {
            for lower in *allowed {
                let other = MAY_DEPEND.iter().position(|(own, _)| own == lower).unwrap();
                assert!(other < place, "{name} -> {lower}");
            }
        }
    }
}
