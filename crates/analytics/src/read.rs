//! Reading a file into a log: what it is, its headers, its rows, and every row that cannot be read with its reason.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::de::IgnoredAny;

use crate::columnar;
use crate::columns::{self, COUNT, Column, Kind};
use crate::error::Error;
use crate::lines::Lines;
use crate::log::{Log, Row};
use crate::output::cut;
use crate::prompts::Prompt;
use crate::table::{Splitter, sniff_delimiter};
use crate::times;
use crate::{json_rows, objects};

/// How much of the file's start is looked at to tell what it is. In bytes.
pub(crate) const HEAD_BYTES: usize = 8 << 10;
/// How many rows are kept as text, to be shown.
pub(crate) const FIRST_ROWS: usize = 5;
/// How many cells of a shown row.
pub(crate) const FIRST_CELLS: usize = 16;
/// The longest header that is kept, and the longest cell that is shown, in characters.
pub(crate) const SHOWN_CHARS: usize = 60;
/// Progress is told after so many records.
pub(crate) const PROGRESS_EVERY: u64 = 1 << 15;

/// Hears how far the reading is, 0 to 1.
pub(crate) type Progress<'a> = dyn FnMut(f32, &str) + 'a;

/// Reads the file `path`, called `name` in messages. `max_records` ends the reading early.
pub(crate) fn open(
    name: &str,
    path: &Path,
    max_records: Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<Log, Error> {
    let file = File::open(path).map_err(|error| failed(name, &error))?;
    let bytes = file.metadata().map_err(|error| failed(name, &error))?.len();
    let mut source = BufReader::with_capacity(1 << 17, file);
    let head = source.fill_buf().map_err(|error| failed(name, &error))?;
    if head.starts_with(columnar::MAGIC) {
        return columnar::read(name, source.into_inner(), bytes, max_records, progress);
    }
    read(name, bytes, source, max_records, progress)
}

pub(crate) fn failed(name: &str, error: &io::Error) -> Error {
    Error::unreadable(format!("{name} cannot be read: {}", error.kind()))
}

/// Reads a log from any source of bytes.
pub(crate) fn read<R: BufRead>(
    name: &str,
    bytes: u64,
    mut source: R,
    max_records: Option<u64>,
    progress: &mut Progress<'_>,
) -> Result<Log, Error> {
    let head = source.fill_buf().map_err(|error| failed(name, &error))?;
    let head = &head[..head.len().min(HEAD_BYTES)];
    let form = form(name, head)?;
    let most = max_records.unwrap_or(u64::MAX);
    let (format, json) = match form {
        Form::Table => ("csv", false),
        Form::JsonLines => ("jsonl", true),
        Form::JsonArray | Form::JsonDocument => {
            let mut log = Log::new(name, bytes, "json");
            objects::documents(&mut log, source, form == Form::JsonArray, most)?;
            log.finish();
            return Ok(log);
        }
    };
    let mut reading = Reading {
        log: Log::new(name, bytes, format),
        lines: Lines::new(source),
        max_records: most,
        progress,
    };
    if json {
        reading.objects()?
    } else {
        reading.table()?
    }
    reading.log.finish();
    Ok(reading.log)
}

/// How the records of a text file stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A header and rows, with some delimiter.
    Table,
    /// One object in each line.
    JsonLines,
    /// One array of objects.
    JsonArray,
    /// One object over several lines, or several such.
    JsonDocument,
}

fn refused(name: &str, what: &str) -> Error {
    Error::unreadable(format!(
        "{name} is {what}; bring it as CSV or JSON lines in UTF-8"
    ))
}

