//! Lines of an untrusted file, one at a time, each with a bound on its length.

use std::collections::VecDeque;
use std::io::{self, BufRead};

/// The longest line, and the longest quoted record, that is read; longer ones are counted as bad rows. In bytes.
pub(crate) const MAX_LINE_BYTES: usize = 1 << 20;

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Without its end. The first [`MAX_LINE_BYTES`] when the line is too long.
    pub(crate) bytes: Vec<u8>,
    pub(crate) too_long: bool,
}

/// A reader of lines that can take lines back.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    consumed: u64,
    returned: VecDeque<Line>,
    spare: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            consumed: 0,
            returned: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Bytes read so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Puts a line back, before all that follow.
    pub(crate) fn put_back(&mut self, line: Line) {
        self.returned.push_front(line);
    }

    /// Gives a line's buffer back for reuse.
    pub(crate) fn recycle(&mut self, line: Line) {
        if line.bytes.capacity() > self.spare.capacity() && line.bytes.capacity() <= 1 << 16 {
            self.spare = line.bytes;
        }
    }

    /// The next line; `None` at the end. A byte order mark before the first line is dropped.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.returned.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        let mut any = false;
        let mut too_long = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|b| *b == b'\n');
            let text = &chunk[..end.unwrap_or(chunk.len())];
            let room = MAX_LINE_BYTES - bytes.len();
            too_long |= text.len() > room;
            bytes.extend_from_slice(&text[..text.len().min(room)]);
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(used);
            self.consumed += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if self.number == 1 && bytes.starts_with(b"\xEF\xBB\xBF") {
            bytes.drain(..3);
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(Some(Line {
            number: self.number,
            bytes,
            too_long,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<(u64, usize, bool)> {
        // A tiny buffer makes every line cross a border of it.
        let mut lines = Lines::new(io::BufReader::with_capacity(7, input));
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, line.bytes.len(), line.too_long));
        }
        assert_eq!(lines.consumed(), input.len() as u64);
        found
    }

    #[test]
    fn ends_of_lines_and_of_the_file() {
        assert_eq!(all(b""), []);
        assert_eq!(
            all(b"\xEF\xBB\xBFab\r\n\r\nc"),
            [(1, 2, false), (2, 0, false), (3, 1, false)]
        );
        assert_eq!(all(b"ab\n"), [(1, 2, false)]);
    }

    #[test]
    fn a_gigantic_line_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; 3 * MAX_LINE_BYTES];
        input.extend_from_slice(b"\nabc\n");
        assert_eq!(all(&input), [(1, MAX_LINE_BYTES, true), (2, 3, false)]);
    }
}
