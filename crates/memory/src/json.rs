//! How much memory a JSON text takes once it is read: a few bytes of text can become a hundred times as many.

/// A slot of a list: a value of 32 bytes, in a list that has up to twice the room that it needs and, while it grows,
/// stands in memory a second time.
const ITEM: u64 = 32 * 3;
/// A list's own block, with the room of four values that it begins with.
const LIST: u64 = 4 * 32 + 16;
/// A field beyond the first: name and value in a node of the map that may be half full.
const FIELD: u64 = 2 * (24 + 32) + 16;
/// The first node of a map, with its room for eleven fields.
const MAP: u64 = 11 * (24 + 32) + 64;
/// What a text takes besides its characters.
const TEXT: u64 = 16;

/// An upper bound of the bytes that the JSON in `text` takes as a tree of values, besides `text` itself. It is made
/// in one pass over the bytes and without reading the JSON, so it may be far above the truth where the text has
/// brackets and commas within strings; it is never below it.
pub fn json_room(text: &[u8]) -> u64 {
    // Text within strings is counted once as it is, and once more for the buffer that grows it.
    let mut room = 2 * text.len() as u64;
    for byte in text {
        room += match byte {
            b'{' => MAP + ITEM,
            b'[' => LIST + ITEM,
            b',' => ITEM,
            b':' => FIELD,
            b'"' => TEXT,
            _ => 0,
        };
    }
    room
}
