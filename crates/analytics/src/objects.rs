//! Logs of JSON objects: one in each line, the items of one array, or objects over several lines.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::Value;

use crate::columns::{self, COUNT, Column, Kind, Mapped};
use crate::error::Error;
use crate::json_rows::{self, Fields, Headers};
use crate::log::Log;
use crate::output::cut;
use crate::read::{Cells, FIRST_CELLS, FIRST_ROWS, SHOWN_CHARS, take};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Takes the rows of one line or item; `raw` is its text.
pub(crate) fn take_all(
    log: &mut Log,
    line: u64,
    rows: &[Fields],
    raw: Option<&Vec<u8>>,
    headers: &mut Headers,
) -> Result<(), Error> {
    let raw = raw.filter(|_| rows.len() == 1);
    rows.iter()
        .try_for_each(|fields| take_one(log, line, fields, raw, headers))
}

/// Takes one object; `raw` is its line when the line holds nothing else.
fn take_one(
    log: &mut Log,
    line: u64,
    fields: &Fields,
    raw: Option<&Vec<u8>>,
    headers: &mut Headers,
) -> Result<(), Error> {
    let mut cells: Cells<'_> = Default::default();
    let mut ranks = [u8::MAX; COUNT];
    for (path, text) in fields {
        if let Some((column, rank)) = headers.column(path)
            && rank < ranks[column as usize]
            && !text.is_empty()
        {
            ranks[column as usize] = rank;
            cells[column as usize] = Some(Cow::Borrowed(text));
        }
    }
    let wanted = [Column::Model, Column::InputTokens, Column::OutputTokens];
    if wanted
        .iter()
        .all(|column| cells[*column as usize].is_none())
    {
        log.other_rows += 1;
        return Ok(());
    }
    if log.first_rows.len() < FIRST_ROWS {
        let shown = fields.iter().take(FIRST_CELLS);
        let row = shown.map(|(path, text)| {
            (
                cut(path, SHOWN_CHARS).into_owned(),
                cut(text, SHOWN_CHARS).into_owned(),
            )
        });
        log.first_rows.push(row.collect());
    }
    match raw {
        Some(raw) => take(log, line, &cells, raw),
        None => take(log, line, &cells, format!("{fields:?}").as_bytes()),
    }
}

/// Tells what the file is and which of its headers are known, once all are seen.
pub(crate) fn map(log: &mut Log, headers: &Headers) {
    log.kind = Kind::of(headers.names.iter().map(String::as_str));
    log.headers = object_headers(&headers.names);
}

/// The headers of JSON lines: the best of a column is used in each object, so all of them count as mapped.
fn object_headers(names: &[String]) -> Vec<Mapped> {
    names
        .iter()
        .map(|name| {
            let column = columns::column_of(name).map(|(column, _)| column);
            let reason = if column.is_some() {
                ""
            } else {
                columns::reason_unmapped(name)
            };
            Mapped {
                header: cut(name, SHOWN_CHARS).into_owned(),
                column,
                reason,
            }
        })
        .collect()
}

/// Reads the items of one array, or objects that stand one after the other over several lines. Each is taken before the next
/// is read; a single one has to fit the worker's memory.
pub(crate) fn documents<R: BufRead>(
    log: &mut Log,
    mut source: R,
    array: bool,
    most: u64,
) -> Result<(), Error> {
    let name = log.file.clone();
    let head = source
        .fill_buf()
        .map_err(|error| crate::read::failed(&name, &error))?;
    if head.starts_with(BYTE_ORDER_MARK) {
        source.consume(BYTE_ORDER_MARK.len());
    }
    let mut headers = Headers::default();
    let mut refused = None;
    let mut items = Items {
        log,
        headers: &mut headers,
        place: 0,
        most,
        refused: &mut refused,
    };
    let mut json = serde_json::Deserializer::from_reader(source);
    let outcome = match array {
        true => json.deserialize_seq(&mut items),
        false => json
            .into_iter::<Value>()
            .try_for_each(|value| items.one(value?)),
    };
    match (refused, outcome) {
        (Some(Stopped::Full), _) | (None, Ok(())) => {}
        (Some(Stopped::Refused(error)), _) => return Err(error),
        // What came before a broken end is good: a log may be cut off while it is written.
        (None, Err(error)) => {
            log.push_bad(log.records() + 1, format!("not whole JSON: {error}"), b"")
        }
    }
    map(log, &headers);
    Ok(())
}

/// Why the reading ended before the file did.
enum Stopped {
    Full,
    Refused(Error),
}

struct Items<'a> {
    log: &'a mut Log,
    headers: &'a mut Headers,
    place: u64,
    most: u64,
    refused: &'a mut Option<Stopped>,
}

impl Items<'_> {
    fn one(&mut self, value: Value) -> serde_json::Result<()> {
        self.place += 1;
        if self.log.records() >= self.most {
            self.log.complete = false;
            *self.refused = Some(Stopped::Full);
            return Err(serde_json::Error::custom("stopped"));
        }
        match json_rows::rows_of(value) {
            Ok(rows) => {
                take_all(self.log, self.place, &rows, None, self.headers).map_err(|error| {
                    *self.refused = Some(Stopped::Refused(error));
                    serde_json::Error::custom("stopped")
                })
            }
            Err(reason) => {
                self.log.push_bad(self.place, reason, b"");
                Ok(())
            }
        }
    }
}

impl<'de> Visitor<'de> for &mut Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(value) = items.next_element::<Value>()? {
            self.one(value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
