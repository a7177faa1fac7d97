//! Every rule that the document has for a body is the server's rule, and whoever breaks it is told the field and the rule.

use serde_json::json;

use super::*;

/// A body that breaks one rule, and what the answer has to say.
struct Broken {
    body: Value,
    field: String,
    rule: String,
}

/// Goes over a schema beside a body that fits it, and breaks each rule in turn.
struct Breaker<'a> {
    document: &'a Value,
    body: &'a Value,
    found: Vec<Broken>,
}

impl<'a> Breaker<'a> {
    /// The schema itself, where another stands for it; null beside it is no rule.
    fn resolved(&self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.document.pointer(reference.trim_start_matches('#'));
            return self.resolved(target.unwrap());
        }
        let or_null = schema["oneOf"]
            .as_array()
            .filter(|one| one[0]["type"] == "null");
        or_null.map_or(schema, |one| self.resolved(&one[1]))
    }

    fn put(&mut self, pointer: &str, value: Value, rule: impl Into<String>) {
        let mut body = self.body.clone();
        let mut place = &mut body;
        for step in pointer.split('/').skip(1) {
            place = match step {
                "0" => {
                    if !place.is_array() {
                        *place = json!([null]);
                    }
                    &mut place[0]
                }
                name => {
                    if !place.is_object() {
                        *place = json!({});
                    }
                    &mut place[name]
                }
            };
        }
        *place = value;
        let field = pointer.trim_start_matches('/').replace("/0", "[0]");
        let (field, rule) = (field.replace('/', "."), rule.into());
        self.found.push(Broken { body, field, rule });
    }

    fn value(&mut self, schema: &'a Value, pointer: &str) {
        let schema = self.resolved(schema);
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds[0].as_str(),
            kind => kind.as_str(),
        };
        let Some(kind) = kind else { return };
        let other = match kind {
            "string" | "array" => json!(7),
            _ => json!("x"),
        };
        self.put(pointer, other, format!("type {kind}"));
        if kind == "object" {
            self.by_place(pointer);
        }
        match kind {
            "string" => self.text(schema, pointer),
            "integer" => self.number(schema, pointer),
            "array" => self.list(schema, pointer),
            "object" => self.object(schema, pointer),
            _ => {}
        }
    }

    /// An object as the list of its fields' values, in their order, and as an empty list.
    fn by_place(&mut self, pointer: &str) {
        let fields = self.body.pointer(pointer).and_then(Value::as_object);
        let values: Vec<&Value> = fields
            .into_iter()
            .flat_map(|fields| fields.values())
            .collect();
        for list in [json!(values), json!([])] {
            self.put(pointer, list, "type object");
        }
    }

    fn text(&mut self, schema: &'a Value, pointer: &str) {
        if let Some(words) = schema["enum"].as_array() {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            self.put(pointer, json!("none"), format!("enum {}", words.join(", ")));
        }
        if let Some(least) = schema["minLength"].as_u64() {
            let short = "x".repeat(least as usize - 1);
            self.put(pointer, json!(short), format!("minLength {least}"));
        }
        if let Some(most) = schema["maxLength"].as_u64() {
            let long = json!("x".repeat(most as usize + 1));
            // Bytes are counted where the document can only count characters.
            let rule = if pointer == "/value" {
                "maxBytes"
            } else {
                "maxLength"
            };
            self.put(pointer, long, format!("{rule} {most}"));
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let control = json!("\u{1}".repeat(12));
            self.put(pointer, control, format!("pattern {pattern}"));
        }
        if let Some(format) = schema["format"].as_str() {
            self.put(pointer, json!("x"), format!("format {format}"));
        }
    }

    fn number(&mut self, schema: &'a Value, pointer: &str) {
        if let Some(least) = schema["minimum"].as_i64() {
            self.put(pointer, json!(least - 1), format!("minimum {least}"));
        }
        if let Some(most) = schema["maximum"].as_u64() {
            self.put(pointer, json!(most + 1), format!("maximum {most}"));
        }
    }

    fn list(&mut self, schema: &'a Value, pointer: &str) {
        if let Some(least) = schema["minItems"].as_u64() {
            self.put(pointer, json!([]), format!("minItems {least}"));
        }
        if let Some(most) = schema["maxItems"].as_u64() {
            let item = self.body.pointer(&format!("{pointer}/0")).cloned();
            let item = item.unwrap_or_else(|| panic!("{pointer} has an example of an item"));
            let many = json!(vec![item; most as usize + 1]);
            self.put(pointer, many, format!("maxItems {most}"));
        }
        self.value(&schema["items"], &format!("{pointer}/0"));
    }

    fn object(&mut self, schema: &'a Value, pointer: &str) {
        for name in schema["required"].as_array().into_iter().flatten() {
            let mut body = self.body.clone();
            let place = body.pointer_mut(pointer).and_then(Value::as_object_mut);
            place.unwrap().remove(name.as_str().unwrap());
            let whole = format!("{pointer}/{}", name.as_str().unwrap());
            let field = whole.trim_start_matches('/').replace('/', ".");
            let rule = "required".to_owned();
            self.found.push(Broken { body, field, rule });
        }
        if schema["additionalProperties"] == false {
            let mut body = self.body.clone();
            if let Some(place) = body.pointer_mut(pointer).and_then(Value::as_object_mut) {
                place.insert("colour".into(), json!("red"));
                let (field, rule) = ("colour".to_owned(), "additionalProperties false".to_owned());
                self.found.push(Broken { body, field, rule });
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.value(property, &format!("{pointer}/{name}"));
        }
        // One of the names that the example has.
        let any = &schema["additionalProperties"];
        let named = self.body.pointer(pointer).and_then(Value::as_object);
        let named = named.and_then(|named| named.keys().next());
        if let Some(name) = named.filter(|_| any.is_object()) {
            self.value(any, &format!("{pointer}/{name}"));
        }
    }
}

