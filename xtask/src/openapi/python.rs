//! The contract's types for Python.
//!
//! `NotRequired` came with Python 3.11, so fields that may be absent stand in a class of their own
//! that extends the one of the required fields. An object within another gets a name of its own.

use anyhow::{Result, ensure};

use super::schema::{Event, Field, Named, OF_EVENTS, Schemas, Shape, Variant};

const HEAD: &str =
    "\"\"\"The contract's types, made from openapi/netra.json by `cargo xtask openapi`.

Do not change by hand.
\"\"\"

from __future__ import annotations

from typing import Any, Literal, TypedDict, Union
";

const EVENT: &str = "An event as a socket or an SSE stream carries it; `type` tells what `data` is.

A server that is newer may send types that are not listed: pass them over.";

pub(super) fn types(schemas: &Schemas) -> Result<String> {
    let mut module = Module::default();
    for named in schemas.iter() {
        if !OF_EVENTS.contains(&&*named.name) {
            module.declare(named)?;
        }
    }
    module.class(
        "EventEnvelope",
        "What every event carries besides `type` and `data`.",
        &schemas.envelope()?,
        None,
    )?;
    let events = schemas.events()?;
    for event in &events {
        module.event(event)?;
    }
    module.union("Event", EVENT, &events, |event| {
        format!("\"{}Event\"", camel(&event.name))
    });
    let names: Vec<String> = events.iter().map(|one| format!("{:?}", one.name)).collect();
    module.alias("EventType", "The types of events.", &literal(&names));
    Ok(module.text())
}

/// The module as it grows: aliases may name classes that come later, in quotes.
#[derive(Default)]
struct Module {
    declarations: Vec<String>,
}

impl Module {
    fn text(self) -> String {
        let mut text = HEAD.to_owned();
        let mut after_class = false;
        for declaration in self.declarations {
            let is_class = declaration.starts_with("class ");
            text.push_str(if is_class || after_class {
                "\n\n"
            } else {
                "\n"
            });
            text.push_str(&declaration);
            after_class = is_class;
        }
        text
    }

    fn declare(&mut self, named: &Named) -> Result<()> {
        let name = camel(&named.name);
        match &named.shape {
            Shape::Object(fields) if !fields.is_empty() => {
                self.class(&name, &named.doc, fields, None)
            }
            Shape::Union(variants) if variants.iter().any(|one| is_object(&one.shape)) => {
                self.classes_of(&name, &named.doc, variants)
            }
            shape => {
                let written = self.written(shape, &name, true)?;
                self.alias(&name, &named.doc, &written);
                Ok(())
            }
        }
    }

    /// A union of objects: each gets a class, named by what tells it apart.
    fn classes_of(&mut self, name: &str, doc: &str, variants: &[Variant]) -> Result<()> {
        let mut parts = Vec::new();
        for (at, variant) in variants.iter().enumerate() {
            let class = match &variant.shape {
                Shape::Object(fields) => {
                    let class = format!("{name}{}", tag(fields).unwrap_or_else(|| at.to_string()));
                    self.class(&class, &variant.doc, fields, None)?;
                    format!("\"{class}\"")
                }
                shape => self.written(shape, &format!("{name}{at}"), true)?,
            };
            parts.push(class);
        }
        self.union(name, doc, &parts, Clone::clone);
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        let name = camel(&event.name);
        let data = format!("{name}Data");
        self.class(
            &data,
            &format!("`data` of `{}`.", event.name),
            &event.data,
            None,
        )?;
        let field = |name: &str, shape| Field {
            name: name.to_owned(),
            doc: String::new(),
            required: true,
            shape,
        };
        let fields = [
            field("type", Shape::Choice(vec![event.name.clone()])),
            field("data", Shape::Named(data)),
        ];
        self.class(
            &format!("{name}Event"),
            &event.doc,
            &fields,
            Some("EventEnvelope"),
        )
    }

    fn class(&mut self, name: &str, doc: &str, fields: &[Field], base: Option<&str>) -> Result<()> {
        let (required, optional): (Vec<&Field>, Vec<&Field>) =
            fields.iter().partition(|field| field.required);
        let base = base.unwrap_or("TypedDict").to_owned();
        if optional.is_empty() || required.is_empty() {
            let total = if required.is_empty() && !fields.is_empty() {
                ", total=False"
            } else {
                ""
            };
            let all: Vec<&Field> = fields.iter().collect();
            return self.one_class(name, doc, &format!("{base}{total}"), name, &all);
        }
        let needed = format!("_{name}Required");
        self.one_class(&needed, "", &base, name, &required)?;
        self.one_class(
            name,
            doc,
            &format!("{needed}, total=False"),
            name,
            &optional,
        )
    }

    fn one_class(
        &mut self,
        name: &str,
        doc: &str,
        bases: &str,
        parent: &str,
        fields: &[&Field],
    ) -> Result<()> {
        let mut text = format!("class {name}({bases}):\n");
        if !doc.is_empty() {
            text.push_str(&format!("    \"\"\"{}\"\"\"\n\n", in_doc(doc)));
        }
        for field in fields {
            ensure!(
                !KEYWORDS.contains(&&*field.name),
                "the field {} of {parent} is a word of Python's own",
                field.name
            );
            if !field.doc.is_empty() {
                text.push_str(&format!("    #: {}\n", field.doc.replace('\n', " ")));
            }
            let inner = format!("{parent}{}", camel(&field.name));
            let shape = self.written(&field.shape, &inner, false)?;
            text.push_str(&format!("    {}: {shape}\n", field.name));
        }
        if fields.is_empty() && doc.is_empty() {
            text.push_str("    pass\n");
        }
        self.declarations.push(format!("{}\n", text.trim_end()));
        Ok(())
    }

