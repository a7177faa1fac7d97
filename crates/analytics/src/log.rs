//! A usage log in memory: one compact vector per column, so that ten million rows fit in a gigabyte.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::columns::{Kind, Mapped};
use crate::error::Error;
use crate::prompts::{Prompt, Prompts};
use crate::times::Base;

/// The most rows that are read.
pub(crate) const MAX_ROWS: usize = 20_000_000;
/// The most different models or users that are told apart.
const MAX_NAMES: usize = 100_000;
/// The longest name of a model or user that is kept, in characters.
const MAX_NAME_CHARS: usize = 120;
/// How many bad rows are shown.
const MAX_BAD_SHOWN: usize = 20;

/// A value that stands for "not there" in a column.
pub(crate) trait Cell: Copy + PartialEq {
    const NONE: Self;
}

impl Cell for u32 {
    const NONE: Self = u32::MAX;
}

impl Cell for i64 {
    const NONE: Self = i64::MIN;
}

/// A column whose cells may be missing. It takes no memory before its first value.
#[derive(Debug, Default, Clone)]
pub(crate) struct Values<T> {
    cells: Vec<T>,
    present: usize,
}

impl<T: Cell> Values<T> {
    /// Sets the cell of a new row; rows come in order.
    pub(crate) fn push(&mut self, row: usize, value: Option<T>) {
        let Some(value) = value else { return };
        if self.cells.len() + 1 > self.cells.capacity() {
            // Growth by a quarter keeps the spare room of ten million rows small.
            self.cells
                .reserve_exact((row - self.cells.len()) + row / 4 + 1_024);
        }
        self.cells.resize(row, T::NONE);
        self.cells.push(value);
        self.present += 1;
    }

    /// The cell of a row.
    pub(crate) fn get(&self, row: usize) -> Option<T> {
        self.cells
            .get(row)
            .copied()
            .filter(|value| *value != T::NONE)
    }

    /// How many rows have a value.
    pub(crate) fn present(&self) -> usize {
        self.present
    }

    /// The values that are there, in the order of the rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.cells.iter().copied().filter(|value| *value != T::NONE)
    }
}

/// The different names of a text column.
#[derive(Debug, Default)]
pub(crate) struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    /// Rows whose name came after the limit and stands for "further names".
    pub(crate) overflow: u64,
}

impl Names {
    fn number(&mut self, name: &str) -> Option<u32> {
        let name = name.trim();
        if name.is_empty() {
            return None;
        }
        let cut = crate::output::cut(name, MAX_NAME_CHARS);
        if let Some(number) = self.numbers.get(cut.as_ref()) {
            return Some(*number);
        }
        if self.names.len() >= MAX_NAMES {
            self.overflow += 1;
            return None;
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.numbers.insert(cut.clone().into_owned(), number);
        self.names.push(cut.into_owned());
        Some(number)
    }

    /// The name of a number.
    pub(crate) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }

    /// How many different names there are.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// One row as read. `None` is an empty cell or a column that is not there.
#[derive(Debug, Default)]
pub(crate) struct Row<'a> {
    pub(crate) time: Option<i64>,
    pub(crate) input: Option<u32>,
    pub(crate) output: Option<u32>,
    pub(crate) cached: Option<u32>,
    pub(crate) latency_micros: Option<i64>,
    pub(crate) cost_pico: Option<i64>,
    pub(crate) requests: Option<u32>,
    pub(crate) cache_hit: Option<u32>,
    pub(crate) model: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) prompt: Prompt<'a>,
}

/// A row that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRow {
    pub(crate) line: u64,
    pub(crate) reason: String,
    pub(crate) text: String,
}

/// A log that was read.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) format: &'static str,
    pub(crate) delimiter: Option<char>,
    pub(crate) kind: Kind,
    pub(crate) headers: Vec<Mapped>,
    pub(crate) rows: usize,
    pub(crate) bad_rows: u64,
    pub(crate) bad_shown: Vec<BadRow>,
    /// JSON objects that are no LLM request, such as spans of other work.
    pub(crate) other_rows: u64,
    pub(crate) duplicates: u64,
    /// The file was read to its end.
    pub(crate) complete: bool,
    pub(crate) base: Option<Base>,
    pub(crate) assumed_utc: bool,
    pub(crate) first_rows: Vec<Vec<(String, String)>>,
    pub(crate) time: Values<i64>,
    pub(crate) input: Values<u32>,
    pub(crate) output: Values<u32>,
    pub(crate) cached: Values<u32>,
    pub(crate) latency_micros: Values<i64>,
    pub(crate) cost_pico: Values<i64>,
    pub(crate) requests: Values<u32>,
    pub(crate) cache_hit: Values<u32>,
    pub(crate) model: Values<u32>,
    pub(crate) user: Values<u32>,
    pub(crate) models: Names,
    pub(crate) users: Names,
    /// What is kept of the prompts: never a text.
    pub(crate) prompts: Prompts,
    hashes: Vec<u64>,
}