/// The document with every operation that takes JSON: its id, its method, its path, its content.
fn with_bodies(document: &Value) -> Vec<(&str, Method, &str, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_object() {
                let method = method.to_uppercase().parse().unwrap();
                let id = operation["operationId"].as_str().unwrap();
                all.push((id, method, path.as_str(), content));
            }
        }
    }
    all
}

/// What needs more than a right body before its rules are looked at, and how far they are tried here.
fn is_out_of_reach(operation: &str, broken: &Broken) -> bool {
    let own = ["pattern", "minLength", "maxLength", "maxProperties"];
    let is_own = own.iter().any(|rule| broken.rule.starts_with(rule));
    match operation {
        // A token that is not good comes first. Names and passwords are judged as those of `account_register`.
        "account_setup" | "account_reset" => is_own,
        _ => false,
    }
}

/// The example, with a file that is there and without an invitation that nobody has made.
fn right(example: &Value, file: &str) -> Value {
    let mut body = example.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove("invite");
        if let Some(files) = fields.get_mut("files") {
            *files = json!([file]);
        }
    }
    body
}

#[tokio::test]
async fn every_rule_of_a_body_is_enforced_and_named() {
    let config = Config {
        registration: crate::Registration::Open,
        requests_per_address: 1_000_000.into(),
        logins_per_minute: 1_000_000.into(),
        ..Config::default()
    };
    let edge = Edge::new(config);
    edge.limit(|limits| limits.requests_per_minute = 1_000_000);
    let (user, token) = edge.user("root", Role::Admin).await;
    let (run, approval) = edge.asked(&token).await;
    let run_of = edge.get(&format!("/api/runs/{run}"), &token).await;
    let thread = run_of.body["thread_id"].as_str().unwrap().to_owned();
    let upload = request(Method::POST, "/api/files?name=a.txt", Some(&token), None);
    let file = edge.send(upload).await;
    let file = file.body["id"].as_str().unwrap().to_owned();
    let document = serde_json::to_value(crate::openapi()).unwrap();
    let mut tried = 0;
    let mut problems = Vec::new();
    for (id, method, path, content) in with_bodies(&document) {
        let target = match path {
            path if path.starts_with("/api/threads/") => &thread,
            path if path.starts_with("/api/approvals/") => &approval,
            path if path.starts_with("/api/admin/users/") => &user.to_string(),
            _ => &run,
        };
        let path = path.replace("{id}", target).replace("{name}", "tracker");
        let body = right(&content["example"], &file);
        let mut breaker = Breaker {
            document: &document,
            body: &body,
            found: Vec::new(),
        };
        breaker.value(&content["schema"], "");
        for broken in breaker.found {
            if is_out_of_reach(id, &broken) {
                continue;
            }
            tried += 1;
            let body = Some(broken.body.clone());
            let answer = edge
                .send(request(method.clone(), &path, Some(&token), body))
                .await;
            let told = json!({ "field": broken.field, "rule": broken.rule });
            let details = &answer.body["error"]["details"];
            if answer.status != 400 || *details != told {
                let (status, body) = (answer.status, broken.body);
                problems.push(format!("{id}: {told} was {status} {details} of {body}"));
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} of {tried}\n{}",
        problems.len(),
        problems.join("\n")
    );
    assert!(tried > 200, "{tried}");
}
