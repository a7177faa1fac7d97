//! What providers make of a JSON Schema that answers must fit: each takes only a part of the
//! language, and refuses the whole request for a word that it does not know.

use serde_json::{Map, Value};

/// Where a schema's fields hold further schemas.
enum Place {
    /// One schema.
    Schema,
    /// A list of schemas.
    List,
    /// Schemas by names that are not words of the language.
    Named,
    /// No schema.
    Plain,
}

fn place(word: &str) -> Place {
    match word {
        "items" | "additionalProperties" | "not" | "if" | "then" | "else" | "contains" => {
            Place::Schema
        }
        "anyOf" | "allOf" | "oneOf" | "prefixItems" => Place::List,
        "properties" | "$defs" | "definitions" | "patternProperties" => Place::Named,
        _ => Place::Plain,
    }
}

/// The words that OpenAI's strict mode knows.
const STRICT: [&str; 19] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "minimum",
    "maximum",
    "multipleOf",
    "pattern",
    "minItems",
    "maxItems",
];

/// Whether a schema keeps the rules of OpenAI's strict mode, in which the answer is sure to fit:
/// known words only, an object at the top, and each object has all of its properties and no
/// others.
pub(crate) fn is_strict(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object") && is_strict_part(schema)
}

fn is_strict_part(schema: &Value) -> bool {
    let Value::Object(fields) = schema else {
        return false;
    };
    is_closed(fields)
        && fields.iter().all(|(word, value)| {
            STRICT.contains(&word.as_str())
                && match place(word) {
                    Place::Schema => *value == Value::Bool(false) || is_strict_part(value),
                    Place::List => value
                        .as_array()
                        .is_some_and(|list| list.iter().all(is_strict_part)),
                    Place::Named => value
                        .as_object()
                        .is_some_and(|named| named.values().all(is_strict_part)),
                    Place::Plain => true,
                }
        })
}

/// Whether it describes no object, or one that has all of its properties and no others.
fn is_closed(fields: &Map<String, Value>) -> bool {
    if !describes_object(fields) {
        return true;
    }
    let names = fields.get("properties").and_then(Value::as_object);
    let required = fields.get("required").and_then(Value::as_array);
    let is_required =
        |name: &String| required.is_some_and(|required| required.iter().any(|r| r == name));
    fields.get("additionalProperties") == Some(&Value::Bool(false))
        && names.is_none_or(|names| names.keys().all(is_required))
}

fn describes_object(fields: &Map<String, Value>) -> bool {
    let named = |kind: &Value| match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "object"),
        kind => kind == "object",
    };
    fields.get("type").is_some_and(named) || fields.contains_key("properties")
}

/// The words that Anthropic refuses in the schema of an answer.
const REFUSED: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "$schema",
    "$id",
];

/// A schema that Anthropic takes, and that every answer which fits it shares with the given one
/// but for bounds of numbers, texts and lists: those must be checked afterwards.
pub(crate) fn without_bounds(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema.clone();
    };
    let mut kept = Map::new();
    for (word, value) in fields {
        if REFUSED.contains(&word.as_str()) {
            continue;
        }
        let value = match (place(word), value) {
            (Place::Schema, inner) => without_bounds(inner),
            (Place::List, Value::Array(list)) => list.iter().map(without_bounds).collect(),
            (Place::Named, Value::Object(named)) => Value::Object(
                named
                    .iter()
                    .map(|(name, inner)| (name.clone(), without_bounds(inner)))
                    .collect(),
            ),
            (_, plain) => plain.clone(),
        };
        kept.insert(word.clone(), value);
    }
    if describes_object(&kept) {
        // Required there, and it makes the answer only narrower.
        kept.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strict_is_what_has_all_and_nothing_else() {
        let good = json!({
            "type": "object", "additionalProperties": false, "required": ["minLength", "list"],
            "properties": {
                "minLength": { "type": ["string", "null"] },
                "list": { "type": "array", "items": { "$ref": "#/$defs/n" } },
            },
            "$defs": { "n": { "type": "number", "minimum": 1 } },
        });
        assert!(is_strict(&good));
        for (pointer, value) in [
            ("/additionalProperties", json!(true)),
            ("/required", json!(["list"])),
            (
                "/properties/list/items",
                json!({ "type": "object", "properties": { "a": {} } }),
            ),
            (
                "/$defs/n",
                json!({ "type": "number", "exclusiveMinimum": 1 }),
            ),
            ("/type", json!("array")),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert!(!is_strict(&bad), "{pointer}");
        }
    }

    #[test]
    fn bounds_go_and_properties_of_their_names_stay() {
        let schema = json!({
            "type": "object", "$schema": "x", "required": ["maximum"],
            "properties": {
                "maximum": { "type": "integer", "maximum": 9, "enum": [1, 2] },
                "rows": { "type": "array", "maxItems": 3, "items": {
                    "anyOf": [{ "type": "string", "minLength": 1 }, { "properties": {} }] } },
            },
        });
        assert_eq!(
            without_bounds(&schema),
            json!({
                "type": "object", "required": ["maximum"], "additionalProperties": false,
                "properties": {
                    "maximum": { "type": "integer", "enum": [1, 2] },
                    "rows": { "type": "array", "items": {
                        "anyOf": [{ "type": "string" },
                                  { "properties": {}, "additionalProperties": false }] } },
                },
            })
        );
    }
}
