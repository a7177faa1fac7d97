//! `sql_query`: the user's own SQL over the user's own files, as tables of a database that lives for one call.

mod cells;
mod database;
mod load;
mod source;

use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::jobs::{InputFile, Operation, operation};
use crate::output::{cut, file_name};

pub(crate) use database::{Database, MAX_FILES, MAX_QUERY_BYTES};

/// How many rows are given where nobody says, and at the most.
const ROWS: usize = 100;
const MOST_ROWS: usize = 1_000;
/// How many bytes of JSON the rows of a result may have.
const ROWS_BYTES: usize = 40_000;
/// The longest text of a row, in characters.
const CELL_CHARS: usize = 1_000;
/// The longest file that a result is saved as, in bytes.
const SAVED_BYTES: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    query: Option<String>,
    #[expect(dead_code, reason = "whoever starts the job has made inputs of them")]
    files: Option<Vec<String>>,
    max_rows: Option<usize>,
    save_as: Option<String>,
}

/// The files of a query as an argument.
pub(crate) fn files_schema() -> Value {
    json!({
        "type": "array", "maxItems": MAX_FILES,
        "items": { "type": "string", "minLength": 1, "maxLength": 255 },
        "description": "Names or ids of the files to load, each as a table: CSV, TSV, JSON lines, or a JSON array of \
            objects. Without it the files of the run.",
    })
}

/// The query as an argument.
pub(crate) fn query_schema(description: &str) -> Value {
    json!({
        "type": "string", "minLength": 1, "maxLength": MAX_QUERY_BYTES,
        "description": description,
    })
}

/// The query as a tool.
pub(crate) fn tool() -> Operation {
    let described = operation(
        "sql_query",
        "SQL over files",
        "Answers a SELECT statement (SQLite's SQL) over files of the user. Each file is a table named after it, without \
         the extension and with _ for what is neither letter nor digit; columns are named after the headers in the same \
         way. Without a query it tells the tables: names, columns with types and examples, and numbers of rows. Empty \
         cells are null. What is nested in JSON is a column of JSON text: use column ->> '$.path'.",
        &json!({
            "query": query_schema("One SELECT statement; without it the tables are told only."),
            "files": files_schema(),
            "max_rows": {
                "type": "integer", "minimum": 1, "maximum": MOST_ROWS,
                "description": "How many rows are given; 100 when absent.",
            },
            "save_as": {
                "type": "string", "minLength": 1, "maxLength": 100,
                "description": "Also stores all rows as a CSV file of this name.",
            },
        }),
        &[],
    );
    Operation {
        makes_artifact: true,
        names_files: true,
        ..described
    }
}

