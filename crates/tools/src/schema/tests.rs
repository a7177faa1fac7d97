//! Schemas that multiply, lead back to themselves or take long, and what the count says against what is really made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonschema::{Keyword, ValidationError};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

/// `anyOf` of two `allOf`s of the level below, so that each level doubles what there is to do.
fn doubling(levels: u32) -> Value {
    let mut defs = Map::new();
    defs.insert("a0".to_owned(), json!({"type": "object"}));
    for level in 1..=levels {
        let below = json!({"$ref": format!("#/$defs/a{}", level - 1)});
        let branch = |name: &str| json!({"allOf": [below, {"required": [name]}]});
        let both = json!({"anyOf": [branch("zz"), branch("yy")]});
        defs.insert(format!("a{level}"), both);
    }
    json!({"type": "object", "$defs": defs, "$ref": format!("#/$defs/a{levels}")})
}

#[test]
fn a_schema_of_ten_kilobytes_does_not_take_the_servers_memory() {
    let schema = doubling(26);
    assert!(schema.to_string().len() < 10_000);
    Schema::new(&schema).unwrap_err();
    let problem = Schema::new(&doubling(18)).unwrap_err();
    assert!(problem.contains("multiply"), "{problem}");
    let few = Schema::new(&doubling(4)).unwrap();
    assert!(!few.misfits(&json!({}), 3).is_empty());
    assert!(few.misfits(&json!({"zz": 1}), 3).is_empty());
}

#[test]
fn a_value_that_makes_a_schema_double_at_each_level_is_refused_before_it_is_checked() {
    let twice = json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"required": ["b"]}]});
    let schema = Schema::new(&json!({"type": "object", "properties": {"a": twice}})).unwrap();
    let deep =
        |levels: u32| (0..levels).fold(json!({"b": 1}), |inner, _| json!({"a": inner, "b": 1}));
    assert!(schema.misfits(&deep(6), 3).is_empty());
    let refused = schema.misfits(&deep(60), 3);
    assert!(refused[0].contains("steps"), "{refused:?}");
}

#[test]
fn a_schema_that_leads_back_without_taking_of_the_value_is_refused() {
    let anchored = json!({"$dynamicAnchor": "n", "not": {"not": {"$dynamicRef": "#n"}}});
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"properties": {"a": {"$ref": "#/$defs/a"}},
               "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"if": {"$ref": "#"}}),
        json!({"dependentSchemas": {"a": {"$ref": "#"}}}),
        anchored,
    ] {
        let problem = Schema::new(&schema).unwrap_err();
        assert!(problem.contains("lead back"), "{schema}: {problem}");
    }
    let tree = json!({"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}});
    let tree = Schema::new(&tree).unwrap();
    assert!(tree.misfits(&json!({"kids": [{"kids": []}]}), 3).is_empty());
    assert!(!tree.misfits(&json!({"kids": [{"kids": 7}]}), 3).is_empty());
}

/// This runs on the two megabytes of a thread of tests, and without optimisation.
#[test]
fn long_chains_of_references_do_not_overflow_the_stack() {
    let chain = |levels: usize, key: &str| {
        let defs: Map<String, Value> = (0..levels)
            .map(|n| {
                let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
                (format!("d{n}"), json!({key: {"a": next}}))
            })
            .chain([(format!("d{levels}"), json!({"type": "integer"}))])
            .collect();
        json!({"$defs": defs, "$ref": "#/$defs/d0"})
    };
    Schema::new(&chain(1_500, "properties")).unwrap();
    let problem = Schema::new(&chain(100, "dependentSchemas")).unwrap_err();
    assert!(problem.contains("lead on"), "{problem}");
    let nested = json!({"allOf": [{"allOf": [{"anyOf": [{"$ref": "#/$defs/n"}]}]}]});
    let node =
        json!({"type": "object", "properties": {"a": nested}, "additionalProperties": nested});
    let schema = Schema::new(&json!({"$defs": {"n": node}, "$ref": "#/$defs/n"})).unwrap();
    let deep = |levels: u32| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    assert!(!schema.misfits(&deep(100), 3).is_empty());
    let refused = schema.misfits(&deep(127), 3);
    assert!(refused[0].contains("lead on"), "{refused:?}");
}

#[test]
fn large_values_of_plain_schemas_are_checked() {
    let schema = json!({"type": "array", "items": {"type": "object", "required": ["n"],
        "properties": {"n": {"type": "integer"}, "s": {"enum": ["a", "b", "c"]}}}});
    let schema = Schema::new(&schema).unwrap();
    let many: Vec<Value> = (0..50_000).map(|n| json!({"n": n, "s": "a"})).collect();
    assert_eq!(schema.misfits(&json!(many), 3), Vec::<String>::new());
    let wrong: Vec<Value> = (0..50_000).map(|_| json!({"n": "x"})).collect();
    assert_eq!(schema.misfits(&json!(wrong), 3).len(), 1);
    assert_eq!(schema.misfits(&json!(&wrong[..100]), 3).len(), 3);
}

#[test]
fn patterns_take_linear_time_and_a_bounded_room() {
    let large =
        |n: usize| json!({"properties": {"a": {"pattern": format!("^(a{{1,{n}}}b){{1,{n}}}$")}}});
    assert!(Schema::new(&large(9)).is_ok());
    assert!(Schema::new(&large(999)).is_err());
    assert!(Schema::new(&json!({"pattern": "(?=a)a"})).is_err());
}

/// Counts how often it is asked.
struct Tick(Arc<AtomicU64>);

impl<'i> Keyword<'i> for Tick {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        self.is_valid(instance);
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        true
    }
}

