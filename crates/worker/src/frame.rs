//! Frames: how both sides cut the bytes between them into messages.
//!
//! A frame is one byte for its kind, four for the length of its body (little-endian), and the body.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before the body.
pub(crate) const HEADER: usize = 5;
/// The largest frame that a worker accepts from the server, and that either side can write.
pub(crate) const MAX_BODY: usize = 1 << 30;

/// What the body of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One message as JSON.
    Message,
    /// The state of a suspended script, which only workers look into.
    Snapshot,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Kind::Message => 0,
            Kind::Snapshot => 1,
        }
    }
}

/// Reads the header of a frame: its kind and the length of its body.
pub(crate) fn parse_header(header: [u8; HEADER]) -> Option<(Kind, usize)> {
    let kind = match header[0] {
        0 => Kind::Message,
        1 => Kind::Snapshot,
        _ => return None,
    };
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    Some((kind, usize::try_from(length).ok()?))
}

/// Appends a frame with this body.
pub(crate) fn append(out: &mut Vec<u8>, kind: Kind, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_BODY);
    let length = length.ok_or_else(|| io::Error::other("the frame is too large"))?;
    out.reserve(HEADER + body.len());
    out.push(kind.byte());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Appends a message as a frame, without a copy of its body in between.
pub(crate) fn append_message(out: &mut Vec<u8>, message: &impl Serialize) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[Kind::Message.byte(), 0, 0, 0, 0]);
    serde_json::to_writer(&mut *out, message)?;
    let body = out.len() - start - HEADER;
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_BODY);
    let length = length.ok_or_else(|| io::Error::other("the message is too large"))?;
    out[start + 1..start + HEADER].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// A worker's end of the line: blocking, on its standard input and output.
pub(crate) struct Line<R, W> {
    input: R,
    output: W,
}

impl<R: Read, W: Write> Line<R, W> {
    pub(crate) fn new(input: R, output: W) -> Line<R, W> {
        Line { input, output }
    }

    /// Waits for the next frame. `None` when the server has closed the line.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Kind, Vec<u8>)>> {
        let mut header = [0; HEADER];
        match self.input.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (kind, length) = parse_header(header)
            .filter(|(_, length)| *length <= MAX_BODY)
            .ok_or_else(|| io::Error::other("not a frame"))?;
        let mut body = vec![0; length];
        self.input.read_exact(&mut body)?;
        Ok(Some((kind, body)))
    }

    /// Waits for the next message. `None` when the server has closed the line.
    pub(crate) fn receive_message<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        match self.receive()? {
            None => Ok(None),
            Some((Kind::Message, body)) => Ok(Some(serde_json::from_slice(&body)?)),
            Some((Kind::Snapshot, _)) => {
                Err(io::Error::other("a snapshot where a message was due"))
            }
        }
    }

    pub(crate) fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut frame = Vec::new();
        append_message(&mut frame, message)?;
        self.send_encoded(&frame)
    }

    /// Sends a frame that is there already.
    pub(crate) fn send_encoded(&mut self, frame: &[u8]) -> io::Result<()> {
        self.output.write_all(frame)?;
        self.output.flush()
    }

    pub(crate) fn send_snapshot(&mut self, snapshot: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        append(&mut frame, Kind::Snapshot, snapshot)?;
        self.send_encoded(&frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let mut bytes = Vec::new();
        let mut line = Line::new(io::empty(), &mut bytes);
        line.send(&vec![1, 2, 3]).unwrap();
        line.send_snapshot(b"state").unwrap();
        let mut line = Line::new(bytes.as_slice(), io::sink());
        assert_eq!(
            line.receive_message::<Vec<i32>>().unwrap(),
            Some(vec![1, 2, 3])
        );
        assert_eq!(
            line.receive().unwrap(),
            Some((Kind::Snapshot, b"state".to_vec()))
        );
        assert_eq!(line.receive().unwrap(), None);
    }

    #[test]
    fn an_unknown_kind_and_a_huge_length_are_refused() {
        for header in [[7, 1, 0, 0, 0], [0, 255, 255, 255, 255]] {
            let mut line = Line::new(&header[..], io::sink());
            assert!(line.receive().is_err());
        }
    }
}
