//! What `--help` prints, with examples for every command.

use anyhow::{Result, bail};

pub(crate) const OVERVIEW: &str = "\
cargo xtask: the one door for people and CI

Usage: cargo xtask <command> [arguments]

  up          build everything and serve it on 127.0.0.1:8080
  test        the whole gate, or the parts that are named
  ui          build the web page into ui/dist
  openapi     write openapi/netra.json and what is made from it, or check them
  bench       run a benchmark in a release build
  coverage    which lines the tests reach
  tidy        the rules of the house that no other tool knows
  deps        who may depend on whom; licences, bans and sources
  help        this text, or that of a command

Examples:
  cargo xtask up
  cargo xtask test
  cargo xtask test fmt clippy unit
  cargo xtask help test
";

const UP: &str = "\
Build the web page and the server, then serve

Usage: cargo xtask up [--debug] [--no-ui] [-- <arguments of netra serve>]

  --debug    build without optimisation: compiles faster, runs slower
  --no-ui    do not build the web page

Without Node the server is built all the same and shows a page that says how to get the UI.
The server takes the place of this command, so Ctrl-C and signals reach it. Paths are relative
to the root of the repository. Unless given after `--`, the defaults are
`--listen 127.0.0.1:8080 --data ./netra-data`.

Examples:
  cargo xtask up
  cargo xtask up --debug
  cargo xtask up -- --listen 127.0.0.1:9000 --data /tmp/netra-try
";

const TEST: &str = "\
The whole gate, or the parts that are named

Usage: cargo xtask test [--fail-fast] [--list] [part]... [-- <arguments of chaos or contract>]

  fmt          the code is formatted
  tidy         the rules of the house (cargo xtask tidy)
  deps         who may depend on whom; licences, bans and sources
  ui           type check, tests and build of the web page (needs Node)
  clippy       all targets, warnings denied
  unit         tests of every crate but netra-integration
  valgrind     the allocator's blocks, watched by valgrind
  openapi      openapi/netra.json and what is made from it are what the server serves
  integration  end-to-end tests of netra-integration
  contract     every operation of the document by schemathesis, as a user and as an admin (needs Python 3.11)
  mcp          tool servers from npm and PyPI, and the MCP conformance suite (needs Node, Python, git)
  models       a mock of the providers' formats from npm, and answers that their SDKs carry (needs Node, Python)
  agents       the examples of agents in Python and TypeScript, behind a real server (needs Node, Python)
  clients      the clients in TypeScript and Python against the server (needs Node and Python)
  browser      the page in Chromium against the server (needs Node; as root it installs Chromium)
  monitoring   alerts and metrics before promtool (fetches it from Debian, installs nothing)
  security     tests of netra-integration in modules named `security`
  postgres     the store's tests, integration, security and a short chaos on a PostgreSQL that it starts (needs PostgreSQL 15)
  cluster      chaos over three servers and one PostgreSQL: all of them die, are paused, cut off and restarted (by name only)
  chaos        many users, a server that dies, a network that breaks: nothing is lost

  --fail-fast  stop at the first part that fails
  --list       print the names of the parts

With no part named all run that have not to be named, in this order. The last lines are the time of each part and the
sum of all tests. A part that fails without a failed test counts as one failure. The exit code
is 0 when nothing failed, 1 when something did, 2 when the gate itself could not run.

`chaos` takes about a minute and prints the seed that all its chance comes from. Given alone it
takes arguments: `--seed N` for the same chance again, `--long` to go on until a million events
were delivered (with release builds), `--seconds N`, `--events N`, `--users N`. When it fails, it keeps the data folder
and says where. `cluster` takes the same, and lasts ten minutes with `--long`. `contract` draws its requests from one seed; given alone it takes `--seed N`, `--seconds N` for each of
the two who ask, and `--long` for 15 minutes of each. integration needs curl and nginx, chaos needs libfaketime, postgres and
cluster need PostgreSQL; as root on Debian they are installed.

