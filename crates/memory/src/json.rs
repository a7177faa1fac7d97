//! How much memory a JSON text takes once it is read: a few bytes of text can become a hundred times as many.

/// A value of `serde_json`, whose objects keep their order (the feature `preserve_order`).
const VALUE: u64 = 72;
/// A slot of a list: a value, in a list that has up to twice the room that it needs and, while it grows, stands in
/// memory a second time.
const ITEM: u64 = VALUE * 3;
/// A list's own block, with the room of four values that it begins with.
const LIST: u64 = 4 * VALUE + 16;
/// A field in a map: hash, name and value.
const ENTRY: u64 = 8 + 24 + VALUE;
/// A field beyond the first: an entry as a slot of a list, and its place in the map's table, which is up to half
/// empty and, while it grows, there a second time.
const FIELD: u64 = ENTRY * 3 + 40;
/// The first blocks of a map: entries and table.
const MAP: u64 = 4 * ENTRY + 96;
/// What a text takes besides its characters.
const TEXT: u64 = 16;

/// An upper bound of the bytes that the JSON in `text` takes as a tree of values, besides `text` itself. It is made in
/// one pass over the bytes that knows strings from the rest and reads nothing else; it is never below the truth.
pub fn json_room(text: &[u8]) -> u64 {
    // Text within strings is counted once as it is, and once more for the buffer that grows it.
    let mut room = 2 * text.len() as u64;
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        room += match byte {
            b'{' => MAP + ITEM,
            b'[' => LIST + ITEM,
            b',' => ITEM,
            b':' => FIELD,
            b'"' => TEXT,
            _ => 0,
        };
        in_string = *byte == b'"';
    }
    room
}
