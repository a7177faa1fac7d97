//! A benchmark of several parts: which are wanted, and how their results are shown.

use anyhow::{Result, bail};
use serde_json::{Map, Value};
use tokio::process::Command;

use crate::say;

/// Those of `all` that were asked for, all when none was named.
///
/// # Errors
/// When one was asked for that there is not.
pub(crate) fn wanted(all: &[&'static str], only: &[String]) -> Result<Vec<&'static str>> {
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no part {unknown:?}; there are {}", all.join(", "));
    }
    let asked = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    Ok(all.iter().copied().filter(|name| asked(name)).collect())
}

/// What a program prints, as JSON.
///
/// # Errors
/// When it fails, with its own words, and when it printed something else.
pub(crate) async fn of_program(program: &mut Command) -> Result<Value> {
    let output = program.output().await?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The results so far: shown at once for people, all at the end for scripts.
pub(crate) struct Report {
    json: bool,
    parts: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            parts: Map::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, measured: Value) {
        if !self.json {
            show(name, &measured);
        }
        self.parts.insert(name.to_owned(), measured);
    }

    pub(crate) fn end(self) -> Result<()> {
        if self.json {
            say(&serde_json::to_string_pretty(&self.parts)?);
        }
        Ok(())
    }
}

fn show(name: &str, measured: &Value) {
    say(name);
    for (what, value) in measured.as_object().into_iter().flatten() {
        match value.as_f64() {
            Some(number) if number >= 100.0 => say(&format!("  {what:<40} {number:>12.0}")),
            Some(number) => say(&format!("  {what:<40} {number:>12.3}")),
            None => say(&format!("  {what:<40} {value}")),
        }
    }
}
