//! Thoughts in blocks (`reasoning_details`), as OpenRouter has them: they come in pieces and are wanted back whole,
//! in their order, where tool calls follow.

use serde_json::{Map, Value};

use crate::Error;
use crate::answer::Draft;

/// The fields of a block that come in pieces.
const WRITTEN_ON: [&str; 2] = ["text", "summary"];
/// The fields by which blocks are told apart.
const NAMES: [&str; 3] = ["type", "index", "id"];

/// The blocks of one answer so far.
#[derive(Default)]
pub(super) struct Details(Vec<Map<String, Value>>);

impl Details {
    /// Takes what one event has of them, and gives what is readable of it.
    pub(super) fn take(&mut self, pieces: Vec<Value>, draft: &mut Draft) -> Result<String, Error> {
        let mut readable = String::new();
        for piece in pieces {
            let Value::Object(piece) = piece else {
                continue;
            };
            draft.count(piece.iter().map(held).sum())?;
            readable.extend(
                WRITTEN_ON
                    .iter()
                    .filter_map(|field| piece.get(*field)?.as_str()),
            );
            match self.0.last_mut().filter(|last| goes_on(last, &piece)) {
                Some(last) => write_on(last, piece),
                None => self.0.push(piece),
            }
        }
        Ok(readable)
    }

    /// All of them; none where there are none.
    pub(super) fn whole(&mut self) -> Option<Value> {
        let blocks = std::mem::take(&mut self.0);
        let blocks: Vec<Value> = blocks.into_iter().map(Value::Object).collect();
        (!blocks.is_empty()).then_some(Value::Array(blocks))
    }
}

fn held((name, value): (&String, &Value)) -> usize {
    name.len()
        + value
            .as_str()
            .map_or_else(|| value.to_string().len(), str::len)
}

/// Whether a piece belongs to the last block. Blocks that nobody can read come whole.
fn goes_on(last: &Map<String, Value>, piece: &Map<String, Value>) -> bool {
    let written_on = |block: &Map<String, Value>| {
        let kind = block.get("type").and_then(Value::as_str);
        matches!(kind, Some("reasoning.text" | "reasoning.summary"))
    };
    // Later pieces need not say again whose they are.
    let same = |name: &&str| match (told(last, name), told(piece, name)) {
        (Some(before), Some(now)) => before == now,
        _ => true,
    };
    written_on(last) && written_on(piece) && NAMES.iter().all(same)
}

fn told<'a>(block: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    block.get(name).filter(|value| !value.is_null())
}

fn write_on(block: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (name, value) in piece {
        if value.is_null() {
            continue;
        }
        let written_on = WRITTEN_ON.contains(&name.as_str());
        match (block.get_mut(&name), value) {
            (Some(Value::String(text)), Value::String(more)) if written_on => text.push_str(&more),
            (_, value) => drop(block.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::names::ToolNames;

    fn read(events: Value) -> (Option<Value>, String) {
        let names = ToolNames::of(&crate::ChatRequest::default());
        let mut draft = Draft::new("p".to_owned(), None, names, None);
        let (mut details, mut readable) = (Details::default(), String::new());
        for event in events.as_array().unwrap() {
            let pieces = event.as_array().unwrap().clone();
            readable += &details.take(pieces, &mut draft).unwrap();
        }
        (details.whole(), readable)
    }

    #[test]
    fn blocks_in_pieces_are_whole_again_and_in_their_order() {
        let text = |text: &str| json!({ "type": "reasoning.text", "text": text, "index": 0 });
        let signed =
            json!({ "type": "reasoning.text", "signature": "s", "text": null, "index": 0 });
        let hidden = json!({ "type": "reasoning.encrypted", "data": "d", "index": 1 });
        let sum = |text: &str| json!({ "type": "reasoning.summary", "summary": text });
        let (whole, readable) = read(json!([
            [text("one ")],
            [text("two")],
            [signed],
            [hidden, hidden],
            [sum("in "), sum("short")],
        ]));
        let expected = json!([
            { "type": "reasoning.text", "text": "one two", "index": 0, "signature": "s" },
            hidden, hidden,
            { "type": "reasoning.summary", "summary": "in short" },
        ]);
        assert_eq!(whole, Some(expected));
        assert_eq!(readable, "one twoin short");
        assert_eq!(read(json!([[]])), (None, String::new()));
    }

    #[test]
    fn blocks_of_other_numbers_and_names_stay_apart() {
        for (name, one, other) in [
            ("index", json!(0), json!(1)),
            ("id", json!("a"), json!("b")),
        ] {
            let block =
                |value: &Value| json!({ "type": "reasoning.text", "text": "x", name: value });
            let (whole, _) = read(json!([[block(&one)], [block(&other)]]));
            assert_eq!(whole, Some(json!([block(&one), block(&other)])));
        }
    }
}