/// The form of a file, by the first bytes of it; an error for what has none of them.
pub(crate) fn form(name: &str, head: &[u8]) -> Result<Form, Error> {
    let refuse = |what: &str| Err(refused(name, what));
    let known: [(&[u8], &str); 8] = [
        (b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        (b"\x1F\x8B", "gzip data"),
        (b"\x28\xB5\x2F\xFD", "zstd data"),
        (b"PAR1", "a Parquet file"),
        (b"%PDF", "a PDF document"),
        (b"\x89PNG", "a picture"),
        (b"\xFF\xFE", "text in UTF-16"),
        (b"\xFE\xFF", "text in UTF-16"),
    ];
    if let Some((_, what)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return refuse(what);
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let control = text
        .iter()
        .filter(|b| **b < 9 || (14..32).contains(*b))
        .count();
    if text.contains(&0) || control * 20 > text.len() {
        return refuse("binary data and not text");
    }
    match text.iter().find(|b| !b.is_ascii_whitespace()) {
        None if text.is_empty() => Err(Error::unreadable(format!("{name} is empty"))),
        None => Err(Error::unreadable(format!(
            "{name} holds nothing but blank space"
        ))),
        Some(b'[') => Ok(Form::JsonArray),
        Some(b'{') if goes_on(text) => Ok(Form::JsonDocument),
        Some(b'{') => Ok(Form::JsonLines),
        Some(_) => Ok(Form::Table),
    }
}

/// Whether the first object goes on over several lines, and is no line that was cut off before whole ones. A line of which
/// the end is not seen is taken as a whole one.
fn goes_on(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let Some(end) = text.iter().position(|b| *b == b'\n') else {
        return false;
    };
    let object = |line: &[u8]| serde_json::from_slice::<IgnoredAny>(line);
    let next = text[end..].trim_ascii_start();
    let next = next.split(|b| *b == b'\n').next().unwrap_or_default();
    let whole = next.starts_with(b"{") && object(next).is_ok();
    !whole && object(&text[..end]).is_err_and(|error| error.is_eof())
}

struct Reading<'a, 'p, R> {
    log: Log,
    lines: Lines<R>,
    max_records: u64,
    progress: &'a mut Progress<'p>,
}

/// The cells of a row by their column.
pub(crate) type Cells<'a> = [Option<Cow<'a, str>>; COUNT];

impl<R: BufRead> Reading<'_, '_, R> {
    fn table(&mut self) -> Result<(), Error> {
        let name = self.log.file.clone();
        let broken = |error: io::Error| failed(&name, &error);
        let first = loop {
            match self.lines.next().map_err(broken)? {
                Some(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => break line,
                None => {
                    return Err(Error::unreadable(format!(
                        "{name} holds nothing but blank space"
                    )));
                }
            }
        };
        let delimiter = sniff_delimiter(&first.bytes);
        self.lines.put_back(first);
        let mut splitter = Splitter::new(delimiter);
        let header = splitter.next(&mut self.lines).map_err(broken)?;
        if let Some(problem) = header.as_ref().and_then(|record| record.problem) {
            return Err(Error::unreadable(format!(
                "the header of {name} cannot be read: {problem}"
            )));
        }
        let headers: Vec<String> = splitter
            .cells()
            .map(|cell| cut(cell.trim(), SHOWN_CHARS).into_owned())
            .collect();
        self.log.delimiter = Some(char::from(delimiter));
        self.log.kind = Kind::of(headers.iter().map(String::as_str));
        self.log.headers = columns::map_headers(&headers);
        let map: Vec<Option<Column>> = self.log.headers.iter().map(|h| h.column).collect();
        while let Some(record) = splitter.next(&mut self.lines).map_err(broken)? {
            if self.full() {
                break;
            }
            self.table_row(&record, &splitter, &map)?;
            self.lines.recycle(record.into_line());
        }
        Ok(())
    }

    fn table_row(
        &mut self,
        record: &crate::table::Record,
        splitter: &Splitter,
        map: &[Option<Column>],
    ) -> Result<(), Error> {
        if let Some(problem) = record.problem {
            self.log
                .push_bad(record.line, problem.to_owned(), &record.raw);
            return Ok(());
        }
        let found = splitter.cells().len();
        if found != map.len() {
            let reason = format!("{found} cells where the header has {}", map.len());
            self.log.push_bad(record.line, reason, &record.raw);
            return Ok(());
        }
        if self.log.first_rows.len() < FIRST_ROWS {
            let shown = self
                .log
                .headers
                .iter()
                .zip(splitter.cells())
                .take(FIRST_CELLS);
            let row =
                shown.map(|(h, cell)| (h.header.clone(), cut(&cell, SHOWN_CHARS).into_owned()));
            let row = row.collect();
            self.log.first_rows.push(row);
        }
        let mut cells: Cells<'_> = Default::default();
        for (column, cell) in map.iter().zip(splitter.cells()) {
            if let Some(column) = column {
                cells[*column as usize] = Some(cell);
            }
        }
        take(&mut self.log, record.line, &cells, &record.raw)
    }

    fn objects(&mut self) -> Result<(), Error> {
        let name = self.log.file.clone();
        let mut headers = json_rows::Headers::default();
        while let Some(line) = self.lines.next().map_err(|error| failed(&name, &error))? {
            if self.full() {
                break;
            }
            if line.too_long {
                let reason = "the line is longer than 1 MiB".to_owned();
                self.log.push_bad(line.number, reason, &line.bytes);
            } else if !line.bytes.iter().all(u8::is_ascii_whitespace) {
                match json_rows::rows(&line.bytes) {
                    Ok(rows) => objects::take_all(
                        &mut self.log,
                        line.number,
                        &rows,
                        Some(&line.bytes),
                        &mut headers,
                    )?,
                    Err(reason) => self.log.push_bad(line.number, reason, &line.bytes),
                }
            }
            self.lines.recycle(line);
        }
        objects::map(&mut self.log, &headers);
        Ok(())
    }

    /// Whether enough was read; tells the progress on the way.
    fn full(&mut self) -> bool {
        let records = self.log.records();
        if records >= self.max_records {
            self.log.complete = false;
            return true;
        }
        if records.is_multiple_of(PROGRESS_EVERY) && self.log.bytes > 0 {
            let part = self.lines.consumed() as f32 / self.log.bytes as f32;
            (self.progress)(part.min(1.0), "reading");
        }
        false
    }
}

/// Takes a row by its cells, or counts it as bad.
pub(crate) fn take(log: &mut Log, line: u64, cells: &Cells<'_>, raw: &[u8]) -> Result<(), Error> {
    let kept = log.base;
    match parse(cells, log) {
        Ok(row) => log.push(&row, raw),
        Err(reason) => {
            log.base = kept;
            log.push_bad(line, reason, raw);
            Ok(())
        }
    }
}

/// Reads the cells of a row. The first time decides what the times of the log count from.
fn parse<'a>(cells: &'a Cells<'_>, log: &mut Log) -> Result<Row<'a>, String> {
    let text = |column: Column| {
        cells[column as usize]
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let count = |column: Column| text(column).map(|t| whole(column, t)).transpose();
    let mut row = Row {
        input: count(Column::InputTokens)?,
        output: count(Column::OutputTokens)?,
        cached: count(Column::CachedInputTokens)?,
        requests: count(Column::Requests)?,
        model: text(Column::Model),
        user: text(Column::User),
        cache_hit: text(Column::CacheHit).and_then(flag),
        prompt: Prompt {
            // Not trimmed: blanks are tokens too.
            text: cells[Column::Prompt as usize]
                .as_deref()
                .filter(|text| !text.is_empty()),
            hash: text(Column::PromptHash),
            prefix: text(Column::PrefixHash),
        },
        ..Row::default()
    };
    if let (Some(cached), Some(input)) = (row.cached, row.input)
        && cached > input
    {
        return Err(format!(
            "{cached} cached tokens are more than the {input} input tokens"
        ));
    }
    row.cost_pico = text(Column::Cost).map(money).transpose()?;
    let start = text(Column::Timestamp)
        .map(|t| time(Column::Timestamp, t))
        .transpose()?;
    let end = text(Column::EndTime)
        .map(|t| time(Column::EndTime, t))
        .transpose()?;
    row.latency_micros = match (text(Column::LatencyMillis), text(Column::LatencySeconds)) {
        (Some(millis), _) => Some(micros(Column::LatencyMillis, millis, 1e3)?),
        (None, Some(seconds)) => Some(micros(Column::LatencySeconds, seconds, 1e6)?),
        (None, None) => None,
    };
    if let (Some(start), Some(end), None) = (start, end, row.latency_micros)
        && start.base == end.base
    {
        let nanos = end
            .nanos
            .checked_sub(start.nanos)
            .filter(|nanos| *nanos >= 0);
        row.latency_micros = Some(nanos.ok_or("the end time is before the start time")? / 1_000);
    }
    if let Some(start) = start {
        if *log.base.get_or_insert(start.base) != start.base {
            return Err("the time is of another kind than those before".to_owned());
        }
        log.assumed_utc |= start.assumed_utc;
        row.time = Some(start.nanos);
    }
    if row.time.is_none() && row.input.is_none() && row.output.is_none() {
        return Err("no time and no tokens".to_owned());
    }
    Ok(row)
}

fn show(text: &str) -> Cow<'_, str> {
    cut(text, 40)
}

/// A count: digits, or a decimal number without a fraction as some exporters write it.
fn whole(column: Column, text: &str) -> Result<u32, String> {
    let plain = match text.split_once('.') {
        Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    let digits = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit());
    match plain.parse::<u32>() {
        Ok(number) if digits && number < u32::MAX => Ok(number),
        _ => Err(format!(
            "{} is not a whole number from 0 to 4,294,967,294: \"{}\"",
            column.name(),
            show(text)
        )),
    }
}

fn decimal(text: &str, max: f64) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && (0.0..=max).contains(&number)).then_some(number)
}

fn money(text: &str) -> Result<i64, String> {
    decimal(text.strip_prefix('$').unwrap_or(text), 1e6)
        .map(|usd| (usd * 1e12).round() as i64)
        .ok_or_else(|| {
            format!(
                "cost is not an amount from 0 to 1,000,000: \"{}\"",
                show(text)
            )
        })
}

fn micros(column: Column, text: &str, unit: f64) -> Result<i64, String> {
    decimal(text, 1e12)
        .map(|number| (number * unit).round() as i64)
        .ok_or_else(|| format!("{} is not a duration: \"{}\"", column.name(), show(text)))
}

fn time(column: Column, text: &str) -> Result<times::Moment, String> {
    times::parse(text).ok_or_else(|| {
        format!(
            "{} is not a time that can be read: \"{}\"",
            column.name(),
            show(text)
        )
    })
}

fn flag(text: &str) -> Option<u32> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "hit" => Some(1),
        "false" | "0" | "no" | "miss" | "none" => Some(0),
        _ => None,
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
