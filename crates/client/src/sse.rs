//! Reads server-sent events out of pieces of a body.

/// One block of the stream; an id or event that did not come is empty. A block with an id and no
/// data is a position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Option<String>,
}

impl Block {
    pub(crate) fn data(&self) -> &str {
        self.data.as_deref().unwrap_or_default()
    }
}

/// Collects bytes until a blank line ends a block. Comments (heartbeats) are dropped.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    scanned: usize,
    block: Block,
    begun: bool,
    /// The last line ended with a carriage return, and a line feed may belong to it.
    half_ended: bool,
}

impl Reader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.scanned);
        self.scanned = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole block in what has been pushed.
    pub(crate) fn next_block(&mut self) -> Option<Block> {
        loop {
            let line = self.next_line()?;
            if let Some(block) = self.take_line(&line) {
                return Some(block);
            }
        }
    }

    /// Lines end with a line feed, a carriage return, or both; at no other character.
    fn next_line(&mut self) -> Option<String> {
        if self.half_ended && self.buffer.get(self.scanned) == Some(&b'\n') {
            self.scanned += 1;
            self.half_ended = false;
        }
        let rest = &self.buffer[self.scanned..];
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.half_ended = rest[end] == b'\r';
        self.scanned += end + 1;
        if std::mem::replace(&mut self.begun, true) {
            return Some(line);
        }
        // A byte order mark is no part of the first field's name.
        Some(line.trim_start_matches('\u{feff}').to_owned())
    }

    fn take_line(&mut self, line: &str) -> Option<Block> {
        if line.is_empty() {
            let block = std::mem::take(&mut self.block);
            return (block.data.is_some() || !block.id.is_empty()).then_some(block);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // The standard has no id with a NUL in it: no header could carry it back.
            "id" if !value.contains('\0') => value.clone_into(&mut self.block.id),
            "event" => value.clone_into(&mut self.block.event),
            "data" => match &mut self.block.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.block.data = Some(value.to_owned()),
            },
            // A comment has an empty field name; the standard says to ignore unknown ones.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Vec<Block> {
        let mut reader = Reader::default();
        let mut blocks = Vec::new();
        for piece in pieces {
            reader.push(piece.as_bytes());
            while let Some(block) = reader.next_block() {
                blocks.push(block);
            }
        }
        blocks
    }

    fn block(id: &str, event: &str, data: &str) -> Block {
        Block {
            id: id.into(),
            event: event.into(),
            data: (!data.is_empty()).then(|| data.into()),
        }
    }

    #[test]
    fn events_come_whole_however_the_body_was_cut() {
        let whole = "id: e:1\nevent: run_started\ndata: {\"a\":1}\n\nid: e:2\ndata: x\ndata: y\n\n";
        let expected = vec![
            block("e:1", "run_started", "{\"a\":1}"),
            block("e:2", "", "x\ny"),
        ];
        assert_eq!(read(&[whole]), expected);
        for cut in 0..whole.len() {
            assert_eq!(
                read(&[&whole[..cut], &whole[cut..]]),
                expected,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn comments_are_dropped_and_an_id_alone_is_a_position() {
        assert_eq!(
            read(&[": heartbeat\n\nretry: 5\n\ndata:z\r\n\r\nid: e:7\n\n"]),
            [block("", "", "z"), block("e:7", "", "")]
        );
    }

    #[test]
    fn a_line_ends_where_the_format_says_and_nowhere_else() {
        // What other readers of lines take for ends.
        let text = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\u{1c}g";
        for end in ["\n", "\r\n", "\r"] {
            let whole = ["\u{feff}id: e:1", "data: ", "data: z", "", ""].join(end);
            let whole = whole.replacen("data: ", &format!("data: {text}"), 1);
            for cut in (0..=whole.len()).filter(|&cut| whole.is_char_boundary(cut)) {
                let expected = [block("e:1", "", &format!("{text}\nz"))];
                let pieces = [&whole[..cut], &whole[cut..]];
                assert_eq!(read(&pieces), expected, "{end:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_id_that_no_header_could_carry_back_is_none_and_empty_data_is_no_position() {
        let mut empty = block("e:2", "", "");
        empty.data = Some(String::new());
        let blocks = read(&["id: e\0:1\ndata: x\n\nid: e\0:1\n\nid: e:2\ndata\n\n"]);
        assert_eq!(blocks, [block("", "", "x"), empty]);
    }

    #[test]
    fn an_event_that_was_cut_off_does_not_come() {
        assert_eq!(read(&["data: half\n"]), []);
    }
}