    fn union<T>(&mut self, name: &str, doc: &str, parts: &[T], write: fn(&T) -> String) {
        let parts: Vec<String> = parts.iter().map(write).collect();
        self.alias(
            name,
            doc,
            &format!("Union[\n    {},\n]", parts.join(",\n    ")),
        );
    }

    fn alias(&mut self, name: &str, doc: &str, value: &str) {
        let mut text = format!("{name} = {value}\n");
        if !doc.is_empty() {
            text.push_str(&format!("\"\"\"{}\"\"\"\n", in_doc(doc)));
        }
        self.declarations.push(text);
    }

    /// A shape as an annotation; `name` is for the class of an object within. Annotations of
    /// fields are never evaluated, aliases are: there names stand in quotes.
    fn written(&mut self, shape: &Shape, name: &str, quoted: bool) -> Result<String> {
        Ok(match shape {
            Shape::Any => "Any".into(),
            Shape::Null => "None".into(),
            Shape::Bool => "bool".into(),
            Shape::Integer => "int".into(),
            Shape::Number => "float".into(),
            Shape::Text => "str".into(),
            Shape::Choice(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
                literal(&texts)
            }
            Shape::Named(other) if quoted => format!("\"{}\"", camel(other)),
            Shape::Named(other) => camel(other),
            Shape::List(item) => format!("list[{}]", self.written(item, name, quoted)?),
            Shape::Map(value) => format!("dict[str, {}]", self.written(value, name, quoted)?),
            Shape::Object(fields) if fields.is_empty() => "dict[str, Any]".into(),
            Shape::Object(fields) => {
                self.class(name, "", fields, None)?;
                if quoted {
                    format!("\"{name}\"")
                } else {
                    name.to_owned()
                }
            }
            Shape::Union(variants) => self.choice(variants, name, quoted)?,
        })
    }

    fn choice(&mut self, variants: &[Variant], name: &str, quoted: bool) -> Result<String> {
        let mut parts = Vec::new();
        for variant in variants.iter().filter(|one| one.shape != Shape::Null) {
            parts.push(self.written(&variant.shape, name, quoted)?);
        }
        let nullable = parts.len() < variants.len();
        if !quoted {
            parts.extend(nullable.then(|| "None".to_owned()));
            return Ok(parts.join(" | "));
        }
        parts.extend(nullable.then(|| "None".to_owned()));
        Ok(match parts.as_slice() {
            [one] => one.clone(),
            _ => format!("Union[{}]", parts.join(", ")),
        })
    }
}

/// Words that cannot be the name of a field.
const KEYWORDS: [&str; 12] = [
    "as", "class", "def", "except", "from", "global", "import", "in", "is", "not", "or", "with",
];

/// One of these texts; many stand in lines of their own.
fn literal(texts: &[String]) -> String {
    let line = texts.join(", ");
    if line.len() < 70 {
        return format!("Literal[{line}]");
    }
    format!("Literal[\n    {},\n]", texts.join(",\n    "))
}

fn is_object(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(fields) if !fields.is_empty())
}

/// What tells an object of a union apart: the one value of its `type`.
fn tag(fields: &[Field]) -> Option<String> {
    fields.iter().find_map(|field| match &field.shape {
        Shape::Choice(texts) if field.name == "type" && texts.len() == 1 => Some(camel(&texts[0])),
        _ => None,
    })
}

/// `run_queued` is `RunQueued`, `Page_Run` is `PageRun`, `run.start` is `RunStart`.
fn camel(name: &str) -> String {
    let mut text = String::new();
    for part in name.split(['_', '.', '-']) {
        let mut letters = part.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

fn in_doc(doc: &str) -> String {
    doc.replace('\\', "\\\\").replace("\"\"\"", "'''")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn optional_fields_and_events_have_classes_of_their_own() {
        let document = json!({ "components": { "schemas": {
            "Reason": { "type": "string", "enum": ["slots", "engines"] },
            "Run": { "type": "object", "description": "A run.", "required": ["id"], "properties": {
                "id": { "type": "string", "description": "Its id." },
                "error": { "oneOf": [{ "type": "null" },
                    { "$ref": "#/components/schemas/Reason" }] } } },
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
            "Reason = Literal[\"slots\", \"engines\"]\n",
            "class _RunRequired(TypedDict):\n    #: Its id.\n    id: str\n",
            "class Run(_RunRequired, total=False):\n    \"\"\"A run.\"\"\"\n\n    error: Reason | None\n",
            "class RunQueuedEvent(EventEnvelope):\n    \"\"\"It waits.\"\"\"\n\n    type: Literal[\"run_queued\"]\n    data: RunQueuedData\n",
            "Event = Union[\n    \"RunQueuedEvent\",\n]\n",
        ] {
            assert!(text.contains(wanted), "{wanted}\n---\n{text}");
        }
    }

    #[test]
    fn a_field_that_python_cannot_name_is_an_error() {
        let document = json!({ "components": { "schemas": { "Span": {
            "type": "object", "required": ["from"], "properties": { "from": { "type": "string" } }
        } } } });
        let error = types(&Schemas::read(&document).unwrap()).unwrap_err();
        assert!(error.to_string().contains("from of Span"), "{error}");
    }
}
