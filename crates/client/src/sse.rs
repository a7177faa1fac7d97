//! Reads server-sent events out of pieces of a body.

/// One block of the stream; fields that did not come are empty. A block with nothing but an id is a
/// position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: String,
}

/// Collects bytes until a blank line ends a block. Comments (heartbeats) are dropped.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    scanned: usize,
    block: Block,
    filled: bool,
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
            let rest = &self.buffer[self.scanned..];
            let end = rest.iter().position(|&byte| byte == b'\n')?;
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            self.scanned += end + 1;
            if let Some(block) = self.take_line(line.trim_end_matches('\r')) {
                return Some(block);
            }
        }
    }

    fn take_line(&mut self, line: &str) -> Option<Block> {
        if line.is_empty() {
            let filled = std::mem::take(&mut self.filled);
            let block = std::mem::take(&mut self.block);
            return (filled || !block.id.is_empty()).then_some(block);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.block.id),
            "event" => value.clone_into(&mut self.block.event),
            "data" => {
                if self.filled {
                    self.block.data.push('\n');
                }
                self.block.data.push_str(value);
                self.filled = true;
            }
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
            data: data.into(),
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
    fn an_event_that_was_cut_off_does_not_come() {
        assert_eq!(read(&["data: half\n"]), []);
    }
}
