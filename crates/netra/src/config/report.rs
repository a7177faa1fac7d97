//! What is in force, and where each value comes from.

use std::fmt;

use figment::value::Value;
use figment::{Figment, Provider as _};
use serde::Serialize;

use super::Error;
use super::catalogue::Key;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Source(String);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One key that is in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// With dots.
    pub key: String,
    /// Null where it is unset; `"…"` where it is secret.
    pub value: serde_json::Value,
    /// The layer that it comes from.
    pub source: Source,
    /// What it does.
    pub meaning: &'static str,
}

/// Everything that is no table, and empty tables, with its path.
pub(super) fn leaves(figment: &Figment) -> Result<Vec<(String, Value)>, Error> {
    let mut leaves = Vec::new();
    for dict in figment.data()?.into_values() {
        for (name, value) in dict {
            walk(name, value, &mut leaves);
        }
    }
    Ok(leaves)
}

fn walk(path: String, value: Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Dict(_, dict) if !dict.is_empty() => {
            for (name, value) in dict {
                walk(format!("{path}.{name}"), value, leaves);
            }
        }
        value => leaves.push((path, value)),
    }
}

pub(super) fn source_of(figment: &Figment, value: &Value) -> Source {
    let Some(metadata) = figment.get_metadata(value.tag()) else {
        return Source("default".into());
    };
    Source(match &metadata.source {
        Some(figment::Source::File(path)) => format!("file {}", path.display()),
        _ => metadata.name.to_string(),
    })
}

pub(super) fn settings(figment: &Figment) -> Result<Vec<Setting>, Error> {
    let mut settings = Vec::new();
    for (path, value) in leaves(figment)? {
        let Some(key) = Key::find(&path) else {
            continue;
        };
        let source = source_of(figment, &value);
        let value = match serde_json::to_value(&value) {
            Ok(serde_json::Value::Null) => serde_json::Value::Null,
            Ok(_) if key.secret => "…".into(),
            Ok(value) => value,
            Err(error) => return Err(Error::Invalid(format!("{path}: {error}"))),
        };
        settings.push((
            place(key),
            Setting {
                key: path,
                value,
                source,
                meaning: key.meaning,
            },
        ));
    }
    settings.sort_by(|(a, left), (b, right)| a.cmp(b).then_with(|| left.key.cmp(&right.key)));
    Ok(settings.into_iter().map(|(_, setting)| setting).collect())
}

fn place(key: &Key) -> usize {
    super::CATALOGUE
        .iter()
        .position(|other| other.path == key.path)
        .unwrap_or(usize::MAX)
}
