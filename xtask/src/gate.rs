//! `cargo xtask test`: runs the parts of the gate and says what came of them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::part::{self, Outcome, Part, RunWith};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// One line of the table at the end.
struct Row {
    name: &'static str,
    good: bool,
    tally: Tally,
    time: Duration,
}

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let ours = args.iter().position(|arg| arg == "--");
    let (args, theirs) = args.split_at(ours.unwrap_or(args.len()));
    if args.iter().any(|arg| arg == "--list") {
        part::ALL.iter().for_each(|part| println!("{}", part.name));
        return Ok(ExitCode::SUCCESS);
    }
    let fail_fast = args.iter().any(|arg| arg == "--fail-fast");
    let words: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| *arg != "--fail-fast")
        .collect();
    let wanted = select(&words)?;
    let rows = match theirs.split_first() {
        None => run_parts(workspace, &wanted, words.is_empty(), fail_fast),
        Some((_, theirs)) => {
            let (part, run) = takes_arguments(&wanted)?;
            vec![run_part(part.name, || run(workspace, theirs))]
        }
    };
    let left_out = wanted.len() - rows.len();
    let (text, good) = summary(&rows, left_out);
    print!("{text}");
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The named parts in the order of the gate, each once; all but those that have to be named when none is.
fn select(words: &[&str]) -> Result<Vec<&'static Part>> {
    for word in words {
        if !part::ALL.iter().any(|part| part.name == *word) {
            let known: Vec<&str> = part::ALL.iter().map(|part| part.name).collect();
            bail!(
                "there is no part `{word}`; the parts are {}",
                known.join(", ")
            );
        }
    }
    let wanted = |part: &&Part| match words {
        [] => !part.by_name,
        words => words.contains(&part.name),
    };
    Ok(part::ALL.iter().filter(wanted).collect())
}

/// The one part that is wanted, if it takes arguments.
fn takes_arguments(wanted: &[&'static Part]) -> Result<(&'static Part, RunWith)> {
    match wanted {
        [part] if let Some(run) = part.run_with => Ok((part, run)),
        _ => bail!("what follows `--` is for one part that takes arguments, such as `chaos`"),
    }
}

fn run_parts(
    workspace: &Workspace,
    parts: &[&'static Part],
    all: bool,
    fail_fast: bool,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for part in parts {
        let run = part.run_among_all.filter(|_| all).unwrap_or(part.run);
        let row = run_part(part.name, || run(workspace));
        let stop = fail_fast && !row.good;
        rows.push(row);
        if stop {
            break;
        }
    }
    rows
}

fn run_part(name: &'static str, run: impl FnOnce() -> Result<Outcome>) -> Row {
    println!("== {name}");
    let began = Instant::now();
    let row = row(name, run(), began.elapsed());
    println!(
        "== {name}: {} in {:.1} s",
        verdict(row.good),
        row.time.as_secs_f64()
    );
    row
}

/// A part that fails without a failed test counts as one failure, so that the sum never says
/// "0 failed" about a gate that is shut.
fn row(name: &'static str, outcome: Result<Outcome>, time: Duration) -> Row {
    let (mut tally, good) = match outcome {
        Ok(outcome) => (outcome.tally, outcome.good && outcome.tally.failed == 0),
        Err(error) => {
            println!("error: {error:#}");
            (Tally::default(), false)
        }
    };
    if !good && tally.failed == 0 {
        tally.failed = 1;
    }
    Row {
        name,
        good,
        tally,
        time,
    }
}

fn verdict(good: bool) -> &'static str {
    if good { "ok" } else { "FAILED" }
}

/// The table, the sum of all tests, and whether everything is well.
fn summary(rows: &[Row], left_out: usize) -> (String, bool) {
    let mut text = String::from("\npart          result    passed  failed    time\n");
    let mut sum = Tally::default();
    let mut time = Duration::ZERO;
    for row in rows {
        sum.add(row.tally);
        time += row.time;
        text.push_str(&format!(
            "{:<13} {:<8} {:>7} {:>7} {:>6.1} s\n",
            row.name,
            verdict(row.good),
            row.tally.passed,
            row.tally.failed,
            row.time.as_secs_f64()
        ));
    }
    text.push_str(&format!("{:<38} {:>6.1} s\n", "all", time.as_secs_f64()));
    if left_out > 0 {
        text.push_str(&format!("{left_out} parts were not run (--fail-fast)\n"));
    }
    text.push_str(&format!("{sum}\n"));
    (text, rows.iter().all(|row| row.good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, good: bool) -> Result<Outcome> {
        Ok(Outcome {
            tally: Tally {
                passed,
                failed,
                skipped: 0,
            },
            good,
        })
    }

    #[test]
    fn parts_run_in_the_order_of_the_gate_and_once() {
        let names = |words: &[&str]| -> Vec<&str> {
            select(words)
                .unwrap()
                .iter()
                .map(|part| part.name)
                .collect()
        };
        assert_eq!(names(&["unit", "fmt", "unit"]), ["fmt", "unit"]);
        let named = part::ALL.iter().filter(|part| part.by_name).count();
        assert_eq!(names(&[]).len(), part::ALL.len() - named);
        assert!(!names(&[]).contains(&"cluster") && names(&["cluster"]) == ["cluster"]);
        let error = select(&["units"]).err().unwrap().to_string();
        assert!(
            error.contains("`units`") && error.contains("integration"),
            "{error}"
        );
    }

    #[test]
    fn only_one_part_is_given_arguments_and_only_if_it_takes_any() {
        let given = |words: &[&str]| takes_arguments(&select(words).unwrap()).is_ok();
        assert!(given(&["chaos"]));
        for words in [&[][..], &["fmt"], &["chaos", "fmt"]] {
            assert!(!given(words), "{words:?}");
        }
    }

    #[test]
    fn the_sum_adds_all_tests_and_shuts_on_any_failure() {
        let time = Duration::from_millis(1_500);
        let rows = [
            row("fmt", outcome(0, 0, true), time),
            row("unit", outcome(40, 2, false), time),
            row("clippy", Err(anyhow::anyhow!("warnings")), time),
        ];
        let (text, good) = summary(&rows, 0);
        assert!(!good);
        assert!(text.ends_with("\n40 passed, 3 failed\n"), "{text}");
        assert!(
            text.contains("unit          FAILED        40       2    1.5 s"),
            "{text}"
        );
    }

    #[test]
    fn an_open_gate_says_so() {
        let (text, good) = summary(&[row("unit", outcome(7, 0, true), Duration::ZERO)], 0);
        assert!(good);
        assert!(text.ends_with("\n7 passed, 0 failed\n"), "{text}");
        let (text, _) = summary(&[], 3);
        assert!(text.contains("3 parts were not run"), "{text}");
    }

    #[test]
    fn a_failed_test_fails_its_part_even_if_the_runner_said_success() {
        assert!(!row("unit", outcome(1, 1, true), Duration::ZERO).good);
    }
}