impl Log {
    pub(crate) fn new(file: &str, bytes: u64, format: &'static str) -> Self {
        Self {
            file: file.to_owned(),
            bytes,
            format,
            delimiter: None,
            kind: Kind::Other,
            headers: Vec::new(),
            rows: 0,
            bad_rows: 0,
            bad_shown: Vec::new(),
            other_rows: 0,
            duplicates: 0,
            complete: true,
            base: None,
            assumed_utc: false,
            first_rows: Vec::new(),
            time: Values::default(),
            input: Values::default(),
            output: Values::default(),
            cached: Values::default(),
            latency_micros: Values::default(),
            cost_pico: Values::default(),
            requests: Values::default(),
            cache_hit: Values::default(),
            model: Values::default(),
            user: Values::default(),
            models: Names::default(),
            users: Names::default(),
            prompts: Prompts::default(),
            hashes: Vec::new(),
        }
    }

    /// Takes a row. `raw` is the text by which exact duplicates are found.
    pub(crate) fn push(&mut self, row: &Row<'_>, raw: &[u8]) -> Result<(), Error> {
        if self.rows >= MAX_ROWS {
            return Err(Error::invalid(format!(
                "{} has more than {} rows; split it into parts",
                self.file,
                crate::output::thousands(MAX_ROWS as u64),
            )));
        }
        let at = self.rows;
        self.time.push(at, row.time);
        self.input.push(at, row.input);
        self.output.push(at, row.output);
        self.cached.push(at, row.cached);
        self.latency_micros.push(at, row.latency_micros);
        self.cost_pico.push(at, row.cost_pico);
        self.requests.push(at, row.requests);
        self.cache_hit.push(at, row.cache_hit);
        self.model
            .push(at, row.model.and_then(|name| self.models.number(name)));
        self.user
            .push(at, row.user.and_then(|name| self.users.number(name)));
        self.prompts.push(at, &row.prompt);
        if self.hashes.len() == self.hashes.capacity() {
            self.hashes.reserve_exact(at / 4 + 1_024);
        }
        let mut hasher = DefaultHasher::new();
        raw.hash(&mut hasher);
        self.hashes.push(hasher.finish());
        self.rows += 1;
        Ok(())
    }

    /// Counts a row that cannot be taken.
    pub(crate) fn push_bad(&mut self, line: u64, reason: String, raw: &[u8]) {
        self.bad_rows += 1;
        if self.bad_shown.len() < MAX_BAD_SHOWN {
            let head = &raw[..raw.len().min(640)];
            let text = String::from_utf8_lossy(head);
            self.bad_shown.push(BadRow {
                line,
                reason: crate::output::cut(&reason, 200).into_owned(),
                text: crate::output::cut(&text, 160).into_owned(),
            });
        }
    }

    /// Finds the duplicates once all rows are there.
    pub(crate) fn finish(&mut self) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.sort_unstable();
        self.duplicates = hashes.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    }

    /// Records of the file: rows that were taken, bad rows and rows of other things.
    pub(crate) fn records(&self) -> u64 {
        self.rows as u64 + self.bad_rows + self.other_rows
    }

    /// The requests of a row: one, or what its request-count column says.
    pub(crate) fn requests_of(&self, row: usize) -> u64 {
        if self.requests.present() == 0 {
            return 1;
        }
        u64::from(self.requests.get(row).unwrap_or(0))
    }

    /// All requests.
    pub(crate) fn total_requests(&self) -> u64 {
        if self.requests.present() == 0 {
            return self.rows as u64;
        }
        self.requests.iter().map(u64::from).sum()
    }

    /// Whether a row sums up several requests, so that nothing can be said about a single one.
    pub(crate) fn is_aggregated(&self) -> bool {
        self.requests.iter().any(|count| count != 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_starts_late_has_gaps_before() {
        let mut values: Values<u32> = Values::default();
        for (row, value) in [None, None, Some(7), None, Some(9)].into_iter().enumerate() {
            values.push(row, value);
        }
        let cells: Vec<Option<u32>> = (0..6).map(|row| values.get(row)).collect();
        assert_eq!(cells, [None, None, Some(7), None, Some(9), None]);
        assert_eq!(values.present(), 2);
    }

    #[test]
    fn counts_of_duplicates_are_the_extra_copies() {
        let mut log = Log::new("x", 0, "csv");
        for raw in [b"a", b"b", b"a", b"a"] {
            assert!(log.push(&Row::default(), raw).is_ok());
        }
        log.finish();
        assert_eq!((log.rows, log.duplicates), (4, 2));
    }
}
