//! The event catalogue in the documents: when each type comes, and what its `data` has.

use anyhow::{Context as _, Result, bail, ensure};

use super::schema::{Event, Field, Schemas, Shape};

const BEGIN: &str = "<!-- generated: event catalogue -->";
const END: &str = "<!-- end of the catalogue -->";

/// What is told together, in the order in which a run meets it.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "The run",
        &[
            "run_queued",
            "run_started",
            "run_completed",
            "run_failed",
            "run_cancelled",
            "run_timed_out",
            "limit_warning",
        ],
    ),
    (
        "Agents",
        &["agent_started", "agent_thinking", "agent_completed"],
    ),
    ("Messages", &["message_delta", "message_completed"]),
    (
        "Tools",
        &[
            "tool_executing",
            "tool_progress",
            "tool_completed",
            "tool_denied",
            "artifact_created",
        ],
    ),
    (
        "Questions to a person, and runs that go on",
        &[
            "approval_requested",
            "approval_resolved",
            "run_waiting",
            "run_resumed",
        ],
    ),
];

/// The page with the catalogue of these schemas in place of the one that it has.
pub(super) fn page(page: &str, schemas: &Schemas) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .with_context(|| format!("the page has no {BEGIN}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("the page has no {END}"))?;
    let catalogue = catalogue(schemas)?;
    Ok(format!("{before}{BEGIN}\n{catalogue}\n{END}{after}"))
}

fn catalogue(schemas: &Schemas) -> Result<String> {
    let mut events = schemas.events()?;
    let mut text = String::new();
    for (heading, types) in GROUPS {
        text.push_str(&format!(
            "\n**{heading}**\n\n| `type` | When | `data` | Is | Meaning |\n|---|---|---|---|---|\n"
        ));
        for name in types {
            let at = events.iter().position(|event| event.name == *name);
            let event = events.remove(at.with_context(|| format!("there is no event {name}"))?);
            rows(&mut text, &event, schemas)?;
        }
    }
    if let Some(left) = events.first() {
        bail!(
            "the event {} is in no group of xtask/src/openapi/catalogue.rs",
            left.name
        );
    }
    Ok(text)
}

/// A line for each field; the first one names the event.
fn rows(text: &mut String, event: &Event, schemas: &Schemas) -> Result<()> {
    ensure!(!event.doc.is_empty(), "{} has no description", event.name);
    let mut first = format!("`{}` | {}", event.name, cell(&event.doc));
    for Field {
        name,
        doc,
        required,
        shape,
    } in &event.data
    {
        ensure!(!doc.is_empty(), "{}.{name} has no description", event.name);
        let mark = if *required { "" } else { "?" };
        let shape = shown(shape, schemas);
        let doc = cell(doc);
        text.push_str(&format!("| {first} | `{name}{mark}` | {shape} | {doc} |\n"));
        " | ".clone_into(&mut first);
    }
    Ok(())
}

/// A description as a cell of a table: in one line, without the full stop.
fn cell(doc: &str) -> String {
    let line = doc.replace('\n', " ").replace('|', "\\|");
    line.strip_suffix('.').unwrap_or(&line).to_owned()
}

/// A shape in words.
fn shown(shape: &Shape, schemas: &Schemas) -> String {
    match shape {
        Shape::Any => "any JSON".into(),
        Shape::Null => "null".into(),
        Shape::Bool => "true or false".into(),
        Shape::Integer => "integer".into(),
        Shape::Number => "number".into(),
        Shape::Text => "text".into(),
        Shape::Choice(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
            texts.join(", ")
        }
        Shape::Named(name) if name == "Timestamp" => "time".into(),
        Shape::Named(name) if name.ends_with("Id") => "id".into(),
        Shape::Named(name) => match schemas.get(name).map(|named| &named.shape) {
            Some(shape @ (Shape::Text | Shape::Choice(_))) => shown(shape, schemas),
            _ => format!("`{name}`"),
        },
        Shape::List(item) => format!("list of {}", shown(item, schemas)),
        Shape::Map(_) | Shape::Object(_) => "object".into(),
        Shape::Union(variants) => {
            let others = variants.iter().filter(|one| one.shape != Shape::Null);
            let others: Vec<String> = others.map(|one| shown(&one.shape, schemas)).collect();
            others.join(" or ")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn schemas(names: &[&str]) -> Schemas {
        let event = |name: &&str| {
            json!({ "type": "object", "description": "It comes.", "required": ["data", "type"],
                "properties": { "type": { "type": "string", "enum": [name] },
                    "data": { "type": "object", "required": ["run_id"], "properties": {
                        "run_id": { "$ref": "#/components/schemas/RunId", "description": "The run." },
                        "why": { "oneOf": [{ "type": "null" }, { "description": "In | words.",
                            "$ref": "#/components/schemas/Reason" }] } } } } })
        };
        let kinds: Vec<Value> = names.iter().map(event).collect();
        Schemas::read(&json!({ "components": { "schemas": {
            "RunId": { "type": "string" },
            "Reason": { "type": "string", "enum": ["slots", "engines"] },
            "EventKind": { "oneOf": kinds }
        } } }))
        .unwrap()
    }

    fn all() -> Vec<&'static str> {
        GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect()
    }

    #[test]
    fn the_catalogue_takes_the_place_of_the_old_one_and_nothing_else_changes() {
        let old = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = page(&old, &schemas(&all())).unwrap();
        assert!(
            new.starts_with(&format!("before\n{BEGIN}\n\n**The run**\n")),
            "{new}"
        );
        assert!(new.ends_with(&format!("\n{END}\nafter\n")), "{new}");
        let rows = "| `run_queued` | It comes | `run_id` | id | The run |\n\
                    |  |  | `why?` | `slots`, `engines` | In \\| words |\n";
        assert!(new.contains(rows), "{new}");
        assert_eq!(page(&new, &schemas(&all())).unwrap(), new);
        page("no marks", &schemas(&all())).unwrap_err();
    }

    #[test]
    fn an_event_without_a_group_and_a_group_without_its_event_are_errors() {
        let mut names = all();
        names.push("moon_rose");
        let error = catalogue(&schemas(&names)).unwrap_err().to_string();
        assert!(error.contains("moon_rose"), "{error}");
        let error = catalogue(&schemas(&all()[1..])).unwrap_err().to_string();
        assert!(error.contains("run_queued"), "{error}");
    }
}
