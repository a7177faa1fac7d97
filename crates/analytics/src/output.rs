//! How numbers and texts stand in results.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::log::Log;

/// Cuts a text to so many characters and replaces control characters; a cut one ends in an ellipsis.
pub(crate) fn cut(text: &str, max_chars: usize) -> Cow<'_, str> {
    let short = text.chars().nth(max_chars).is_none();
    if short && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let keep = if short {
        max_chars
    } else {
        max_chars.saturating_sub(1)
    };
    let mut out: String = text
        .chars()
        .take(keep)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if !short {
        out.push('…');
    }
    Cow::Owned(out)
}

/// A file's name without folders and odd characters, and with this extension; none where nothing is left.
pub(crate) fn file_name(name: &str, extension: &str) -> Option<String> {
    let stem = name.strip_suffix(&format!(".{extension}")).unwrap_or(name);
    let plain = |c: char| {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | ' ') {
            c
        } else {
            '-'
        }
    };
    let name: String = stem.chars().take(80).map(plain).collect();
    let name = name.trim_matches(['-', ' ']);
    (!name.is_empty()).then(|| format!("{name}.{extension}"))
}

/// A whole number with commas between the thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount in millionths of a millionth of a dollar as dollars, rounded to six decimals.
pub(crate) fn usd(pico: i128) -> f64 {
    let half = if pico < 0 { -500_000 } else { 500_000 };
    let micro = (pico + half) / 1_000_000;
    micro as f64 / 1e6
}

/// A number rounded to so many decimals.
pub(crate) fn round(number: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (number * scale).round() / scale
}

/// A part of a whole, to six decimals; `null` when the whole is nothing.
pub(crate) fn share(part: u64, whole: u64) -> Value {
    if whole == 0 {
        Value::Null
    } else {
        json!(round(part as f64 / whole as f64, 6))
    }
}

/// What an analysis does not know, with the reason.
#[derive(Debug, Default)]
pub(crate) struct Missing(Vec<Value>);

impl Missing {
    pub(crate) fn add(&mut self, field: &str, reason: impl Into<String>) {
        self.0
            .push(json!({ "field": field, "reason": reason.into() }));
    }

    pub(crate) fn into_value(self) -> Value {
        Value::Array(self.0)
    }
}

/// Why a column gives no values, or how many rows lack one; `None` when every row has it.
pub(crate) fn gap_in(log: &Log, column: &str, present: usize) -> Option<String> {
    if present == log.rows && log.rows > 0 {
        return None;
    }
    if log.rows == 0 {
        return Some("the log has no readable rows".to_owned());
    }
    if present > 0 {
        let lacking = thousands((log.rows - present) as u64);
        let rows = thousands(log.rows as u64);
        return Some(format!("{lacking} of {rows} rows have no value"));
    }
    let header = log
        .headers
        .iter()
        .find(|h| h.column.is_some_and(|c| c.name() == column));
    Some(match header {
        Some(found) => format!("the column \"{}\" is empty in every row", found.header),
        None => format!("the log has no column for {column}"),
    })
}

/// The bad rows of a log.
pub(crate) fn bad_rows(log: &Log) -> Value {
    let shown: Vec<Value> = log
        .bad_shown
        .iter()
        .map(|bad| json!({ "line": bad.line, "reason": bad.reason, "text": bad.text }))
        .collect();
    json!({ "count": log.bad_rows, "shown": shown })
}

/// What had to be assumed to read the log at all.
pub(crate) fn reading_assumptions(log: &Log) -> Vec<String> {
    let mut found = Vec::new();
    if log.assumed_utc {
        found.push("times without an offset are taken as UTC".to_owned());
    }
    if log.cost_pico.present() > 0 {
        found.push("the logged cost is taken as US dollars".to_owned());
    }
    if log.cached.present() > 0 {
        found.push("the logged cached tokens are taken as part of the input tokens".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_text() {
        assert_eq!(thousands(18_059_974), "18,059,974");
        assert_eq!(thousands(999), "999");
        assert_eq!(usd(1_500_000), 0.000_002);
        assert_eq!(usd(-1_499_999), -0.000_001);
        assert_eq!(cut("abc\ndef", 20), "abc def");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn names_of_files() {
        assert_eq!(file_name("../a b.svg", "svg").unwrap(), "a b.svg");
        assert_eq!(file_name("größe", "csv").unwrap(), "größe.csv");
        assert_eq!(file_name("/..", "csv"), None);
    }
}