/// Loads the files and answers the query.
pub(crate) fn sql(
    arguments: &Arguments,
    inputs: &[InputFile],
    time: Duration,
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, Error> {
    if inputs.is_empty() && arguments.query.is_none() {
        return Err(Error::invalid("the run has no files: name some in `files`"));
    }
    let mut loading = |share: f32, words: &str| progress(share * 0.8, words);
    let database = Database::load(inputs, time, &mut loading)?;
    progress(0.8, "answering");
    let mut result = json!({});
    if let Some(query) = &arguments.query {
        let mut answer = Answer::new(arguments);
        let names = database.select(query, &mut |names, row| answer.take(names, row))?;
        result = answer.told(&names, arguments.save_as.as_deref());
    } else if arguments.save_as.is_some() {
        return Err(Error::invalid("save_as needs a query"));
    }
    result["tables"] = database.tables();
    Ok(result)
}

/// The rows that were taken so far.
struct Answer {
    most: usize,
    rows: Vec<Value>,
    bytes: usize,
    kinds: Vec<Option<&'static str>>,
    cut_cells: u64,
    truncated: bool,
    saved: Option<String>,
    saved_rows: u64,
}

impl Answer {
    fn new(arguments: &Arguments) -> Self {
        Self {
            most: arguments.max_rows.unwrap_or(ROWS).clamp(1, MOST_ROWS),
            rows: Vec::new(),
            bytes: 0,
            kinds: Vec::new(),
            cut_cells: 0,
            truncated: false,
            saved: arguments.save_as.as_ref().map(|_| String::new()),
            saved_rows: 0,
        }
    }

    /// Takes a row; false when no more are wanted.
    fn take(&mut self, names: &[String], row: &Row<'_>) -> Result<bool, Error> {
        self.kinds.resize(names.len(), None);
        self.show(names.len(), row)?;
        let Some(saved) = &mut self.saved else {
            return Ok(!self.truncated);
        };
        if self.saved_rows == 0 {
            write_record(saved, names.iter().map(String::as_str));
        }
        let cells: Vec<String> = (0..names.len())
            .map(|at| row.get_ref(at).map(plain))
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        write_record(saved, cells.iter().map(String::as_str));
        self.saved_rows += 1;
        if saved.len() > SAVED_BYTES {
            return Err(Error::invalid(format!(
                "the result has more than {SAVED_BYTES} bytes as CSV, which is the most that can be saved: take fewer \
                 rows or columns"
            )));
        }
        Ok(true)
    }

    fn show(&mut self, width: usize, row: &Row<'_>) -> Result<(), Error> {
        if self.truncated {
            return Ok(());
        }
        let mut shown = Vec::with_capacity(width);
        let mut cut_cells = 0;
        for at in 0..width {
            let found = row.get_ref(at).map_err(broken)?;
            let mut value = value(found);
            if let Value::String(text) = &mut value
                && text.chars().nth(CELL_CHARS).is_some()
            {
                *text = cut(text, CELL_CHARS).into_owned();
                cut_cells += 1;
            }
            shown.push((value, kind(found)));
        }
        let (values, kinds): (Vec<Value>, Vec<_>) = shown.into_iter().unzip();
        let values = Value::Array(values);
        let bytes = values.to_string().len();
        if self.rows.len() == self.most || self.bytes + bytes > ROWS_BYTES {
            self.truncated = true;
            return Ok(());
        }
        for (known, kind) in self.kinds.iter_mut().zip(kinds) {
            *known = joined(*known, kind);
        }
        self.bytes += bytes;
        self.cut_cells += cut_cells;
        self.rows.push(values);
        Ok(())
    }

    fn told(self, names: &[String], save_as: Option<&str>) -> Value {
        let kinds = self.kinds.iter().copied().chain(std::iter::repeat(None));
        let columns: Vec<Value> = names
            .iter()
            .zip(kinds)
            .map(|(name, kind)| json!({ "name": name, "type": kind.unwrap_or("null") }))
            .collect();
        let mut told = json!({
            "columns": columns,
            "row_count": self.rows.len(),
            "rows": self.rows,
            "truncated": self.truncated,
            "cut_cells": self.cut_cells,
        });
        if let (Some(mut content), Some(name)) = (self.saved, save_as) {
            if self.saved_rows == 0 {
                write_record(&mut content, names.iter().map(String::as_str));
            }
            told["saved_rows"] = json!(self.saved_rows);
            let name = file_name(name, "csv").unwrap_or_else(|| "result.csv".to_owned());
            told["name"] = json!(name);
            told["media_type"] = json!("text/csv");
            told["content"] = json!(content);
        }
        told
    }
}

fn broken(error: rusqlite::Error) -> Error {
    Error::internal(format!("a row cannot be read: {error}"))
}

/// A value as JSON; bytes as their hexadecimal digits.
pub(crate) fn value(found: ValueRef<'_>) -> Value {
    match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => json!(hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A value as a cell of CSV.
fn plain(found: ValueRef<'_>) -> String {
    match value(found) {
        Value::Null => String::new(),
        Value::String(text) => text,
        number => number.to_string(),
    }
}

fn kind(found: ValueRef<'_>) -> Option<&'static str> {
    match found {
        ValueRef::Null => None,
        ValueRef::Integer(_) => Some("integer"),
        ValueRef::Real(_) => Some("real"),
        ValueRef::Text(_) => Some("text"),
        ValueRef::Blob(_) => Some("hex"),
    }
}

/// The type of a column that had one type so far and now has this one.
fn joined(known: Option<&'static str>, kind: Option<&'static str>) -> Option<&'static str> {
    match (known, kind) {
        (None, kind) => kind,
        (known, None) => known,
        (Some(known), Some(kind)) if known == kind => Some(known),
        (Some("integer" | "real"), Some("integer" | "real")) => Some("real"),
        _ => Some("mixed"),
    }
}

/// A row of CSV as RFC 4180 has it.
fn write_record<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(',');
        }
        if cell.contains(['"', ',', '\n', '\r']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(cell);
        }
    }
    out.push_str("\r\n");
}
