//! The records of a file, one at a time, as often as they are wanted: tables, JSON lines and arrays of objects.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::jobs::InputFile;
use crate::lines::Lines;
use crate::output::cut;
use crate::read::{self, Form, HEAD_BYTES, failed};
use crate::table::{Splitter, sniff_delimiter};

/// How many of the records that cannot be read are shown.
const SHOWN: usize = 3;
/// How much of the reason for it, in characters.
const REASON_CHARS: usize = 120;
const BUFFER_BYTES: usize = 1 << 17;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a file holds.
pub(super) enum Record<'a> {
    /// The cells of the first row, which name the columns.
    Header(&'a Splitter),
    /// A row with as many cells as the header.
    Row(&'a Splitter),
    Object(&'a Map<String, Value>),
}

/// Records that could not be read.
#[derive(Default)]
pub(super) struct Skipped {
    count: u64,
    shown: Vec<(u64, String)>,
}

impl Skipped {
    fn add(&mut self, place: u64, reason: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown
                .push((place, cut(reason, REASON_CHARS).into_owned()));
        }
    }

    /// Why the first one was skipped, where one was.
    pub(super) fn first(&self) -> Option<String> {
        let (place, reason) = self.shown.first()?;
        Some(format!("record {place}: {reason}"))
    }

    pub(super) fn told(&self) -> Value {
        let shown = self.shown.iter();
        let shown: Vec<Value> = shown
            .map(|(place, reason)| json!({ "line": place, "reason": reason }))
            .collect();
        json!({ "count": self.count, "shown": shown })
    }
}

type Visit<'a> = dyn FnMut(Record<'_>) -> Result<(), Error> + 'a;

/// A file of which the form is known.
pub(super) struct Source<'a> {
    input: &'a InputFile,
    form: Form,
    bytes: u64,
}

impl<'a> Source<'a> {
    pub(super) fn of(input: &'a InputFile) -> Result<Self, Error> {
        let broken = |error: std::io::Error| failed(&input.name, &error);
        let file = File::open(&input.path).map_err(broken)?;
        let bytes = file.metadata().map_err(broken)?.len();
        let mut reader = BufReader::with_capacity(HEAD_BYTES, file);
        let head = reader.fill_buf().map_err(broken)?;
        let form = read::form(&input.name, head)?;
        Ok(Self { input, form, bytes })
    }

    /// Shows every record that can be read, with the share of the file that is read by then; gives those that cannot.
    pub(super) fn read(
        &self,
        progress: &mut dyn FnMut(f32),
        visit: &mut Visit<'_>,
    ) -> Result<Skipped, Error> {
        let file = File::open(&self.input.path);
        let file = file.map_err(|error| failed(&self.input.name, &error))?;
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        match self.form {
            Form::Table => self.rows(Lines::new(reader), progress, visit),
            Form::JsonLines => self.objects(Lines::new(reader), progress, visit),
            Form::JsonArray => self.items(reader, visit),
            Form::JsonDocument => self.documents(reader, visit),
        }
    }

    fn share(&self, lines: &Lines<BufReader<File>>) -> f32 {
        (lines.consumed() as f32 / self.bytes.max(1) as f32).min(1.0)
    }

    fn rows(
        &self,
        mut lines: Lines<BufReader<File>>,
        progress: &mut dyn FnMut(f32),
        visit: &mut Visit<'_>,
    ) -> Result<Skipped, Error> {
        let broken = |error: std::io::Error| failed(&self.input.name, &error);
        let mut skipped = Skipped::default();
        let Some(delimiter) = delimiter(&mut lines).map_err(broken)? else {
            return Ok(skipped);
        };
        let mut splitter = Splitter::new(delimiter);
        let mut width = None;
        while let Some(record) = splitter.next(&mut lines).map_err(broken)? {
            let found = splitter.cells().len();
            match (record.problem, width) {
                (Some(problem), None) => {
                    return Err(Error::unreadable(format!(
                        "the header of {} cannot be read: {problem}",
                        self.input.name
                    )));
                }
                (Some(problem), Some(_)) => skipped.add(record.line, problem),
                (None, None) => {
                    width = Some(found);
                    visit(Record::Header(&splitter))?;
                }
                (None, Some(width)) if found != width => {
                    let reason = format!("{found} cells where the header has {width}");
                    skipped.add(record.line, &reason);
                }
                (None, Some(_)) => visit(Record::Row(&splitter))?,
            }
            if record.line.is_multiple_of(1 << 14) {
                progress(self.share(&lines));
            }
            lines.recycle(record.into_line());
        }
        Ok(skipped)
    }

