//! What the OpenAPI document says there is: operations, frames, and every place in them where an
//! id stands.

use anyhow::{Context as _, Result, ensure};
use netra_client::{Client, Method};
use serde_json::Value;

/// Schemas within schemas that are followed; more is a circle.
const DEEPEST: usize = 12;

/// Where an id stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the path.
    Path,
    /// In a parameter behind the `?`.
    Query(String),
    /// In the body, or in a frame, at this JSON pointer.
    Body(String),
}

/// An id in a request: where, and of which kind, such as `RunId`.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) place: Place,
    pub(super) kind: String,
}

/// One operation over HTTP.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) method: Method,
    /// With its parameter in braces.
    pub(super) path: String,
    pub(super) ids: Vec<Named>,
}

/// One kind of frame that clients send.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) name: String,
    pub(super) ids: Vec<Named>,
}

/// Parameters that hold ids and are texts in the document, and those that hold none.
const ID_PARAMETERS: [(&str, &str); 1] = [("threads", "ThreadId")];
const PLAIN_PARAMETERS: [&str; 12] = [
    "action",
    "status",
    "limit",
    "cursor",
    "q",
    "after",
    "deltas",
    "timeout_ms",
    "name",
    "ticket",
    "Last-Event-ID",
    "Idempotency-Key",
];

/// The document that the server itself hands out.
pub(super) async fn document(client: &Client) -> Result<Value> {
    let request = client.request(Method::GET, "/api/openapi.json");
    Ok(serde_json::from_str(
        &client.send(request).await?.text().await?,
    )?)
}

/// Every operation of the document.
pub(super) fn operations(document: &Value) -> Result<Vec<Operation>> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().context("paths")? {
        for (method, described) in methods.as_object().context("methods")? {
            let name = described["operationId"].as_str().context("operationId")?;
            let mut ids = parameter_ids(name, described)?;
            if let Some(contents) = described["requestBody"]["content"].as_object() {
                for content in contents.values() {
                    ids.extend(body_ids(document, &content["schema"])?);
                }
            }
            all.push(Operation {
                name: name.to_owned(),
                method: method.to_uppercase().parse()?,
                path: path.clone(),
                ids,
            });
        }
    }
    Ok(all)
}

/// Every frame of the document.
pub(super) fn frames(document: &Value) -> Result<Vec<Frame>> {
    let frames = document["components"]["schemas"]["ClientFrame"]["oneOf"].as_array();
    let frames = frames.context("ClientFrame has kinds")?.iter();
    frames
        .map(|schema| {
            let name = schema["allOf"]
                .as_array()
                .into_iter()
                .flatten()
                .chain([schema])
                .find_map(|part| part["properties"]["type"]["enum"][0].as_str())
                .context("a frame has a type")?;
            Ok(Frame {
                name: name.to_owned(),
                ids: body_ids(document, schema)?,
            })
        })
        .collect()
}

fn parameter_ids(operation: &str, described: &Value) -> Result<Vec<Named>> {
    let mut ids = Vec::new();
    for parameter in described["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().context("a name")?;
        let kind = id_kind(&parameter["schema"]);
        let by_name = ID_PARAMETERS.iter().find(|(known, _)| *known == name);
        let (place, kind) = match (parameter["in"].as_str(), kind, by_name) {
            (Some("path"), Some(kind), _) => (Place::Path, kind),
            (Some("query"), Some(kind), _) => (Place::Query(name.to_owned()), kind),
            (Some("query"), None, Some((_, kind))) => (Place::Query(name.to_owned()), *kind),
            _ => {
                ensure!(
                    PLAIN_PARAMETERS.contains(&name),
                    "{operation}: say in `security/contract.rs` whether `{name}` holds ids"
                );
                continue;
            }
        };
        ids.push(Named {
            place,
            kind: kind.to_owned(),
        });
    }
    Ok(ids)
}

fn body_ids(document: &Value, schema: &Value) -> Result<Vec<Named>> {
    let mut found = Vec::new();
    walk(document, schema, String::new(), &mut found, 0)?;
    Ok(found)
}

/// The kind of id that a schema names, if it names one.
fn id_kind(schema: &Value) -> Option<&str> {
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    name.ends_with("Id").then_some(name)
}

fn walk(
    document: &Value,
    schema: &Value,
    pointer: String,
    found: &mut Vec<Named>,
    depth: usize,
) -> Result<()> {
    ensure!(depth < DEEPEST, "{pointer}: the schema goes in circles");
    if let Some(kind) = id_kind(schema) {
        found.push(Named {
            place: Place::Body(pointer),
            kind: kind.to_owned(),
        });
        return Ok(());
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#'));
        let target = target.with_context(|| format!("{reference} leads nowhere"))?;
        return walk(document, target, pointer, found, depth + 1);
    }
    for list in ["allOf", "oneOf", "anyOf"] {
        for part in schema[list].as_array().into_iter().flatten() {
            walk(document, part, pointer.clone(), found, depth + 1)?;
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = format!("{pointer}/{name}");
        walk(document, property, below, found, depth + 1)?;
    }
    if schema["items"].is_object() {
        let below = format!("{pointer}/0");
        walk(document, &schema["items"], below, found, depth + 1)?;
    }
    Ok(())
}

/// Puts a value at a JSON pointer, and makes the objects and lists on the way.
pub(super) fn put(body: &mut Value, pointer: &str, value: &str) {
    let mut place = body;
    for step in pointer.split('/').skip(1) {
        place = if step == "0" {
            if !place.is_array() {
                *place = Value::Array(vec![Value::Null]);
            }
            &mut place[0]
        } else {
            &mut place[step]
        };
    }
    *place = value.into();
}

#[test]
fn ids_are_found_wherever_they_stand() -> Result<()> {
    let reference =
        |name: &str| serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
    let document = serde_json::json!({"components": {"schemas": {
        "RunId": {"type": "string"},
        "Inner": {"properties": {"deep": {"items": reference("RunId")}}},
    }}});
    let schema = serde_json::json!({"allOf": [
        {"oneOf": [{"type": "null"}, reference("Inner")]},
        {"properties": {"run_id": reference("RunId"), "name": {"type": "string"}}},
    ]});
    let found = body_ids(&document, &schema)?;
    let places: Vec<_> = found.into_iter().map(|named| named.place).collect();
    let at = |pointer: &str| Place::Body(pointer.to_owned());
    assert_eq!(places, [at("/deep/0"), at("/run_id")]);
    let mut body = serde_json::json!({});
    put(&mut body, "/deep/0", "x");
    assert_eq!(body, serde_json::json!({"deep": ["x"]}));
    Ok(())
}
