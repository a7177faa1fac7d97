//! Objects of a JSON lines file, flattened to header and text, with the spellings of OpenTelemetry exporters.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::columns::{self, Column};

/// How deep objects are followed.
const MAX_DEPTH: usize = 8;
/// The most fields of one row; more are ignored.
const MAX_FIELDS: usize = 512;

/// One request: path of the field and its text. An empty text stands for `null`.
pub(crate) type Fields = Vec<(String, String)>;

/// The requests in one line. A line of an OTLP export holds many spans, every other line holds one object.
pub(crate) fn rows(line: &[u8]) -> Result<Vec<Fields>, String> {
    rows_of(serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?)
}

/// The requests in one object.
pub(crate) fn rows_of(value: Value) -> Result<Vec<Fields>, String> {
    let Value::Object(object) = value else {
        return Err("not a JSON object".to_owned());
    };
    let Some(resources) = object.get("resourceSpans").and_then(Value::as_array) else {
        return Ok(vec![flatten(&object)]);
    };
    let mut found = Vec::new();
    for resource in resources {
        for scope in array(resource, "scopeSpans") {
            for span in array(scope, "spans") {
                if let Value::Object(span) = span {
                    found.push(flatten(span));
                }
            }
        }
    }
    Ok(found)
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn flatten(object: &Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    walk(object, "", 0, &mut fields);
    fields
}

/// Attributes keep the names of their own (`gen_ai.usage.input_tokens`), whatever object holds them.
fn walk(object: &Map<String, Value>, prefix: &str, depth: usize, fields: &mut Fields) {
    for (key, value) in object {
        if fields.len() >= MAX_FIELDS {
            return;
        }
        let holder = depth == 0 && matches!(key.as_str(), "attributes" | "span" | "usage");
        let path = match (holder, prefix.is_empty()) {
            (true, _) => String::new(),
            (false, true) => key.clone(),
            (false, false) => format!("{prefix}.{key}"),
        };
        match value {
            Value::Object(inner) if depth < MAX_DEPTH => walk(inner, &path, depth + 1, fields),
            Value::Array(items) if holder => attribute_list(items, fields),
            // A conversation is a list of messages; its text tells what repeats.
            Value::Array(_) if columns::is_prompt(&path) => fields.push((path, value.to_string())),
            Value::Object(_) | Value::Array(_) => {}
            scalar => fields.push((if holder { key.clone() } else { path }, text(scalar))),
        }
    }
}

/// OTLP writes attributes as `{"key": k, "value": {"intValue": "1"}}`.
fn attribute_list(items: &[Value], fields: &mut Fields) {
    for item in items {
        if fields.len() >= MAX_FIELDS {
            return;
        }
        let Some(key) = item.get("key").and_then(Value::as_str) else {
            continue;
        };
        let scalar = match item.get("value") {
            Some(Value::Object(typed)) => typed.values().next(),
            other => other,
        };
        match scalar {
            Some(Value::Object(_) | Value::Array(_)) if columns::is_prompt(key) => {
                fields.push((
                    key.to_owned(),
                    scalar.map(Value::to_string).unwrap_or_default(),
                ));
            }
            Some(Value::Object(_) | Value::Array(_)) | None => {}
            Some(scalar) => fields.push((key.to_owned(), text(scalar))),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) | Value::Array(_) => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
    }
}

/// The headers that a JSON lines file has shown so far, each with its column, which is looked up only once.
#[derive(Default)]
pub(crate) struct Headers {
    columns: HashMap<String, Option<(Column, u8)>>,
    /// In order of appearance.
    pub(crate) names: Vec<String>,
}

impl Headers {
    /// The most headers that are remembered; further ones are read but not listed.
    const MAX: usize = 512;

    /// The column of a header and its rank among the headers of that column.
    pub(crate) fn column(&mut self, name: &str) -> Option<(Column, u8)> {
        if let Some(column) = self.columns.get(name) {
            return *column;
        }
        let column = columns::column_of(name);
        if self.names.len() < Self::MAX {
            self.columns.insert(name.to_owned(), column);
            self.names.push(name.to_owned());
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(fields: &Fields, name: &str) -> String {
        fields
            .iter()
            .find(|(path, _)| path == name)
            .unwrap()
            .1
            .clone()
    }

    #[test]
    fn attributes_are_found_flat_nested_and_as_a_list() {
        for line in [
            r#"{"gen_ai.usage.input_tokens": 12, "start_time": "t"}"#,
            r#"{"attributes": {"gen_ai.usage.input_tokens": 12}, "start_time": "t"}"#,
            r#"{"attributes": {"gen_ai": {"usage": {"input_tokens": 12}}}, "start_time": "t"}"#,
            r#"{"attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}}], "start_time": "t"}"#,
            r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"start_time": "t", "attributes":
                [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": 12}}]}]}]}]}"#,
        ] {
            let found = rows(line.as_bytes()).unwrap();
            assert_eq!(found.len(), 1, "{line}");
            assert_eq!(find(&found[0], "gen_ai.usage.input_tokens"), "12", "{line}");
            assert_eq!(find(&found[0], "start_time"), "t", "{line}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(rows(b"[1]").is_err());
        assert!(rows(b"{\"a\":").is_err());
        assert!(
            rows("[".repeat(100_000).as_bytes()).is_err(),
            "no stack overflow"
        );
    }
}
