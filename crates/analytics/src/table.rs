//! Records of a delimited table: quotes, records over several lines, and stray quotes that must not swallow the file.

use std::borrow::Cow;
use std::io::{self, BufRead};

use crate::lines::{Line, Lines, MAX_LINE_BYTES};

/// The most lines that one quoted record may span. A quote that is still open then is a stray one.
const MAX_RECORD_LINES: usize = 64;
/// The most cells of a record.
const MAX_CELLS: usize = 4_096;

/// Splits records into cells.
pub(crate) struct Splitter {
    delimiter: u8,
    quoted: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// One record: its first line and its cells.
pub(crate) struct Record {
    pub(crate) line: u64,
    /// The text of the record, lines joined by `\n`.
    pub(crate) raw: Vec<u8>,
    pub(crate) problem: Option<&'static str>,
    first: Line,
}

impl Record {
    /// The buffer of the record's line, to be reused.
    pub(crate) fn into_line(self) -> Line {
        Line {
            bytes: if self.raw.is_empty() {
                self.first.bytes
            } else {
                self.raw
            },
            ..self.first
        }
    }
}

impl Splitter {
    pub(crate) fn new(delimiter: u8) -> Self {
        let quoted = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self {
            delimiter,
            quoted,
            text: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Reads the next record that is not a blank line.
    pub(crate) fn next<R: BufRead>(&mut self, lines: &mut Lines<R>) -> io::Result<Option<Record>> {
        loop {
            let Some(mut first) = lines.next()? else {
                return Ok(None);
            };
            let number = first.number;
            if first.too_long {
                let raw = std::mem::take(&mut first.bytes);
                let problem = Some("the line is longer than 1 MiB");
                return Ok(Some(Record {
                    line: number,
                    raw,
                    problem,
                    first,
                }));
            }
            if first.bytes.iter().all(u8::is_ascii_whitespace) {
                lines.recycle(first);
                continue;
            }
            if !first.bytes.contains(&b'"') {
                let raw = std::mem::take(&mut first.bytes);
                let problem = self.split_plain(&raw);
                return Ok(Some(Record {
                    line: number,
                    raw,
                    problem,
                    first,
                }));
            }
            return self.quoted_record(first, lines).map(Some);
        }
    }

    /// The cells of the record read last.
    pub(crate) fn cells(&self) -> impl ExactSizeIterator<Item = Cow<'_, str>> {
        (0..self.ends.len()).map(|index| {
            let from = if index == 0 { 0 } else { self.ends[index - 1] };
            String::from_utf8_lossy(self.text.get(from..self.ends[index]).unwrap_or_default())
        })
    }

    fn split_plain(&mut self, raw: &[u8]) -> Option<&'static str> {
        self.text.clear();
        self.ends.clear();
        for cell in raw.split(|b| *b == self.delimiter) {
            if self.ends.len() == MAX_CELLS {
                return Some("the row has more than 4,096 cells");
            }
            self.text.extend_from_slice(cell);
            self.ends.push(self.text.len());
        }
        None
    }

    fn quoted_record<R: BufRead>(
        &mut self,
        first: Line,
        lines: &mut Lines<R>,
    ) -> io::Result<Record> {
        let number = first.number;
        let mut raw = first.bytes.clone();
        let mut more: Vec<Line> = Vec::new();
        self.quoted.reset();
        let (mut out, mut cells) = (0, 0);
        let mut from = 0;
        let problem = loop {
            raw.push(b'\n');
            match self.feed(&raw[from..], &mut out, &mut cells) {
                Fed::Complete => break None,
                Fed::TooMany => break Some("the row has more than 4,096 cells"),
                Fed::Left => break Some("text follows a carriage return inside the line"),
                Fed::Open => {}
            }
            from = raw.len();
            let next = if more.len() + 1 < MAX_RECORD_LINES {
                lines.next()?
            } else {
                None
            };
            match next {
                Some(line) if !line.too_long && raw.len() + line.bytes.len() < MAX_LINE_BYTES => {
                    raw.extend_from_slice(&line.bytes);
                    more.push(line);
                }
                other => {
                    // The quote was a stray one: only its own line is lost, the others are read again.
                    more.extend(other);
                    while let Some(line) = more.pop() {
                        lines.put_back(line);
                    }
                    raw.truncate(first.bytes.len());
                    break Some("a quote is opened and never closed");
                }
            }
        };
        self.ends.truncate(cells);
        while raw.last() == Some(&b'\n') {
            raw.pop();
        }
        Ok(Record {
            line: number,
            raw,
            problem,
            first,
        })
    }

