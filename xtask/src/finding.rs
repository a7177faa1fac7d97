//! One place where a rule of the house is broken, and how a list of them is shown.

use std::fmt;

/// A broken rule. Without a line it is about the whole file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: Option<usize>,
    pub(crate) rule: &'static str,
    pub(crate) text: String,
    /// Counted and shown on request, but no reason to fail.
    pub(crate) warning: bool,
}

impl Finding {
    pub(crate) fn new(path: &str, line: Option<usize>, rule: &'static str, text: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            text,
            warning: false,
        }
    }

    pub(crate) fn warning(
        path: &str,
        line: Option<usize>,
        rule: &'static str,
        text: String,
    ) -> Self {
        Self {
            warning: true,
            ..Self::new(path, line, rule, text)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}: {}", self.path, self.rule, self.text),
            None => write!(f, "{}: {}: {}", self.path, self.rule, self.text),
        }
    }
}

/// Prints what was found and gives whether nothing fails.
pub(crate) fn report(name: &str, findings: &[Finding], verbose: bool) -> bool {
    for finding in findings
        .iter()
        .filter(|finding| verbose || !finding.warning)
    {
        let mark = if finding.warning { "warning" } else { "error" };
        println!("{mark}: {finding}");
    }
    let warnings = findings.iter().filter(|finding| finding.warning).count();
    let errors = findings.len() - warnings;
    println!("{name}: {errors} errors, {warnings} warnings");
    errors == 0
}
