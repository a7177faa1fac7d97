//! Values of a script and JSON, each as the other.

use monty_types::{MontyDate, MontyDateTime, MontyObject};
use serde_json::{Map, Number, Value};

/// How deep values that leave a script may nest. Reading JSON stops at 128.
const MAX_DEPTH: usize = 100;

/// JSON as a value of the script.
pub(crate) fn to_script(value: Value) -> MontyObject {
    match value {
        Value::Null => MontyObject::None,
        Value::Bool(value) => MontyObject::Bool(value),
        Value::Number(number) => number_to_script(&number),
        Value::String(text) => MontyObject::String(text),
        Value::Array(items) => MontyObject::List(items.into_iter().map(to_script).collect()),
        Value::Object(fields) => MontyObject::Dict(
            fields
                .into_iter()
                .map(|(key, value)| (MontyObject::String(key), to_script(value)))
                .collect(),
        ),
    }
}

fn number_to_script(number: &Number) -> MontyObject {
    if let Some(value) = number.as_i64() {
        MontyObject::Int(value)
    } else if let Some(Ok(value)) = number.as_u64().map(|value| value.to_string().parse()) {
        MontyObject::BigInt(value)
    } else {
        MontyObject::Float(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// A value of the script as JSON. The error says, for the author of the script, what cannot leave it.
///
/// Tuples and sets become arrays, keys become text as in Python's `json`, dates become ISO 8601, instances of classes
/// become objects of their fields, and numbers that JSON does not have (not finite) become null.
pub(crate) fn to_json(value: MontyObject) -> Result<Value, String> {
    convert(value, MAX_DEPTH)
}

/// Keyword arguments of a call.
pub(crate) fn keywords(
    pairs: Vec<(MontyObject, MontyObject)>,
) -> Result<Map<String, Value>, String> {
    object(pairs, MAX_DEPTH)
}

fn convert(value: MontyObject, depth: usize) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("a value that nests deeper than {MAX_DEPTH} levels"));
    };
    Ok(match value {
        MontyObject::None => Value::Null,
        MontyObject::Bool(value) => Value::Bool(value),
        MontyObject::Int(value) => Value::from(value),
        // JSON readers lose digits of integers this large, so they travel as text.
        MontyObject::BigInt(value) => Value::String(value.to_string()),
        MontyObject::Float(value) => Number::from_f64(value).map_or(Value::Null, Value::Number),
        MontyObject::String(text) | MontyObject::Path(text) => Value::String(text),
        MontyObject::List(items)
        | MontyObject::Tuple(items)
        | MontyObject::Set(items)
        | MontyObject::FrozenSet(items) => array(items, depth)?,
        MontyObject::NamedTuple {
            field_names,
            values,
            ..
        } => {
            let pairs = field_names.into_iter().map(MontyObject::String).zip(values);
            Value::Object(object(pairs, depth)?)
        }
        MontyObject::Dict(pairs) => Value::Object(object(pairs, depth)?),
        MontyObject::ClassInstance(instance) => Value::Object(object(instance.attrs, depth)?),
        MontyObject::Date(date) => Value::String(iso_date(&date)),
        MontyObject::DateTime(time) => Value::String(iso_time(&time)),
        MontyObject::Exception { exc_type, arg } => {
            Value::String(arg.unwrap_or_else(|| exc_type.to_string()))
        }
        MontyObject::Bytes(_) => return Err("bytes (decode them first)".to_owned()),
        MontyObject::Cycle(..) => return Err("a value that contains itself".to_owned()),
        MontyObject::Function { name, .. } => return Err(format!("the function '{name}'")),
        other => {
            let text = other.py_repr();
            let shown: String = text.chars().take(80).collect();
            return Err(shown);
        }
    })
}

fn array(items: Vec<MontyObject>, depth: usize) -> Result<Value, String> {
    items
        .into_iter()
        .map(|item| convert(item, depth))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

fn object(
    pairs: impl IntoIterator<Item = (MontyObject, MontyObject)>,
    depth: usize,
) -> Result<Map<String, Value>, String> {
    pairs
        .into_iter()
        .map(|(key, value)| Ok((key_text(key)?, convert(value, depth)?)))
        .collect()
}

fn key_text(key: MontyObject) -> Result<String, String> {
    Ok(match key {
        MontyObject::String(text) => text,
        MontyObject::None => "null".to_owned(),
        MontyObject::Bool(value) => value.to_string(),
        MontyObject::Int(_) | MontyObject::BigInt(_) | MontyObject::Float(_) => key.py_repr(),
        MontyObject::Date(date) => iso_date(&date),
        other => {
            let shown: String = other.py_repr().chars().take(80).collect();
            return Err(format!("a dict with the key {shown}"));
        }
    })
}

fn iso_date(date: &MontyDate) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

fn iso_time(time: &MontyDateTime) -> String {
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    );
    if time.microsecond != 0 {
        text.push_str(&format!(".{:06}", time.microsecond));
    }
    match time.offset_seconds {
        None => {}
        Some(0) => text.push('Z'),
        Some(offset) => {
            let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.unsigned_abs());
            text.push_str(&format!(
                "{sign}{:02}:{:02}",
                offset / 3600,
                offset / 60 % 60
            ));
        }
    }
    text
}

/// Named inputs of a script.
pub(crate) fn inputs(fields: Map<String, Value>) -> Vec<(String, MontyObject)> {
    let input = |(name, value)| (name, to_script(value));
    fields.into_iter().map(input).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pairs(pairs: Vec<(MontyObject, MontyObject)>) -> MontyObject {
        MontyObject::Dict(monty_types::DictPairs::from(pairs))
    }

    #[test]
    fn json_survives_the_way_in_and_out() {
        let value = json!({
            "a": [1, -2, 2.5, true, null, "text", u64::MAX],
            "b": {"c": {"d": []}},
            "e": i64::MIN,
        });
        let mut expected = value.clone();
        expected["a"][6] = json!(u64::MAX.to_string());
        assert_eq!(to_json(to_script(value)).unwrap(), expected);
    }

    #[test]
    fn keys_become_text_and_what_is_no_json_is_named() {
        let value = pairs(vec![
            (MontyObject::Int(1), MontyObject::Float(f64::INFINITY)),
            (
                MontyObject::None,
                MontyObject::Tuple(vec![MontyObject::Bool(true)]),
            ),
        ]);
        assert_eq!(to_json(value).unwrap(), json!({"1": null, "null": [true]}));
        assert!(
            to_json(MontyObject::Bytes(vec![1]))
                .unwrap_err()
                .contains("bytes")
        );
        let tuple_key = pairs(vec![(MontyObject::Tuple(vec![]), MontyObject::None)]);
        assert!(to_json(tuple_key).unwrap_err().contains("key"));
    }

    #[test]
    fn depth_is_limited() {
        let nested =
            |depth| (0..depth).fold(MontyObject::None, |value, _| MontyObject::List(vec![value]));
        assert!(to_json(nested(MAX_DEPTH - 1)).is_ok());
        assert!(to_json(nested(MAX_DEPTH)).is_err());
    }
}
