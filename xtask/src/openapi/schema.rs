//! A small model of the contract's schemas, for what is generated from them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

const REFERENCE: &str = "#/components/schemas/";

/// What a value looks like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Any,
    Null,
    Bool,
    Integer,
    Number,
    Text,
    /// One of these texts.
    Choice(Vec<String>),
    /// A schema of its own.
    Named(String),
    List(Box<Shape>),
    Map(Box<Shape>),
    Object(Vec<Field>),
    /// One of these.
    Union(Vec<Variant>),
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
}

/// One of several shapes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variant {
    pub(crate) doc: String,
    pub(crate) shape: Shape,
}

/// A schema with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) shape: Shape,
}

/// Every schema of the contract, by name.
#[derive(Debug, Clone)]
pub(crate) struct Schemas(BTreeMap<String, Named>);

/// One type of event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// As on the wire.
    pub(crate) name: String,
    /// When it comes.
    pub(crate) doc: String,
    /// The fields of `data`.
    pub(crate) data: Vec<Field>,
}

/// The schemas that events are made of; they are generated in a form of their own.
pub(crate) const OF_EVENTS: [&str; 3] = ["Event", "EventKind", "WireEvent"];

impl Schemas {
    /// Reads an OpenAPI document.
    pub(crate) fn read(document: &Value) -> Result<Self> {
        let schemas = document["components"]["schemas"]
            .as_object()
            .context("the document has no schemas")?;
        let raw = Raw(schemas);
        let mut named = BTreeMap::new();
        for (name, schema) in schemas {
            let one = Named {
                name: name.clone(),
                doc: doc(schema),
                shape: raw.shape(schema).with_context(|| name.clone())?,
            };
            named.insert(name.clone(), one);
        }
        if let Some(frames) = named.get_mut("ClientFrame") {
            give_ids(frames);
        }
        Ok(Self(Self::with_references(named)))
    }

