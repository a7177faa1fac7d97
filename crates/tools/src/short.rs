//! Short forms: what stands in an event in place of a large value.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The size of a value as JSON, in bytes, without making the text.
pub fn bytes_of(value: &Value) -> usize {
    let mut counter = Counter(0);
    // Neither the counter nor a `Value` can fail to be written; what was counted is the answer.
    serde_json::to_writer(&mut counter, value).ok();
    counter.0
}

/// What a value holds in memory, in bytes, the slack of its lists and maps apart.
pub fn held_by(value: &Value) -> usize {
    const SLOT: usize = size_of::<Value>();
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| SLOT + held_by(item)).sum(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| {
                size_of::<String>() + name.len() + SLOT + held_by(value)
            };
            fields.iter().map(field).sum()
        }
    }
}

/// The text, cut to at most `max_bytes` at a character's end, with a sign where it was cut.
pub fn cut_text(text: &str, max_bytes: usize) -> String {
    const SIGN: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mut end = max_bytes.saturating_sub(SIGN.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SIGN}", &text[..end])
}

/// The value itself where it fits in `max_bytes` of JSON, else the same value with long texts and
/// lists cut. A list that was cut ends with `{"omitted": n}`.
pub fn shorten(value: &Value, max_bytes: usize) -> Value {
    let bytes = bytes_of(value);
    if bytes <= max_bytes {
        return value.clone();
    }
    for (text_bytes, items) in [(4096, 50), (1024, 10), (256, 3), (64, 1)] {
        let short = cut(value, text_bytes, items, 6);
        if bytes_of(&short) <= max_bytes {
            return short;
        }
    }
    json!({ "omitted_bytes": bytes })
}

fn cut(value: &Value, text_bytes: usize, items: usize, depth: usize) -> Value {
    match value {
        Value::String(text) => Value::String(cut_text(text, text_bytes)),
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            json!({ "omitted_bytes": bytes_of(value) })
        }
        Value::Array(list) => {
            let mut short: Vec<Value> = list
                .iter()
                .take(items)
                .map(|item| cut(item, text_bytes, items, depth - 1))
                .collect();
            if list.len() > items {
                short.push(json!({ "omitted": list.len() - items }));
            }
            Value::Array(short)
        }
        Value::Object(fields) => {
            let most = items.max(16);
            let mut short: Map<String, Value> = fields
                .iter()
                .take(most)
                .map(|(key, field)| (cut_text(key, 128), cut(field, text_bytes, items, depth - 1)))
                .collect();
            if fields.len() > most {
                short.insert("omitted".into(), json!(fields.len() - most));
            }
            Value::Object(short)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_as_it_is() {
        let value = json!({"a": [1, 2, 3], "b": "text"});
        assert_eq!(shorten(&value, 100), value);
        assert_eq!(bytes_of(&value), value.to_string().len());
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let rows: Vec<Value> = (0..10_000)
            .map(|n| json!({"row": n, "text": "x".repeat(50)}))
            .collect();
        let value = json!({"rows": rows, "total": 10_000});
        let short = shorten(&value, 2_000);
        assert!(bytes_of(&short) <= 2_000);
        assert_eq!(short["total"], 10_000);
        let list = short["rows"].as_array().unwrap();
        assert_eq!(list.last().unwrap()["omitted"], 10_000 - (list.len() - 1));
    }

    #[test]
    fn any_shape_ends_under_the_bound() {
        let wide: Map<String, Value> = (0..5_000).map(|n| (format!("k{n}"), json!(n))).collect();
        let deep = (0..60).fold(json!("x".repeat(9_000)), |inner, _| json!([inner, 1]));
        for value in [Value::Object(wide), deep, json!("é".repeat(100_000))] {
            assert!(bytes_of(&shorten(&value, 512)) <= 512);
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut_text("ééé", 6), "ééé");
        assert_eq!(cut_text("éééé", 6), "é…");
    }
}
