//! The parts of the gate: what each one runs.

use std::process::Command;

use anyhow::{Result, bail};

use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{
    agents, browser, chaos, clients, contract, debian, deps, mcp, models, monitoring, openapi,
    postgres, process, tidy, ui,
};

/// What came out of a part.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) good: bool,
}

/// Runs a part with arguments of its own.
pub(crate) type RunWith = fn(&Workspace, &[String]) -> Result<Outcome>;

/// One named part. An error means the same as a failure, with a reason.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<Outcome>,
    /// What takes the place of `run` when all parts run, so that no test runs twice.
    pub(crate) run_among_all: Option<fn(&Workspace) -> Result<Outcome>>,
    /// Runs it with arguments of its own, where it takes any.
    pub(crate) run_with: Option<RunWith>,
    /// Whether it runs only where it is named: it has not yet passed ten times in a row.
    pub(crate) by_name: bool,
}

const fn part(name: &'static str, run: fn(&Workspace) -> Result<Outcome>) -> Part {
    Part {
        name,
        run,
        run_among_all: None,
        run_with: None,
        by_name: false,
    }
}

/// Cheap parts first. The page comes before the server because the server's build takes it in.
pub(crate) const ALL: [Part; 20] = [
    part("fmt", fmt),
    part("tidy", |workspace| plain(tidy::check(workspace)?)),
    part("deps", |workspace| plain(deps::check(workspace)?)),
    part("ui", web_page),
    part("clippy", clippy),
    part("unit", unit),
    part("valgrind", valgrind),
    part("openapi", |workspace| {
        openapi::check(workspace).and_then(|()| plain(true))
    }),
    Part {
        run_among_all: Some(|workspace| integration(workspace, &["--skip", SECURITY])),
        ..part("integration", |workspace| integration(workspace, &[]))
    },
    Part {
        run_with: Some(contract::check),
        ..part("contract", |workspace| contract::check(workspace, &[]))
    },
    part("mcp", mcp::check),
    part("models", models::check),
    part("agents", agents::check),
    part("clients", clients::check),
    part("browser", browser::check),
    part("monitoring", monitoring::check),
    part("security", |workspace| integration(workspace, &[SECURITY])),
    Part {
        run_among_all: Some(postgres::check_among_all),
        ..part("postgres", postgres::check)
    },
    Part {
        by_name: true,
        run_with: Some(postgres::check_cluster),
        ..part("cluster", |workspace| {
            postgres::check_cluster(workspace, &[])
        })
    },
    Part {
        run_with: Some(chaos::check),
        ..part("chaos", |workspace| chaos::check(workspace, &[]))
    },
];

/// The module whose tests are the part `security`.
const SECURITY: &str = "security::";

fn plain(good: bool) -> Result<Outcome> {
    Ok(Outcome {
        tally: Tally::default(),
        good,
    })
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    let args = ["fmt", "--all", "--", "--check", "--files-with-diff"];
    if let Err(error) = process::run(&mut process::cargo(workspace, &args)) {
        bail!("the files above are not formatted; `cargo fmt --all` does it ({error})");
    }
    plain(true)
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    process::require("cc")?;
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    process::run(&mut process::cargo(workspace, &args))?;
    plain(true)
}

fn web_page(workspace: &Workspace) -> Result<Outcome> {
    let (tally, good) = ui::check(workspace)?;
    Ok(Outcome { tally, good })
}

fn unit(workspace: &Workspace) -> Result<Outcome> {
    process::require("cc")?;
    let args = [
        "test",
        "--workspace",
        "--exclude",
        "netra-integration",
        "--no-fail-fast",
        "--",
        "--skip",
        postgres::TESTS,
    ];
    tests(&mut process::cargo(workspace, &args))
}

/// The allocator's blocks under valgrind. They lie over the system's allocator there, which it can look into.
fn valgrind(workspace: &Workspace) -> Result<Outcome> {
    process::require("cc")?;
    let valgrind = debian::program(workspace, &["valgrind"], "valgrind")?;
    let known = workspace.root().join("crates/memory/tests/valgrind.supp");
    let runner = format!(
        "target.'cfg(all())'.runner = ['{valgrind}', '--quiet', '--error-exitcode=99', '--suppressions={}', \
         '--leak-check=full', '--show-leak-kinds=definite', '--errors-for-leak-kinds=definite']",
        known.display()
    );
    let args = [
        "--config",
        &runner,
        "test",
        "-p",
        "netra-memory",
        "--test",
        "layout",
    ];
    tests(&mut process::cargo(workspace, &args))
}

fn integration(workspace: &Workspace, filter: &[&str]) -> Result<Outcome> {
    let filter = [&["--skip", postgres::TESTS], filter].concat();
    tests(&mut without_others(workspace, &filter)?)
}

/// The end-to-end tests that this lets run, whatever the database, with what they need besides the server.
pub(crate) fn without_others(workspace: &Workspace, filter: &[&str]) -> Result<Command> {
    debian::program(workspace, &["curl"], "curl")?;
    debian::program(workspace, &["nginx", "/usr/sbin/nginx"], "nginx")?;
    // What needs packages of others is a part of its own.
    let others = [
        mcp::TESTS,
        models::TESTS,
        agents::TESTS,
        contract::TESTS,
        monitoring::TESTS,
    ];
    let others = others.into_iter().flat_map(|part| ["--skip", part]);
    let filter: Vec<&str> = others.chain(filter.iter().copied()).collect();
    end_to_end(workspace, &filter)
}

/// Builds the real binary, which end-to-end tests start: cargo does not build it for another crate's tests.
pub(crate) fn server(workspace: &Workspace) -> Result<()> {
    process::require("cc")?;
    let build = ["build", "-p", "netra", "--bin", "netra"];
    process::run(&mut process::cargo(workspace, &build))
}

/// The end-to-end tests that this lets run, with the binary that they need, for [`tests`].
pub(crate) fn end_to_end(workspace: &Workspace, filter: &[&str]) -> Result<Command> {
    server(workspace)?;
    let args = ["test", "-p", "netra-integration", "--no-fail-fast", "--"];
    Ok(process::cargo(workspace, &[&args, filter].concat()))
}

/// Runs test programs and adds up their tests. That none ran is a failure, or a mistyped filter
/// would look like success.
pub(crate) fn tests(command: &mut Command) -> Result<Outcome> {
    let mut tally = Tally::default();
    let good = process::watch(command, |line| tally.read(line))?;
    if good && tally.ran() == 0 {
        bail!("no test ran: nothing matches, or there are no tests yet");
    }
    Ok(Outcome { tally, good })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        shell
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert!(tests(&mut shell("echo 'test result: ok. 0 passed; 0 failed'")).is_err());
        let outcome = tests(&mut shell("echo 'test result: ok. 2 passed; 0 failed'")).unwrap();
        assert!(outcome.good);
        assert_eq!(outcome.tally.passed, 2);
    }

    #[test]
    fn a_failed_command_is_a_failure_whatever_it_counts() {
        assert!(
            !tests(&mut shell("echo 'test result: ok. 2 passed'; exit 101"))
                .unwrap()
                .good
        );
    }
}
