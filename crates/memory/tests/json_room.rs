//! The room that is set aside for JSON is enough, whatever the JSON is.
#![expect(clippy::unwrap_used, reason = "tests")]

use netra_memory::{Account, Allocator, json_room};
use proptest::prelude::*;
use serde_json::Value;

#[global_allocator]
static GLOBAL: Allocator = Allocator::new();

/// What the text takes once it is read, and the most that it took on the way.
fn taken(text: &str) -> (u64, u64) {
    let account = Account::user();
    let value: Value = {
        let _entered = account.scope().enter();
        serde_json::from_str(text).unwrap()
    };
    let taken = account.current_bytes();
    drop(value);
    (taken, account.peak_bytes())
}

fn check(text: &str) {
    let (taken, peak) = taken(text);
    let room = json_room(text.as_bytes());
    assert!(
        taken.max(peak) <= room,
        "{taken} and {peak} of {room} for {text:.80}"
    );
}

#[test]
fn what_grows_most_fits() {
    let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    for item in [
        "0",
        "[]",
        "[0]",
        "{}",
        r#"{"":0}"#,
        r#""""#,
        r#""ab""#,
        "[[[0]]]",
        "null",
    ] {
        for count in [1, 2, 3, 4, 5, 100, 4097, 70_000] {
            check(&many(item, count));
        }
    }
    let fields: Vec<String> = (0..50_000).map(|n| format!("\"{n}\":{n}")).collect();
    check(&format!("{{{}}}", fields.join(",")));
    check(&format!("\"{}\"", "x".repeat(1 << 20)));
    check(&format!("\"{}\"", "\\n".repeat(1 << 19)));
    check(&format!("{}{}", "[".repeat(100), "]".repeat(100)));
}

#[test]
fn a_text_is_not_taken_for_much_more_than_it_is() {
    let prose = format!(
        "{{\"text\":\"{}\"}}",
        "A sentence, and one more. ".repeat(4000)
    );
    let room = json_room(prose.as_bytes());
    assert!(room < 8 * prose.len() as u64, "{room} for {}", prose.len());
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 400, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..14)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_json_fits(value in json()) {
        check(&value.to_string());
        check(&serde_json::to_string_pretty(&value).unwrap());
    }
}
