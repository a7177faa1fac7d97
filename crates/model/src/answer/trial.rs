//! For the tests of all formats: bytes in, chunks out.

use serde_json::Value;

use super::{Answer, Draft, Format};
use crate::names::ToolNames;
use crate::{Chunk, Error};

/// Feeds the parts, then the end, and gives what came out.
pub(crate) fn read<F: Format>(format: F, parts: &[&[u8]]) -> (Vec<Chunk>, Result<(), Error>) {
    let draft = Draft::new("p".to_owned(), None, ToolNames::default(), None);
    let mut answer = Answer::new(format, draft);
    let mut chunks = Vec::new();
    let mut result = Ok(());
    for part in parts {
        result = answer.push(part);
        chunks.extend(std::iter::from_fn(|| answer.pop()));
        if result.is_err() {
            return (chunks, result);
        }
    }
    if result.is_ok() {
        result = answer.end();
        chunks.extend(std::iter::from_fn(|| answer.pop()));
    }
    (chunks, result)
}

/// The same for an answer that comes whole.
pub(crate) fn read_document<F: Format>(format: F, document: &Value) -> Vec<Chunk> {
    let draft = Draft::new("p".to_owned(), None, ToolNames::default(), None);
    let mut answer = Answer::new(format, draft);
    answer
        .push_document(document.to_string().as_bytes())
        .unwrap();
    answer.end().unwrap();
    std::iter::from_fn(|| answer.pop()).collect()
}

/// Events as a server sends them.
pub(crate) fn sse(events: &[Value]) -> String {
    events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect()
}