    fn objects(
        &self,
        mut lines: Lines<BufReader<File>>,
        progress: &mut dyn FnMut(f32),
        visit: &mut Visit<'_>,
    ) -> Result<Skipped, Error> {
        let mut skipped = Skipped::default();
        while let Some(line) = lines
            .next()
            .map_err(|error| failed(&self.input.name, &error))?
        {
            if line.too_long {
                skipped.add(line.number, "the line is longer than 1 MiB");
            } else if !line.bytes.iter().all(u8::is_ascii_whitespace) {
                match serde_json::from_slice(&line.bytes) {
                    Ok(value) => object(&value, line.number, &mut skipped, visit)?,
                    Err(error) => skipped.add(line.number, &format!("not JSON: {error}")),
                }
            }
            if line.number.is_multiple_of(1 << 14) {
                progress(self.share(&lines));
            }
            lines.recycle(line);
        }
        Ok(skipped)
    }

    /// Objects over several lines, one after the other. What follows a broken one is not read.
    fn documents(&self, reader: BufReader<File>, visit: &mut Visit<'_>) -> Result<Skipped, Error> {
        let mut skipped = Skipped::default();
        let values = serde_json::Deserializer::from_reader(after_mark(reader, &self.input.name)?);
        for (place, value) in (1..).zip(values.into_iter::<Value>()) {
            match value {
                Ok(value) => object(&value, place, &mut skipped, visit)?,
                Err(error) => {
                    skipped.add(place, &format!("not JSON: {error}"));
                    break;
                }
            }
        }
        Ok(skipped)
    }

    fn items(&self, reader: BufReader<File>, visit: &mut Visit<'_>) -> Result<Skipped, Error> {
        let reader = after_mark(reader, &self.input.name)?;
        let mut items = Items {
            visit,
            skipped: Skipped::default(),
            refused: None,
        };
        let mut json = serde_json::Deserializer::from_reader(reader);
        let outcome = json.deserialize_seq(&mut items).and_then(|()| json.end());
        match (items.refused, outcome) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(items.skipped),
            (None, Err(error)) => Err(Error::unreadable(format!(
                "{} is no whole JSON array: {error}",
                self.input.name
            ))),
        }
    }
}

/// The file without a byte order mark at its start.
fn after_mark(mut reader: BufReader<File>, name: &str) -> Result<BufReader<File>, Error> {
    let head = reader.fill_buf().map_err(|error| failed(name, &error))?;
    if head.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(reader)
}

/// The delimiter of the first line that is not blank; none where there is no such line.
fn delimiter(lines: &mut Lines<BufReader<File>>) -> std::io::Result<Option<u8>> {
    while let Some(line) = lines.next()? {
        if !line.bytes.iter().all(u8::is_ascii_whitespace) {
            let delimiter = sniff_delimiter(&line.bytes);
            lines.put_back(line);
            return Ok(Some(delimiter));
        }
    }
    Ok(None)
}

fn object(
    value: &Value,
    place: u64,
    skipped: &mut Skipped,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    match value {
        Value::Object(object) => visit(Record::Object(object)),
        _ => {
            skipped.add(place, "not a JSON object");
            Ok(())
        }
    }
}

/// The items of an array, each given away before the next is read.
struct Items<'a, 'v> {
    visit: &'a mut Visit<'v>,
    skipped: Skipped,
    refused: Option<Error>,
}

impl<'de> Visitor<'de> for &mut Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut place = 0;
        while let Some(value) = items.next_element::<Value>()? {
            place += 1;
            if let Err(error) = object(&value, place, &mut self.skipped, self.visit) {
                self.refused = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
