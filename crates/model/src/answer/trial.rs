//! For the tests of all formats: bytes in, chunks out.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
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

/// Holds a format against any cut of its bytes, any end of them, and any bytes at all. Before `last` the text has
/// no reason to stop.
pub(crate) fn hold_against_any_bytes<F: Format + Default>(
    (text, read_of_it): (&str, &[Chunk]),
    last: &str,
) {
    let before_reason = text.find(last).unwrap();
    let any = (
        prop::collection::vec(0..=text.len(), 0..40),
        0..before_reason,
        prop::collection::vec(any::<u8>(), 0..400),
    );
    let held = TestRunner::default().run(&any, |(mut cuts, end, bytes)| {
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pairs = cuts.windows(2);
        let parts: Vec<_> = pairs
            .map(|pair| &text.as_bytes()[pair[0]..pair[1]])
            .collect();
        let whole = (read_of_it.to_vec(), Ok(()));
        prop_assert_eq!(read(F::default(), &parts), whole, "cut at {:?}", cuts);

        let (chunks, result) = read(F::default(), &[&text.as_bytes()[..end]]);
        let provider = "p".to_owned();
        prop_assert_eq!(result, Err(Error::Cut { provider }), "ended at {}", end);
        let pieces = |chunk: &Chunk| matches!(chunk, Chunk::Text(_) | Chunk::Thinking(_));
        prop_assert!(chunks.iter().all(pieces), "ended at {}", end);

        let (chunks, result) = read(F::default(), &[b"data: ", &bytes, b"\n\n"]);
        let ended = matches!(chunks.last(), Some(Chunk::Done(_)));
        prop_assert_eq!(ended, result.is_ok());
        Ok(())
    });
    held.unwrap();
}
