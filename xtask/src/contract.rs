//! The server against its own document, by schemathesis, which nobody here wrote: installs it, runs the tests with it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::part::{self, Outcome};
use crate::process;
use crate::python::Environment;
use crate::workspace::Workspace;

/// The tests of netra-integration that need it.
pub(crate) const TESTS: &str = "contract::real::";
/// Which version, with all that it needs, by checksum.
const REQUIREMENTS: &str = "crates/integration/contract/requirements.txt";
/// What the gate draws its chance from.
const SEED: &str = "7";
/// How long the long form goes on, for each of the two who ask.
const LONG_SECONDS: &str = "900";

/// What the tests are told.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    seed: String,
    /// None: what the gate has time for.
    seconds: Option<String>,
}

impl Wanted {
    fn read(args: &[String]) -> Result<Self> {
        let mut wanted = Self {
            seed: SEED.to_owned(),
            seconds: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                let number = args
                    .next()
                    .with_context(|| format!("{arg} takes a number"))?;
                number
                    .parse::<u64>()
                    .with_context(|| format!("{arg} takes a number"))?;
                Ok::<_, anyhow::Error>(number.clone())
            };
            match arg.as_str() {
                "--long" => wanted.seconds = Some(LONG_SECONDS.to_owned()),
                "--seconds" => wanted.seconds = Some(number()?),
                "--seed" => wanted.seed = number()?,
                _ => bail!("`contract` takes --long, --seconds N and --seed N, not `{arg}`"),
            }
        }
        Ok(wanted)
    }
}

/// Runs the tests as these arguments say.
pub(crate) fn check(workspace: &Workspace, args: &[String]) -> Result<Outcome> {
    let wanted = Wanted::read(args)?;
    let one_by_one = [TESTS, "--nocapture", "--test-threads", "1"];
    let mut tests = part::end_to_end(workspace, &one_by_one)?;
    let environment = Environment {
        folder: process::target_folder(workspace)?.join("contract"),
        python: Path::new("python3"),
    };
    environment.wheels(workspace, REQUIREMENTS)?;
    tests
        .env(
            "NETRA_SCHEMATHESIS",
            environment.folder.join("bin/schemathesis"),
        )
        .env("NETRA_CONTRACT_SEED", wanted.seed);
    if let Some(seconds) = wanted.seconds {
        tests.env("NETRA_CONTRACT_SECONDS", seconds);
    }
    part::tests(&mut tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Wanted> {
        Wanted::read(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_long_form_has_a_time_and_the_gate_has_none() {
        assert_eq!(read(&[]).unwrap().seconds, None);
        assert_eq!(read(&["--long"]).unwrap().seconds.as_deref(), Some("900"));
        let wanted = read(&["--seed", "9", "--seconds", "30"]).unwrap();
        assert_eq!(
            (wanted.seed.as_str(), wanted.seconds.as_deref()),
            ("9", Some("30"))
        );
        for bad in [&["--seed"][..], &["--seconds", "x"], &["--quick"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