    /// Gives one line, with its end, to the parser.
    fn feed(&mut self, mut input: &[u8], out: &mut usize, cells: &mut usize) -> Fed {
        loop {
            self.text
                .resize((*out + input.len() + 16).max(self.text.len()), 0);
            self.ends.resize((*cells + 64).max(self.ends.len()), 0);
            let (result, read, written, ended) =
                self.quoted
                    .read_record(input, &mut self.text[*out..], &mut self.ends[*cells..]);
            input = &input[read..];
            *out += written;
            *cells += ended;
            if *cells > MAX_CELLS {
                return Fed::TooMany;
            }
            match result {
                csv_core::ReadRecordResult::InputEmpty => return Fed::Open,
                csv_core::ReadRecordResult::OutputFull
                | csv_core::ReadRecordResult::OutputEndsFull => {}
                csv_core::ReadRecordResult::Record | csv_core::ReadRecordResult::End => {
                    let left = input.iter().any(|b| !b.is_ascii_whitespace());
                    return if left { Fed::Left } else { Fed::Complete };
                }
            }
        }
    }
}

enum Fed {
    Complete,
    Open,
    Left,
    TooMany,
}

/// The delimiter of a header line: the one of comma, semicolon and tab that occurs most, comma when none does.
pub(crate) fn sniff_delimiter(header: &[u8]) -> u8 {
    let mut best = (0, b',');
    for candidate in [b',', b';', b'\t'] {
        let mut inside = false;
        let mut count = 0;
        for byte in header {
            inside ^= *byte == b'"';
            count += usize::from(*byte == candidate && !inside);
        }
        if count > best.0 {
            best = (count, candidate);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(input: &str) -> Vec<(u64, Result<Vec<String>, &'static str>)> {
        let mut lines = Lines::new(input.as_bytes());
        let mut splitter = Splitter::new(b',');
        let mut found = Vec::new();
        while let Some(record) = splitter.next(&mut lines).unwrap() {
            let cells = splitter.cells().map(Cow::into_owned).collect();
            found.push((record.line, record.problem.map_or(Ok(cells), Err)));
        }
        found
    }

    fn cells(texts: &[&str]) -> Result<Vec<String>, &'static str> {
        Ok(texts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn quotes_and_records_over_lines() {
        let found = records("a,\"b,\"\"c\"\"\",\"\"\r\n\n\"x\r\ny\",2,3\nlast,1,");
        assert_eq!(
            found,
            [
                (1, cells(&["a", "b,\"c\"", ""])),
                (3, cells(&["x\ny", "2", "3"])),
                (5, cells(&["last", "1", ""])),
            ]
        );
    }

    #[test]
    fn a_stray_quote_loses_only_its_own_line() {
        let mut input = String::from("a,\"b\n");
        for row in 0..200 {
            input.push_str(&format!("r,{row}\n"));
        }
        let found = records(&input);
        assert_eq!(found.len(), 201);
        assert_eq!(found[0], (1, Err("a quote is opened and never closed")));
        for (index, record) in found.iter().enumerate().skip(1) {
            assert_eq!(
                *record,
                (index as u64 + 1, cells(&["r", &(index - 1).to_string()]))
            );
        }
        assert_eq!(records("a,\"b\nc,d").len(), 2, "at the end of the file too");
    }

    #[test]
    fn delimiters() {
        assert_eq!(sniff_delimiter(b"a,b,c"), b',');
        assert_eq!(sniff_delimiter(b"a;b;\"c,d,e,f\""), b';');
        assert_eq!(sniff_delimiter(b"a\tb"), b'\t');
        assert_eq!(sniff_delimiter(b"alone"), b',');
    }
}
