//! Where the references of a schema lead, all of them within it.

use std::collections::HashMap;

use serde_json::Value;

/// The most schemas with an `$id` of their own inside one.
const MOST_IDS: usize = 16;

/// What a reference may name: the schema, those inside with an id, and those with an anchor.
pub(super) struct References<'a> {
    resources: Vec<(&'a str, &'a Value)>,
    anchors: HashMap<&'a str, Vec<&'a Value>>,
}

impl<'a> References<'a> {
    /// Of the whole document, wherever names stand in it: one more than there is only makes for more steps.
    pub(super) fn of(root: &'a Value) -> Result<Self, String> {
        let mut all = Self {
            resources: vec![(root["$id"].as_str().unwrap_or_default(), root)],
            anchors: HashMap::new(),
        };
        let old = root["$schema"]
            .as_str()
            .is_some_and(|draft| draft.contains("draft-04"));
        let mut left = vec![root];
        while let Some(value) = left.pop() {
            match value {
                Value::Array(items) => left.extend(items),
                Value::Object(fields) => {
                    left.extend(fields.values());
                    let text = |key: &str| fields.get(key).and_then(Value::as_str);
                    for anchor in [text("$anchor"), text("$dynamicAnchor")] {
                        all.name(anchor, value);
                    }
                    for id in [text("$id"), text("id").filter(|_| old)] {
                        match id.and_then(|id| id.strip_prefix('#')) {
                            Some(anchor) => all.name(Some(anchor), value),
                            None => all.identify(id, value)?,
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn name(&mut self, anchor: Option<&'a str>, value: &'a Value) {
        if let Some(anchor) = anchor {
            self.anchors.entry(anchor).or_default().push(value);
        }
    }

    fn identify(&mut self, id: Option<&'a str>, value: &'a Value) -> Result<(), String> {
        let Some(id) = id else { return Ok(()) };
        if id.contains('%') {
            return Err(format!("its $id {id:?} has a `%`"));
        }
        if self.resources.len() > MOST_IDS {
            return Err(format!("it has more than {MOST_IDS} parts with an $id"));
        }
        self.resources.push((id, value));
        Ok(())
    }

    /// All that a reference may lead to: more than one where ids or anchors are there twice.
    pub(super) fn targets(&self, reference: &str) -> Result<Vec<&'a Value>, String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = decoded(fragment);
        let named = self
            .resources
            .iter()
            .filter(|(id, _)| base.is_empty() || is_at(id, base))
            .map(|(_, resource)| *resource);
        let mut found: Vec<&Value> = match fragment.as_str() {
            "" => named.collect(),
            pointer if pointer.starts_with('/') => {
                named.filter_map(|one| one.pointer(pointer)).collect()
            }
            anchor => self.anchors.get(anchor).cloned().unwrap_or_default(),
        };
        found.sort_by_key(|one| std::ptr::from_ref(*one));
        found.dedup_by_key(|one| std::ptr::from_ref(*one));
        if found.is_empty() {
            return Err(format!(
                "its reference {reference:?} leads to nothing in it"
            ));
        }
        Ok(found)
    }
}

/// Whether the part with this id may be what is at this address, whatever both are relative to.
fn is_at(id: &str, base: &str) -> bool {
    let id = id.trim_end_matches('#');
    let ends = |long: &str, short: &str| {
        long.strip_suffix(short)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('/') || short.starts_with('/'))
    };
    !id.is_empty() && (ends(id, base) || ends(base, id))
}

/// With `%41` as `A`.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let byte = (*first == b'%').then(|| Some(digit(0)? * 16 + digit(1)?));
        match byte.flatten().and_then(|byte| u8::try_from(byte).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_by_pointer_anchor_and_id_and_never_outside() {
        let schema = json!({
            "$id": "https://example.org/s", "$defs": {
                "a b": {"type": "string"}, "c": {"$anchor": "here"}, "d": {"$id": "inner", "x": {"const": 1}}
            }
        });
        let all = References::of(&schema).unwrap();
        let defs = &schema["$defs"];
        for (reference, target) in [
            ("#", &schema),
            ("#/$defs/a%20b", &defs["a b"]),
            ("#here", &defs["c"]),
            ("inner", &defs["d"]),
            ("https://example.org/inner#/x", &defs["d"]["x"]),
            ("https://example.org/s#/$defs/c", &defs["c"]),
        ] {
            let found = all.targets(reference).unwrap();
            assert!(
                found.iter().any(|one| std::ptr::eq(*one, target)),
                "{reference}"
            );
        }
        for out in [
            "https://json-schema.org/draft/2020-12/schema",
            "#/none",
            "#no",
            "other",
        ] {
            assert!(all.targets(out).is_err(), "{out}");
        }
    }
}
