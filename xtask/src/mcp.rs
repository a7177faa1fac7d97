//! Tool servers and a conformance suite that nobody here wrote, against ours: installs them, runs the tests with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use crate::part::{self, Outcome};
use crate::python::{self, Environment};
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{debian, node, process};

/// The tests of netra-integration that need the servers.
pub(crate) const TESTS: &str = "mcp::real::";
/// Which packages, by version and checksum.
const PACKAGES: &str = "crates/integration/mcp";
const REQUIREMENTS: &str = "crates/integration/mcp/requirements.txt";
/// What of the conformance suite fails, and why.
const EXPECTED: &str = "crates/integration/mcp/conformance.toml";
/// What is run of the suite: everything of each version of the protocol, and the extensions, which have none.
const RUNS: [&str; 3] = ["2025-11-25", "2026-07-28", EXTENSIONS];
const EXTENSIONS: &str = "extensions";
/// A Python that also the user of a sandbox can read, unlike one below a home folder.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut tests = part::end_to_end(workspace, &[TESTS])?;
    debian::program(workspace, &["git"], "git")?;
    let folder = process::target_folder(workspace)?.join("mcp");
    install(workspace, &folder)?;
    let client = [
        "build",
        "-p",
        "netra-integration",
        "--bin",
        "netra-conformance",
    ];
    process::run(&mut process::cargo(workspace, &client))?;
    let mut outcome = part::tests(tests.env("NETRA_MCP_SERVERS", &folder))?;
    for name in RUNS {
        let conformance = conformance(workspace, &folder, name)?;
        outcome.tally.add(conformance.tally);
        outcome.good &= conformance.good;
    }
    Ok(outcome)
}

/// `node` and `python`, each a folder of its own.
fn install(workspace: &Workspace, folder: &Path) -> Result<()> {
    node::check()?;
    node::install_into(workspace, PACKAGES, &folder.join("node"))?;
    node_program(folder)?;
    let system = Path::new(SYSTEM_PYTHON);
    let usable = system.is_file() && python::can_make_environments(system);
    let environment = Environment {
        folder: folder.join("python"),
        python: if usable { system } else { Path::new("python3") },
    };
    environment.wheels(workspace, REQUIREMENTS)
}

/// The Node that came with the packages: the suite needs a newer one than the page.
fn node_program(folder: &Path) -> Result<PathBuf> {
    let modules = folder.join("node/node_modules");
    let found = ["x64", "arm64"]
        .map(|machine| modules.join(format!("node-linux-{machine}/bin/node")))
        .into_iter()
        .find(|program| program.is_file());
    found.context("npm has no Node for this machine: the part needs Linux on x86-64 or arm64")
}

/// The client side of the suite, all scenarios of one version, or of the extensions.
fn conformance(workspace: &Workspace, folder: &Path, name: &str) -> Result<Outcome> {
    println!("conformance of the client, {name}");
    let (wanted, protocol) = match name {
        EXTENSIONS => (vec!["--suite", EXTENSIONS], "newest"),
        version => (vec!["--suite", "all", "--spec-version", version], version),
    };
    let expected: Table = workspace
        .read(EXPECTED)?
        .parse()
        .with_context(|| format!("{EXPECTED} is no TOML"))?;
    let ours = process::target_folder(workspace)?.join("debug/netra-conformance");
    let suite = folder.join("node/node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let results = folder.join("conformance").join(name);
    if results.exists() {
        fs::remove_dir_all(&results).with_context(|| results.display().to_string())?;
    }
    let mut run = Command::new(node_program(folder)?);
    run.arg(suite)
        .arg("client")
        .args(wanted)
        .arg("--command")
        .arg(format!("{} {protocol}", ours.display()))
        .arg("--output-dir")
        .arg(&results)
        .current_dir(folder);
    let mut scenarios = Vec::new();
    // Its own exit code counts failures that are expected.
    process::watch(&mut run, |line| scenarios.extend(Scenario::read(line)))?;
    if scenarios.is_empty() {
        bail!("no scenario of {name} ran: see above");
    }
    let reasons = match expected.get(name) {
        Some(Value::Table(reasons)) => reasons.clone(),
        Some(_) => bail!("{EXPECTED}: {name} is no table"),
        None => Table::new(),
    };
    let (tally, problems) = judge(&scenarios, &reasons);
    for problem in &problems {
        println!("{name}: {problem}");
    }
    println!(
        "{name}: {} scenarios, {} as they should be",
        scenarios.len(),
        tally.passed
    );
    Ok(Outcome {
        tally,
        good: problems.is_empty(),
    })
}

/// One line of the suite's summary: `✗ auth/iss-supported: 2 passed, 1 failed`.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    name: String,
    passed: u64,
    failed: u64,
}

