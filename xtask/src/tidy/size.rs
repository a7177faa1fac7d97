//! First lines, and the sizes of files and functions.

use super::source::{self, Source};
use crate::finding::Finding;

const FILE_FAILS: usize = 800;
const FILE_WARNS: usize = 500;
const FUNCTION_FAILS: usize = 100;
const FUNCTION_WARNS: usize = 40;

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = source.text.lines().next().unwrap_or_default();
    if first
        .strip_prefix("//! ")
        .is_none_or(|purpose| purpose.trim().is_empty())
    {
        let text = "the first line must be `//! ` and say what the file is for".to_owned();
        findings.push(Finding::new(&source.path, Some(1), "first line", text));
    }
    let lines = source.lines_that_count();
    let limits = (FILE_WARNS, FILE_FAILS);
    findings.extend(judge(source, None, "file size", "the file", lines, limits));
    for (name, at, lines) in functions(source) {
        let limits = (FUNCTION_WARNS, FUNCTION_FAILS);
        let what = format!("`{name}`");
        findings.extend(judge(
            source,
            Some(source.line(at)),
            "function size",
            &what,
            lines,
            limits,
        ));
    }
    findings
}

fn judge(
    source: &Source,
    line: Option<usize>,
    rule: &'static str,
    what: &str,
    lines: usize,
    (warns, fails): (usize, usize),
) -> Option<Finding> {
    if lines > fails {
        let text = format!("{what} has {lines} lines, at most {fails}");
        return Some(Finding::new(&source.path, line, rule, text));
    }
    let text = format!("{what} has {lines} lines, aim at {warns}");
    (lines > warns).then(|| Finding::warning(&source.path, line, rule, text))
}

/// Every function with a body: name, where it begins, lines from `fn` to the closing brace.
fn functions(source: &Source) -> Vec<(&str, usize, usize)> {
    let mut functions = Vec::new();
    for at in source.words("fn") {
        let rest = source.code[at + 2..].trim_start();
        let name = rest
            .split(|c| !source::is_word(c))
            .next()
            .unwrap_or_default();
        // `fn(u8) -> u8` is a type, `fn $name` a macro.
        if name.is_empty() {
            continue;
        }
        let end = source::item_end(&source.code, at).min(source.code.len().saturating_sub(1));
        if source.code.as_bytes()[end] == b'}' {
            functions.push((name, at, source.line(end) - source.line(at) + 1));
        }
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Vec<(&'static str, bool)> {
        let source = Source::new("crates/x/src/lib.rs", text);
        check(&source)
            .into_iter()
            .map(|finding| (finding.rule, finding.warning))
            .collect()
    }

    fn function(lines: usize) -> String {
        format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2))
    }

    #[test]
    fn the_first_line_says_what_the_file_is_for() {
        for bad in [
            "",
            "// x\n",
            "//!\n",
            "//! \n",
            "\n//! x\n",
            "use std::fs;\n",
        ] {
            assert_eq!(check_text(bad), [("first line", false)], "{bad:?}");
        }
        assert_eq!(check_text("//! Runs.\n"), []);
    }

    #[test]
    fn long_files_warn_and_then_fail() {
        let file = |lines: usize| format!("//! x\n{}", "\n".repeat(lines - 1));
        assert_eq!(check_text(&file(500)), []);
        assert_eq!(check_text(&file(501)), [("file size", true)]);
        assert_eq!(check_text(&file(800)), [("file size", true)]);
        assert_eq!(check_text(&file(801)), [("file size", false)]);
    }

    #[test]
    fn long_functions_warn_and_then_fail() {
        assert_eq!(check_text(&function(40)), []);
        assert_eq!(check_text(&function(41)), [("function size", true)]);
        assert_eq!(check_text(&function(100)), [("function size", true)]);
        assert_eq!(check_text(&function(101)), [("function size", false)]);
    }

    #[test]
    fn signatures_types_and_texts_are_no_bodies() {
        let text = "//! x\ntrait T {\n    fn f(&self, a: [u8; 4]);\n}\ntype F = fn(u8);\n";
        let source = Source::new("crates/x/src/lib.rs", text);
        assert!(functions(&source).is_empty());
        let braces = Source::new(
            "crates/x/src/lib.rs",
            "fn f() {\n    g(\"}\");\n}\nfn h() {}\n",
        );
        let found = functions(&braces);
        assert_eq!(found, [("f", 0, 3), ("h", 23, 1)]);
    }
}
