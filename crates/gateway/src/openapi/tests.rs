//! The document says everything, and what it shows fits what it says.

use serde_json::{Value, json};

use super::*;

const METHODS: [&str; 5] = ["get", "post", "patch", "put", "delete"];

/// The document, and each of its operations with its path.
fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            all.extend(item.get(method).map(|operation| (path.as_str(), operation)));
        }
    }
    all
}

fn document() -> Value {
    serde_json::to_value(openapi()).unwrap()
}

#[test]
fn every_operation_has_a_summary_an_id_and_errors() {
    let document = document();
    let mut ids = std::collections::BTreeSet::new();
    for (path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{path}");
        assert!(ids.insert(id.to_owned()), "{path}: {id} twice");
        assert!(operation["responses"].get("500").is_some(), "{path}");
        let signed_in = operation.get("security").is_some();
        let refuses = operation["responses"].get("401").is_some();
        assert!(refuses || !signed_in, "{path}");
    }
}

#[test]
fn no_reference_leads_nowhere() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for reference in text.split("\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().unwrap());
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
}

/// Why the example does not fit its schema, where it does not.
fn misfits(document: &Value, schema: &Value, example: &Value) -> Vec<String> {
    let rooted = json!({ "allOf": [schema], "components": document["components"] });
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&rooted)
        .unwrap();
    let errors = validator.iter_errors(example);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn every_body_has_an_example_that_fits_its_schema() {
    let document = document();
    let mut problems = Vec::new();
    for (path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let answers = operation["responses"].as_object().unwrap();
        let bodies = answers.iter().map(|(status, answer)| {
            let answer = match answer["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
                None => answer,
            };
            (status.as_str(), answer)
        });
        let bodies = bodies.chain([("request", &operation["requestBody"])]);
        for (which, body) in bodies {
            for (kind, content) in body["content"].as_object().into_iter().flatten() {
                match content.get("example") {
                    None => problems.push(format!("{path} {id} {which} {kind}: no example")),
                    Some(example) => {
                        for misfit in misfits(&document, &content["schema"], example) {
                            problems.push(format!("{path} {id} {which} {kind}: {misfit}"));
                        }
                    }
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_parameter_has_an_example_that_fits_its_schema() {
    let document = document();
    let mut problems = Vec::new();
    for (path, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            let named = schema["$ref"].as_str().map(|reference| {
                let named = document.pointer(reference.trim_start_matches('#'));
                &named.unwrap()["examples"][0]
            });
            let example = parameter.get("example").or(named).unwrap_or(&Value::Null);
            let found = misfits(&document, schema, example);
            if example.is_null() || !found.is_empty() {
                problems.push(format!("{path} {}: {example} {found:?}", parameter["name"]));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn an_example_that_does_not_fit_is_found() {
    let document = document();
    let schema = json!({ "$ref": "#/components/schemas/Login" });
    assert_eq!(
        misfits(&document, &schema, &json!({"name": "a", "password": "b"})).len(),
        0
    );
    assert_eq!(
        misfits(&document, &schema, &json!({"name": 7, "passwort": "b"})).len(),
        3
    );
}