    /// Lists carry a copy of what they hold: a copy of a schema becomes its name again.
    fn with_references(named: BTreeMap<String, Named>) -> BTreeMap<String, Named> {
        let objects: Vec<(String, Shape)> = named
            .values()
            .filter(|one| matches!(&one.shape, Shape::Object(fields) if fields.len() > 1))
            .map(|one| (one.name.clone(), one.shape.clone()))
            .collect();
        let named = named.into_iter().map(|(name, mut one)| {
            refer_below(&mut one.shape, &objects);
            (name, one)
        });
        named.collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Named> {
        self.0.values()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Named> {
        self.0.get(name)
    }

    /// The types of events, in the order of the protocol.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        let kinds = self.get("EventKind").context("there is no EventKind")?;
        let Shape::Union(variants) = &kinds.shape else {
            bail!("EventKind is no union");
        };
        variants.iter().map(event).collect()
    }

    /// The fields of an event besides `type` and `data`.
    pub(crate) fn envelope(&self) -> Result<Vec<Field>> {
        let fields = |name: &str| match self.get(name).map(|one| &one.shape) {
            Some(Shape::Object(fields)) => Ok(fields.clone()),
            _ => bail!("{name} is no object"),
        };
        let mut all = fields("WireEvent")?;
        for field in fields("Event")? {
            if all.iter().all(|known| known.name != field.name) {
                all.push(field);
            }
        }
        Ok(all)
    }
}

fn event(variant: &Variant) -> Result<Event> {
    let Shape::Object(fields) = &variant.shape else {
        bail!("a type of event is no object");
    };
    let field = |name: &str| fields.iter().find(|field| field.name == name);
    let name = match field("type").map(|field| &field.shape) {
        Some(Shape::Choice(names)) if names.len() == 1 => names[0].clone(),
        _ => bail!("a type of event has no name"),
    };
    let data = match field("data").map(|field| &field.shape) {
        Some(Shape::Object(data)) => data.clone(),
        _ => bail!("{name} has no data"),
    };
    let doc = variant.doc.clone();
    Ok(Event { name, doc, data })
}

/// The server takes `id` off a frame before it reads the rest, so the schema is without it.
fn give_ids(frames: &mut Named) {
    let Shape::Union(variants) = &mut frames.shape else {
        return;
    };
    for variant in variants {
        if let Shape::Object(fields) = &mut variant.shape {
            let delivered = Shape::Choice(vec!["delivered".to_owned()]);
            let variant = |shape| Variant {
                doc: String::new(),
                shape,
            };
            let id = Field {
                name: "id".to_owned(),
                doc: "The answer carries it back; at most 128 bytes.".to_owned(),
                required: fields.iter().all(|field| field.shape != delivered),
                shape: Shape::Union([Shape::Integer, Shape::Text].map(variant).into()),
            };
            fields.insert(0, id);
        }
    }
}

fn refer_below(shape: &mut Shape, objects: &[(String, Shape)]) {
    let refer = |shape: &mut Shape| match objects.iter().find(|(_, object)| object == shape) {
        Some((name, _)) => *shape = Shape::Named(name.clone()),
        None => refer_below(shape, objects),
    };
    match shape {
        Shape::List(item) | Shape::Map(item) => refer(item),
        Shape::Object(fields) => fields.iter_mut().for_each(|field| refer(&mut field.shape)),
        Shape::Union(variants) => variants.iter_mut().for_each(|one| refer(&mut one.shape)),
        _ => {}
    }
}

fn doc(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// The schemas as they stand in the document.
struct Raw<'a>(&'a Map<String, Value>);

impl Raw<'_> {
    fn shape(&self, schema: &Value) -> Result<Shape> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference
                .strip_prefix(REFERENCE)
                .context("a foreign reference")?;
            return Ok(Shape::Named(name.to_owned()));
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            return self.union(variants);
        }
        if schema["allOf"].is_array() {
            let mut fields = Vec::new();
            self.add_fields(schema, &mut fields)?;
            return Ok(Shape::Object(fields));
        }
        if let Some(values) = schema["enum"].as_array() {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            return Ok(Shape::Choice(
                texts.collect::<Option<_>>().context("a choice")?,
            ));
        }
        match &schema["type"] {
            Value::Null => Ok(Shape::Any),
            Value::String(name) => self.of_type(schema, name),
            Value::Array(names) => {
                let names = names.iter().filter_map(Value::as_str);
                let shapes = names.map(|name| self.of_type(schema, name));
                let variant = |shape| Variant {
                    doc: String::new(),
                    shape,
                };
                Ok(Shape::Union(
                    shapes
                        .map(|shape| shape.map(variant))
                        .collect::<Result<_>>()?,
                ))
            }
            other => bail!("a type that is none: {other}"),
        }
    }

    fn union(&self, variants: &[Value]) -> Result<Shape> {
        let variant = |schema: &Value| {
            Ok(Variant {
                doc: doc(schema),
                shape: self.shape(schema)?,
            })
        };
        Ok(Shape::Union(
            variants.iter().map(variant).collect::<Result<_>>()?,
        ))
    }

    fn of_type(&self, schema: &Value, name: &str) -> Result<Shape> {
        Ok(match name {
            "null" => Shape::Null,
            "boolean" => Shape::Bool,
            "integer" => Shape::Integer,
            "number" => Shape::Number,
            "string" => Shape::Text,
            "array" => Shape::List(Box::new(self.shape(&schema["items"])?)),
            "object" if schema["properties"].is_object() => {
                let mut fields = Vec::new();
                self.add_fields(schema, &mut fields)?;
                Shape::Object(fields)
            }
            "object" if schema["additionalProperties"].is_object() => {
                Shape::Map(Box::new(self.shape(&schema["additionalProperties"])?))
            }
            "object" => Shape::Object(Vec::new()),
            other => bail!("the type {other} is not known"),
        })
    }

    /// The fields of an object, of one that is named, and of all parts of one that is joined. What
    /// a part has besides fields, such as the kinds of events, is told in a form of its own.
    fn add_fields(&self, schema: &Value, fields: &mut Vec<Field>) -> Result<()> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.strip_prefix(REFERENCE).unwrap_or_default();
            let named = self
                .0
                .get(name)
                .with_context(|| format!("no schema {name}"))?;
            return self.add_fields(named, fields);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.add_fields(part, fields)?;
        }
        let required = schema["required"].as_array();
        let is_required =
            |name: &str| required.is_some_and(|names| names.iter().any(|one| one == name));
        // In the order of their names, in which order the document may have them.
        let properties = schema["properties"].as_object().into_iter().flatten();
        for (name, property) in properties.collect::<BTreeMap<_, _>>() {
            fields.push(Field {
                name: name.clone(),
                doc: field_doc(property),
                // A field with a default is always written.
                required: is_required(name) || property.get("default").is_some(),
                shape: self.shape(property)?,
            });
        }
        Ok(())
    }
}