Examples:
  cargo xtask test
  cargo xtask test fmt clippy
  cargo xtask test chaos -- --long --seed 7
  cargo xtask test contract -- --seconds 300
  cargo xtask test --fail-fast unit integration
";

const UI: &str = "\
Build the web page into ui/dist

Usage: cargo xtask ui [--check]

  --check    type check and tests as well, as in `cargo xtask test ui`

Packages are installed as ui/package-lock.json names them, when it has changed. Needs Node 20.19.

Examples:
  cargo xtask ui
  cargo xtask ui --check
";

const OPENAPI: &str = "\
Write openapi/netra.json from what `netra openapi` prints, and the client's types from that

Usage: cargo xtask openapi [--check]

  --check    change nothing; fail and show the first difference when the file is stale

Examples:
  cargo xtask openapi
  cargo xtask openapi --check
";

const BENCH: &str = "\
Run a benchmark of netra-integration, server and generator in release builds

Usage: cargo xtask bench <name> [arguments]

With `--database postgres`, which `runs` takes, a PostgreSQL is started for it, whose commits are durable.

Examples:
  cargo xtask bench runs
  cargo xtask bench runs --help
  cargo xtask bench runs --database postgres
  cargo xtask bench events --only fanout,idle --json
  cargo xtask bench isolation --only idle,cost
  cargo xtask bench greed --rounds 20
  cargo xtask bench tools
  cargo xtask bench model
  cargo xtask bench http
  cargo xtask bench overload --clients 500
";

const COVERAGE: &str = "\
Which lines the tests reach, by cargo-tarpaulin with its ptrace engine

Usage: cargo xtask coverage [crate]... [-- <arguments of tarpaulin>]

With no crate named, all but xtask. The ptrace engine is used because the pinned
toolchain is installed without LLVM's tools. The first call installs cargo-tarpaulin into
target/tools, which takes minutes. Reports: target/coverage/tarpaulin-report.{html,json}.
What runs only in a process that a test starts is not counted, unless tarpaulin is told
`--follow-exec`.

Examples:
  cargo xtask coverage
  cargo xtask coverage netra-store netra-events
  cargo xtask coverage netra-engine -- --timeout 300
";

const TIDY: &str = "\
The rules of the house that no other tool knows

Usage: cargo xtask tidy [--verbose]

  --verbose    list what is only counted otherwise: files over 500 lines, functions over 40

Examples:
  cargo xtask tidy
  cargo xtask tidy --verbose
";

const DEPS: &str = "\
Who may depend on whom; licences, bans and sources of third-party crates

Usage: cargo xtask deps [--licences]

  --licences    print every dependency with its version and licence

Examples:
  cargo xtask deps
  cargo xtask deps --licences
";

/// The help of one command.
pub(crate) fn of(command: &str) -> Result<&'static str> {
    Ok(match command {
        "up" => UP,
        "test" => TEST,
        "ui" => UI,
        "openapi" => OPENAPI,
        "bench" => BENCH,
        "coverage" => COVERAGE,
        "tidy" => TIDY,
        "deps" => DEPS,
        "help" | "--help" | "-h" => OVERVIEW,
        unknown => bail!("there is no command `{unknown}`; `cargo xtask help` lists them"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_overview_has_a_help_with_examples() {
        let commands: Vec<&str> = OVERVIEW
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
            .filter(|word| *word != "cargo")
            .collect();
        assert_eq!(commands.len(), 9);
        for command in commands {
            assert!(
                of(command).unwrap().contains("Examples:\n  cargo xtask"),
                "{command}"
            );
        }
        assert!(of("no-such-command").is_err());
    }

    #[test]
    fn the_help_of_test_names_the_parts_in_their_order() {
        let named: Vec<&str> = TEST
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
            .filter(|word| !word.starts_with("--") && *word != "cargo")
            .collect();
        let parts: Vec<&str> = crate::part::ALL.iter().map(|part| part.name).collect();
        assert_eq!(named, parts);
    }
}
