//! What the cells of a file are to a database: kinds of values, and names that need no quotes.

use std::collections::HashSet;

use rusqlite::Statement;
use rusqlite::types::Null;
use serde_json::Value;

use crate::output::cut;

/// Beyond this a whole number has no exact neighbour among the decimal ones.
const EXACT: u64 = 1 << 53;
/// The longest name of a table or column, in characters.
const NAME_CHARS: usize = 60;

/// What a value is. Of a column it is the greatest of its values: whole numbers with a decimal one among them are
/// decimal, and anything with a text among it is text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Kind {
    #[default]
    Null,
    Integer,
    Real,
    Text,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Text => "text",
        }
    }
}

/// A value as the file has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    /// Of a table: only its looks tell what it is.
    Plain(&'a str),
    /// Of an object, which says what it is.
    Json(&'a Value),
}

impl Cell<'_> {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Plain(text) => kind_of(text.trim()),
            Self::Json(Value::Null) => Kind::Null,
            Self::Json(Value::Bool(_)) => Kind::Integer,
            Self::Json(Value::Number(number)) if number.is_i64() => Kind::Integer,
            Self::Json(Value::Number(number)) if number.is_f64() => Kind::Real,
            Self::Json(_) => Kind::Text,
        }
    }

    /// Whether it is a whole number that a decimal one cannot hold exactly.
    pub(super) fn is_wide(self) -> bool {
        self.integer().is_some_and(|n| n.unsigned_abs() > EXACT)
    }

    /// As it is shown and as it stands in a column of texts. What is nested stays JSON.
    pub(super) fn text(self) -> String {
        match self {
            Self::Plain(text) => text.to_owned(),
            Self::Json(Value::String(text)) => text.clone(),
            Self::Json(value) => value.to_string(),
        }
    }

    fn integer(self) -> Option<i64> {
        match self {
            Self::Plain(text) => text.trim().parse().ok(),
            Self::Json(Value::Bool(flag)) => Some(i64::from(*flag)),
            Self::Json(value) => value.as_i64(),
        }
    }

    fn real(self) -> Option<f64> {
        match self {
            Self::Plain(text) => text.trim().parse().ok(),
            Self::Json(Value::Bool(flag)) => Some(f64::from(u8::from(*flag))),
            Self::Json(value) => value.as_f64(),
        }
    }

    /// Gives it to a statement as a value of its column.
    pub(super) fn bind(
        self,
        statement: &mut Statement<'_>,
        at: usize,
        column: Kind,
    ) -> rusqlite::Result<()> {
        match (column, self) {
            _ if self.kind() == Kind::Null => statement.raw_bind_parameter(at, Null),
            (Kind::Null, _) => statement.raw_bind_parameter(at, Null),
            (Kind::Integer, cell) => statement.raw_bind_parameter(at, cell.integer()),
            (Kind::Real, cell) => statement.raw_bind_parameter(at, cell.real()),
            (Kind::Text, Cell::Plain(text)) => statement.raw_bind_parameter(at, text),
            (Kind::Text, cell) => statement.raw_bind_parameter(at, cell.text()),
        }
    }
}

/// What a cell of a table looks like. A number that would lose something as a number is a text: `007`, and digits
/// beyond 64 bits.
fn kind_of(text: &str) -> Kind {
    if text.is_empty() {
        return Kind::Null;
    }
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let leading_zero = matches!(unsigned, [b'0', second, ..] if second.is_ascii_digit());
    let number = matches!(unsigned, [first, ..] if first.is_ascii_digit() || *first == b'.');
    if !number || leading_zero {
        return Kind::Text;
    }
    if unsigned.iter().all(u8::is_ascii_digit) {
        return text.parse::<i64>().map_or(Kind::Text, |_| Kind::Integer);
    }
    let spelled = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
    let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
    if unsigned.iter().all(spelled) && finite {
        Kind::Real
    } else {
        Kind::Text
    }
}

/// Names that need no quotes and are all different, whatever the case: letters, digits and underscores of the texts
/// that the file has. What is empty gets the name of its place.
pub(super) fn names<'a>(texts: impl Iterator<Item = &'a str>, of_place: &str) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |(index, text): (usize, &str)| {
        let base = match name(text) {
            empty if empty.is_empty() => format!("{of_place}_{}", index + 1),
            name => name,
        };
        let mut found = base.clone();
        let mut number = 1;
        while !taken.insert(found.to_lowercase()) {
            number += 1;
            found = format!("{base}_{number}");
        }
        found
    };
    texts.enumerate().map(name).collect()
}

fn name(text: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name: String = cut(text.trim(), NAME_CHARS).chars().map(plain).collect();
    let name = name.trim_matches('_');
    // What begins with this is SQLite's own.
    let reserved = name.to_ascii_lowercase().starts_with("sqlite_");
    if reserved || name.starts_with(|first: char| first.is_numeric()) {
        format!("_{name}")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_cell_looks_like() {
        for (kind, texts) in [
            (Kind::Null, &["", "  "][..]),
            (Kind::Integer, &["0", "-12", " 7 ", "9223372036854775807"]),
            (Kind::Real, &["0.5", "-.5", "1e5", "3.", "-0.0"]),
            (
                Kind::Text,
                &[
                    "007",
                    "-01",
                    "9223372036854775808",
                    "1e999",
                    "NaN",
                    "inf",
                    "-",
                    ".",
                    "1,5",
                    "+5",
                    "0x1f",
                    "2023-11-16",
                    "1 000",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(Cell::Plain(text).kind(), kind, "{text:?}");
            }
        }
        for (kind, value) in [
            (Kind::Null, json!(null)),
            (Kind::Integer, json!(true)),
            (Kind::Integer, json!(-3)),
            (Kind::Real, json!(2.0)),
            (Kind::Text, json!(u64::MAX)),
            (Kind::Text, json!("5")),
            (Kind::Text, json!(["a", 1])),
        ] {
            assert_eq!(Cell::Json(&value).kind(), kind, "{value}");
        }
        assert!(Cell::Plain("9007199254740993").is_wide());
        assert!(!Cell::Plain("9007199254740992").is_wide());
    }

    #[test]
    fn names_need_no_quotes_and_differ() {
        let texts = [
            "a b",
            "A_b",
            "",
            "2023",
            "gen_ai.tokens",
            "größe",
            "a-b_2",
            "\"; --",
            "SQLite_master",
        ];
        let expected = [
            "a_b",
            "A_b_2",
            "column_3",
            "_2023",
            "gen_ai_tokens",
            "größe",
            "a_b_2_2",
            "column_8",
            "_SQLite_master",
        ];
        assert_eq!(names(texts.into_iter(), "column"), expected);
    }
}
