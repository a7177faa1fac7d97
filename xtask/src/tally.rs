//! Adds up what test programs say about their tests.

use std::fmt;

/// How many tests ran, how many were left out for want of something, and whether any runner gave a count at all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

impl Tally {
    /// Takes in one line of a test program's output; other lines change nothing.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, "passed");
            self.failed += number_before(counts, "failed");
        } else if let Some(counts) = line.strip_prefix("Tests ") {
            // The line of vitest: `Tests  1 failed | 11 passed | 1 skipped (13)`.
            self.passed += number_before(counts, "passed");
            self.failed += number_before(counts, "failed");
            self.skipped += number_before(counts, "skipped");
        } else if let Some(counts) = pytest(line) {
            self.passed += number_before(counts, "passed");
            self.skipped += number_before(counts, "skipped");
            // What a fixture or a file breaks on, pytest calls an error.
            let broken = ["failed", "error", "errors"];
            self.failed += broken
                .iter()
                .map(|word| number_before(counts, word))
                .sum::<u64>();
        }
    }

    pub(crate) fn ran(self) -> u64 {
        self.passed + self.failed
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The counts in the last line of pytest: `==== 1 failed, 11 passed in 0.35s ====`.
fn pytest(line: &str) -> Option<&str> {
    let framed = line.strip_prefix("==")?.strip_suffix("==")?;
    let (counts, time) = framed.trim_matches(['=', ' ']).rsplit_once(" in ")?;
    let timed = time.starts_with(|c: char| c.is_ascii_digit());
    let counted = counts.starts_with(|c: char| c.is_ascii_digit());
    (timed && counted).then_some(counts)
}

fn number_before(counts: &str, word: &str) -> u64 {
    let words: Vec<&str> = counts
        .split(|c: char| c.is_whitespace() || matches!(c, ';' | '.' | ','))
        .collect();
    let Some(at) = words.iter().position(|found| *found == word) else {
        return 0;
    };
    at.checked_sub(1)
        .and_then(|before| words.get(before)?.parse().ok())
        .unwrap_or(0)
}

/// Drops the terminal's colour codes: an escape character up to the letter that ends it.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], passed: u64, failed: u64) {
        let mut tally = Tally::default();
        for line in lines {
            tally.read(line);
        }
        assert_eq!((tally.passed, tally.failed), (passed, failed));
    }

    #[test]
    fn what_was_left_out_is_said() {
        let mut tally = Tally::default();
        tally.read("      Tests  2 failed | 11 passed | 1 skipped (14)");
        tally.read("== 3 passed, 2 skipped in 0.35s ==");
        assert_eq!(tally.to_string(), "14 passed, 2 failed, 3 skipped");
        assert_eq!(tally.ran(), 16);
        tally.skipped = 0;
        assert_eq!(tally.to_string(), "14 passed, 2 failed");
    }

    #[test]
    fn cargo_and_vitest_are_added_up() {
        check(
            &[
                "running 3 tests",
                "test a ... ok",
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s",
                "test result: FAILED. 40 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
                "      Tests  1 failed | 11 passed (12)",
            ],
            54,
            3,
        );
    }

    #[test]
    fn pytest_is_added_up_and_its_errors_are_failures() {
        check(
            &[
                "=========== 257 passed in 13.41s ===========",
                "== 1 failed, 40 passed, 2 errors in 75.10s (0:01:15) ==",
                "========== 3 tests failed in this file ==========",
                "=== no tests ran in 0.01s ===",
            ],
            297,
            3,
        );
    }

    #[test]
    fn colours_do_not_hide_a_count() {
        check(
            &["\u{1b}[2m      Tests \u{1b}[22m \u{1b}[1m\u{1b}[32m12 passed\u{1b}[39m (12)"],
            12,
            0,
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        check(
            &["Test Files  2 passed (2)", "12 passed", "no tests", ""],
            0,
            0,
        );
    }
}
