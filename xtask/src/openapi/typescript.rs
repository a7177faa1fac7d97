//! The contract's types for TypeScript.

use anyhow::Result;

use super::schema::{Field, Named, OF_EVENTS, Schemas, Shape};

const HEAD: &str = "// The contract's types, made from openapi/netra.json by `cargo xtask openapi`. Do not change by hand.\n";

/// What stands after the schemas: events by their type.
const EVENTS: &str = "
export type EventType = keyof EventData;
export type EventDataOf<T extends EventType> = EventData[T];

/** An event of one type. A server that is newer may send types that are not listed: pass them over. */
export type EventOf<T extends EventType> = T extends EventType
  ? EventEnvelope & { type: T; data: EventData[T] }
  : never;

/** An event as a socket or an SSE stream carries it; `type` tells what `data` is. */
export type WireEvent = EventOf<EventType>;
";

pub(super) fn types(schemas: &Schemas) -> Result<String> {
    let mut text = HEAD.to_owned();
    let others = schemas
        .iter()
        .filter(|one| !OF_EVENTS.contains(&&*one.name));
    for named in others {
        text.push('\n');
        declare(&mut text, named);
    }
    text.push_str("\n/** What every event carries besides `type` and `data`. */\n");
    text.push_str("export interface EventEnvelope ");
    write_fields(&mut text, &schemas.envelope()?, 0);
    text.push_str("\n\n/** What each type of event carries in `data`. */\n");
    text.push_str("export interface EventData {\n");
    for event in schemas.events()? {
        write_doc(&mut text, &event.doc, 1);
        text.push_str(&format!("  {}: ", event.name));
        write_fields(&mut text, &event.data, 1);
        text.push_str(";\n");
    }
    text.push_str("}\n");
    text.push_str(EVENTS);
    Ok(text)
}

fn declare(text: &mut String, named: &Named) {
    write_doc(text, &named.doc, 0);
    let name = type_name(&named.name);
    match &named.shape {
        Shape::Object(fields) => {
            text.push_str(&format!("export interface {name} "));
            write_fields(text, fields, 0);
            text.push('\n');
        }
        shape => text.push_str(&format!("export type {name} = {};\n", written(shape, 0))),
    }
}

/// `Page_Run` is `PageRun`.
fn type_name(name: &str) -> String {
    name.replace('_', "")
}

fn write_doc(text: &mut String, doc: &str, depth: usize) {
    if !doc.is_empty() {
        let doc = doc.replace("*/", "* /").replace('\n', " ");
        text.push_str(&format!("{}/** {doc} */\n", "  ".repeat(depth)));
    }
}

fn write_fields(text: &mut String, fields: &[Field], depth: usize) {
    if fields.is_empty() {
        text.push_str("{}");
        return;
    }
    text.push_str("{\n");
    for field in fields {
        write_doc(text, &field.doc, depth + 1);
        let mark = if field.required { "" } else { "?" };
        let shape = written(&field.shape, depth + 1);
        let indent = "  ".repeat(depth + 1);
        text.push_str(&format!("{indent}{}{mark}: {shape};\n", field.name));
    }
    text.push_str(&format!("{}}}", "  ".repeat(depth)));
}

fn written(shape: &Shape, depth: usize) -> String {
    match shape {
        Shape::Any => "unknown".into(),
        Shape::Null => "null".into(),
        Shape::Bool => "boolean".into(),
        Shape::Integer | Shape::Number => "number".into(),
        Shape::Text => "string".into(),
        Shape::Choice(texts) => {
            let quoted: Vec<String> = texts.iter().map(|text| format!("'{text}'")).collect();
            quoted.join(" | ")
        }
        Shape::Named(name) => type_name(name),
        Shape::List(item) => match written(item, depth) {
            item if item.contains(' ') => format!("Array<{item}>"),
            item => format!("{item}[]"),
        },
        Shape::Map(value) => format!("Record<string, {}>", written(value, depth)),
        Shape::Object(fields) if fields.is_empty() => "Record<string, unknown>".into(),
        Shape::Object(fields) => {
            let mut text = String::new();
            write_fields(&mut text, fields, depth);
            text
        }
        Shape::Union(variants) => {
            let variants = variants.iter().map(|one| written(&one.shape, depth));
            variants.collect::<Vec<_>>().join(" | ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_told_apart_by_their_type() {
        let document = json!({ "components": { "schemas": {
            "Reason": { "type": "string", "enum": ["slots", "engines"] },
            "EventKind": { "oneOf": [{ "type": "object", "description": "It waits.",
                "required": ["data", "type"], "properties": {
                    "type": { "type": "string", "enum": ["run_queued"] },
                    "data": { "type": "object", "required": ["reason"], "properties": {
                        "reason": { "$ref": "#/components/schemas/Reason" } } } } }] },
            "Event": { "allOf": [{ "$ref": "#/components/schemas/EventKind" },
                { "type": "object", "required": ["ts"],
                  "properties": { "ts": { "type": "string" } } }] },
            "WireEvent": { "allOf": [{ "$ref": "#/components/schemas/Event" },
                { "type": "object", "required": ["seq"],
                  "properties": { "seq": { "type": "integer" } } }] }
        } } });
        let text = types(&Schemas::read(&document).unwrap()).unwrap();
        for wanted in [
            "export type Reason = 'slots' | 'engines';\n",
            "export interface EventEnvelope {\n  ts: string;\n  seq: number;\n}",
            "export interface EventData {\n  /** It waits. */\n  run_queued: {\n    reason: Reason;\n  };\n}",
        ] {
            assert!(text.contains(wanted), "{wanted}\n---\n{text}");
        }
    }
}