fn reference() -> impl Strategy<Value = Value> {
    (0..3_u8).prop_map(|n| json!({"$ref": format!("#/$defs/d{n}")}))
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "integer"})),
        Just(json!({"required": ["a"]})),
        Just(json!({"enum": [1, "x"]})),
        reference(),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..3);
        let key = prop::sample::select(vec!["allOf", "anyOf", "oneOf"]);
        let one = prop::sample::select(vec![
            "not",
            "items",
            "contains",
            "additionalProperties",
            "unevaluatedProperties",
            "unevaluatedItems",
        ]);
        let fields = prop::collection::btree_map("[ab]", inner.clone(), 1..3);
        prop_oneof![
            (key, list).prop_map(|(key, list)| json!({key: list})),
            (one, inner.clone()).prop_map(|(key, one)| json!({key: one})),
            (fields.clone(), inner.clone()).prop_map(
                |(fields, rest)| json!({"properties": fields, "unevaluatedProperties": rest})
            ),
            fields
                .clone()
                .prop_map(|fields| json!({"patternProperties": fields})),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(1)),
        Just(json!("x")),
        Just(json!({})),
        Just(json!([]))
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..3).prop_map(|fields| json!(fields)),
        ]
    })
}

/// With a tick in every part that can have one.
fn ticking(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(ticking).collect(),
        Value::Object(fields) => {
            let names = |key: &str| ["properties", "patternProperties", "$defs"].contains(&key);
            let inner = |(key, one): (String, Value)| match (one, names(&key)) {
                (Value::Object(parts), true) => {
                    let parts = parts.into_iter().map(|(name, part)| (name, ticking(part)));
                    (key, Value::Object(parts.collect()))
                }
                (one, _) => (key, ticking(one)),
            };
            let mut fields: Map<String, Value> = fields.into_iter().map(inner).collect();
            fields.insert("tick".to_owned(), json!(true));
            Value::Object(fields)
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_more_steps_are_made_than_were_counted(
        defs in prop::array::uniform3(schema()), root in schema(), value in value()
    ) {
        let defs: BTreeMap<String, Value> =
            defs.into_iter().enumerate().map(|(n, one)| (format!("d{n}"), one)).collect();
        let schema = ticking(json!({"$defs": defs, "allOf": [root]}));
        let Ok(plan) = Plan::of(&schema) else { return Ok(()) };
        let Ok(effort) = plan.effort(&value, 20_000) else { return Ok(()) };
        let asked = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&asked);
        let validator = jsonschema::options()
            .with_keyword("tick", move |_, _, _| Ok(Box::new(Tick(Arc::clone(&counts)))))
            .build(&schema)
            .unwrap();
        let fits = validator.is_valid(&value);
        let steps = asked.swap(0, Ordering::Relaxed);
        prop_assert!(steps <= effort.steps, "{steps} steps of {effort:?}: {schema} {value}");
        let reported = validator.iter_errors(&value).count();
        let steps = asked.swap(0, Ordering::Relaxed);
        prop_assert!(steps <= effort.reports, "{steps} steps to report of {effort:?}: {schema} {value}");
        prop_assert_eq!(fits, reported == 0);
        let ours = Schema::new(&schema).unwrap().misfits(&value, 3);
        prop_assert_eq!(ours.is_empty(), fits, "{:?}", ours);
    }
}
