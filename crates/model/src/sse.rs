//! Server-sent events from bytes, however the bytes are cut. No I/O.

/// Longest line and longest event in bytes; a tool call may come whole in one event.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// Why the bytes are no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A line or an event is longer than the limit.
    TooLong,
    /// A line is not UTF-8.
    NotText,
}

/// Cuts bytes into lines and lines into events; keeps the data of each event only, because no
/// provider so far says anything in the event's name that the data does not say too.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Option<String>,
    after_cr: bool,
    past_start: bool,
}

impl Parser {
    /// Takes more bytes and hands the data of each event that is now complete to `each`, in order.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(String),
    ) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if rest[0] == b'\n' {
                    rest = &rest[1..];
                    continue;
                }
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &rest[..end.unwrap_or(rest.len())];
            if self.line.len() + part.len() > MAX_EVENT_BYTES {
                return Err(Broken::TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if let Some(data) = self.take_line()? {
                each(data);
            }
        }
        Ok(())
    }

    fn take_line(&mut self) -> Result<Option<String>, Broken> {
        let line = std::mem::take(&mut self.line);
        let mut text = std::str::from_utf8(&line).map_err(|_| Broken::NotText)?;
        if !self.past_start {
            self.past_start = true;
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            return Ok(self.data.take());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) if data.len() + value.len() >= MAX_EVENT_BYTES => {
                    return Err(Broken::TooLong);
                }
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(parts: &[&[u8]]) -> Result<Vec<String>, Broken> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for part in parts {
            parser.push(part, |data| found.push(data))?;
        }
        Ok(found)
    }

    #[test]
    fn all_line_ends_comments_and_other_fields() {
        let text = "\u{feff}data: a\r\n\r\n: ping\n\nevent: x\rid: 1\rdata:b\rdata: c\r\rdata\n\nretry: 1\n\n";
        assert_eq!(
            events(&[text.as_bytes()]),
            Ok(vec!["a".into(), "b\nc".into(), String::new()])
        );
    }

    #[test]
    fn an_event_without_its_blank_line_is_not_given() {
        assert_eq!(events(&[b"data: a\n\ndata: b\n"]), Ok(vec!["a".to_owned()]));
    }

    #[test]
    fn a_line_end_cut_in_two_is_one() {
        assert_eq!(
            events(&[b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]),
            Ok(vec!["a\nb".to_owned()])
        );
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_lines_are_refused() {
        assert_eq!(events(&[b"data: \xff\n\n"]), Err(Broken::NotText));
        let part = vec![b'x'; MAX_EVENT_BYTES / 2 + 1];
        assert_eq!(events(&[b"data: ", &part, &part]), Err(Broken::TooLong));
        let line = [b"data: ".as_slice(), &part, b"\n"].concat();
        assert_eq!(events(&[&line, &line]), Err(Broken::TooLong));
    }
}