/// What a field means: where it may be null, that stands beside its reference.
fn field_doc(property: &Value) -> String {
    let own = doc(property);
    if !own.is_empty() {
        return own;
    }
    let variants = property["oneOf"].as_array().into_iter().flatten();
    variants
        .map(doc)
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(schemas: Value) -> Schemas {
        Schemas::read(&json!({ "components": { "schemas": schemas } })).unwrap()
    }

    #[test]
    fn fields_are_optional_unless_required_or_with_a_default() {
        let schemas = read(json!({
            "Run": {
                "type": "object", "description": "A run.", "required": ["id"],
                "properties": {
                    "id": { "$ref": "#/components/schemas/RunId", "description": "Its id." },
                    "error": { "oneOf": [{ "type": "null" },
                        { "$ref": "#/components/schemas/Failure", "description": "Why." }] },
                    "calls": { "type": "integer", "default": 0 }
                }
            },
            "RunId": { "type": "string" }, "Failure": { "type": "string" }
        }));
        let Shape::Object(fields) = &schemas.get("Run").unwrap().shape else {
            panic!("an object")
        };
        let named: Vec<(&str, bool, &str)> = fields
            .iter()
            .map(|field| (&*field.name, field.required, &*field.doc))
            .collect();
        assert_eq!(
            named,
            [
                ("calls", true, ""),
                ("error", false, "Why."),
                ("id", true, "Its id.")
            ]
        );
    }

    #[test]
    fn a_frame_of_a_client_has_an_id_and_one_that_is_not_answered_may_lack_it() {
        let frame = |name: &str| {
            json!({ "type": "object", "required": ["type"],
            "properties": { "type": { "type": "string", "enum": [name] } } })
        };
        let frames = json!({ "oneOf": [frame("ping"), frame("delivered")] });
        let schemas = read(json!({ "ClientFrame": frames }));
        let Shape::Union(variants) = &schemas.get("ClientFrame").unwrap().shape else {
            panic!("a union")
        };
        let required: Vec<bool> = variants
            .iter()
            .map(|variant| match &variant.shape {
                Shape::Object(fields) => fields.iter().any(|f| f.name == "id" && f.required),
                _ => panic!("an object"),
            })
            .collect();
        assert_eq!(required, [true, false]);
    }

    #[test]
    fn joined_parts_are_one_object_and_copies_are_references() {
        let item = json!({ "type": "object", "required": ["a", "b"],
            "properties": { "a": { "type": "string" }, "b": { "type": "boolean" } } });
        let schemas = read(json!({
            "Item": item,
            "Page_Item": { "type": "object", "required": ["items"],
                "properties": { "items": { "type": "array", "items": item } } },
            "More": { "allOf": [{ "$ref": "#/components/schemas/Item" },
                { "type": "object", "properties": { "c": { "type": "number" } } }] }
        }));
        let shape = |name: &str| schemas.get(name).unwrap().shape.clone();
        let Shape::Object(page) = shape("Page_Item") else {
            panic!("an object")
        };
        assert_eq!(
            page[0].shape,
            Shape::List(Box::new(Shape::Named("Item".into())))
        );
        let Shape::Object(more) = shape("More") else {
            panic!("an object")
        };
        let names: Vec<&str> = more.iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