impl Scenario {
    fn read(line: &str) -> Option<Self> {
        let line = line.strip_prefix('✓').or_else(|| line.strip_prefix('✗'))?;
        let (name, counts) = line.trim().split_once(": ")?;
        let mut counts = counts.split(", ");
        let mut count = |word: &str| {
            let number = counts.next()?.strip_suffix(word)?;
            number.trim().parse().ok()
        };
        Some(Self {
            name: name.to_owned(),
            passed: count(" passed")?,
            failed: count(" failed")?,
        })
    }

    /// A scenario that has checked nothing is none that went well.
    fn went_well(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

/// What went well counts as a test that passed, what fails without a reason as one that failed. A list that says more
/// than the truth is a problem too.
fn judge(scenarios: &[Scenario], reasons: &Table) -> (Tally, Vec<String>) {
    let mut tally = Tally::default();
    let mut problems = Vec::new();
    let mut listed = Vec::new();
    for (reason, names) in reasons {
        if reason.trim().is_empty() {
            problems.push(format!("{EXPECTED} gives no reason for {names}"));
        }
        match names.as_array() {
            Some(names) => listed.extend(names.iter().map(|name| name.as_str().unwrap_or("?"))),
            None => problems.push(format!("{EXPECTED} has no list of names for: {reason}")),
        }
    }
    for scenario in scenarios {
        if scenario.went_well() {
            tally.passed += 1;
        } else if !listed.contains(&scenario.name.as_str()) {
            tally.failed += 1;
            problems.push(format!("{} fails, and no reason is listed", scenario.name));
        }
    }
    for name in listed {
        let fails = |scenario: &Scenario| scenario.name == name && !scenario.went_well();
        if !scenarios.iter().any(fails) {
            problems.push(format!("{EXPECTED} lists {name}, which does not fail"));
        }
    }
    (tally, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read_line_by_line() {
        let read = Scenario::read("✗ auth/iss-supported: 2 passed, 1 failed").unwrap();
        assert_eq!(
            (read.name.as_str(), read.passed, read.failed),
            ("auth/iss-supported", 2, 1)
        );
        let warned = Scenario::read("✓ sse-retry: 3 passed, 0 failed, 1 warnings").unwrap();
        assert!(warned.went_well());
        assert!(
            !Scenario::read("✓ initialize: 0 passed, 0 failed")
                .unwrap()
                .went_well()
        );
        for line in [
            "Total: 0 passed, 50 failed, 0 warnings",
            "✗ auth/dpop (extension)",
            "",
        ] {
            assert_eq!(Scenario::read(line), None, "{line}");
        }
    }

    #[test]
    fn only_what_the_list_says_may_fail_and_all_that_it_says_must() {
        let scenario = |name: &str, passed, failed| Scenario {
            name: name.to_owned(),
            passed,
            failed,
        };
        let ran = [
            scenario("initialize", 1, 0),
            scenario("auth/a", 0, 1),
            scenario("auth/b", 1, 0),
        ];
        let judged = |list: &str| judge(&ran, &list.parse().unwrap());
        let (tally, problems) = judged("why = [\"auth/a\"]");
        assert_eq!(
            (tally.passed, tally.failed, problems.len()),
            (2, 0, 0),
            "{problems:?}"
        );
        let (tally, problems) = judged("");
        assert_eq!((tally.passed, tally.failed, problems.len()), (2, 1, 1));
        for list in [
            "\"\" = [\"auth/a\"]",
            "why = \"auth/a\"",
            "why = [\"auth/\"]",
            "why = [\"auth/a\", \"initialize\"]",
            "why = [\"auth/a\", \"gone\"]",
        ] {
            assert!(!judged(list).1.is_empty(), "{list}");
        }
    }
}
