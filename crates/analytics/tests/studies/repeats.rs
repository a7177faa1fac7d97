//! What repeats in prompts, once more by comparing the texts themselves.

use serde_json::{Value, json};

use crate::files::Files;
use crate::traffic::close;

struct Asked {
    minute: i64,
    model: &'static str,
    text: String,
    tokens: u32,
}

fn asked() -> Vec<Asked> {
    let system = |who: &str| format!("You are {who}. ").repeat(400);
    let mut found = Vec::new();
    for n in 0..60_i64 {
        let who = ["a lawyer", "a cook", "a pilot"][(n * n % 3) as usize];
        let model = if n % 4 == 0 { "alpha" } else { "beta" };
        let question = if n % 5 == 0 {
            "always the same".to_owned()
        } else {
            format!("question {n}")
        };
        // Between the groups of twenty nothing is kept.
        let minute = n / 2 + n / 20 * 30;
        let text = format!("{}{question}", system(who));
        let tokens = (text.len() / 4) as u32;
        found.push(Asked {
            minute,
            model,
            text,
            tokens,
        });
    }
    found
}

fn lines(asked: &[Asked], fields: impl Fn(&Asked) -> Value) -> String {
    let line = |one: &Asked| {
        let mut object = json!({
            "timestamp": format!("2024-05-06T{:02}:{:02}:00Z", one.minute / 60, one.minute % 60), "model": one.model,
            "prompt_tokens": one.tokens, "completion_tokens": 10,
        });
        object
            .as_object_mut()
            .unwrap()
            .extend(fields(one).as_object().unwrap().clone());
        format!("{object}\n")
    };
    asked.iter().map(line).collect()
}

#[test]
fn beginnings_and_whole_prompts_that_repeat_are_counted_from_the_texts() {
    let asked = asked();
    let log = lines(&asked, |one| json!({ "prompt": one.text }));
    let files = Files::new(&[("log.jsonl", &log)]);
    let told = files
        .run("prompt_repeats", json!({ "keep_minutes": 5 }))
        .unwrap();
    assert_eq!(
        (
            told["basis"].as_str(),
            told["requests_with_prompt"].as_u64()
        ),
        (Some("text"), Some(60))
    );

    let same = |a: &Asked, b: &Asked| a.model == b.model && a.text == b.text;
    let repeated = (0..60)
        .filter(|at| asked[..*at].iter().any(|one| same(one, &asked[*at])))
        .count();
    assert_eq!(told["exact"]["repeated_requests"], repeated);
    assert!(repeated > 0 && repeated < 12);
    let (mut shared, mut cached, mut hits) = (0_usize, 0.0_f64, 0);
    for (at, one) in asked.iter().enumerate() {
        let kept = |bytes: usize| {
            let before = |other: &&Asked| {
                other.model == one.model
                    && one.minute - other.minute <= 5
                    && other.text.len() >= bytes
            };
            asked[..at]
                .iter()
                .filter(before)
                .any(|other| other.text.as_bytes()[..bytes] == one.text.as_bytes()[..bytes])
        };
        let bytes = (1..=one.text.len() / 512)
            .map(|blocks| blocks * 512)
            .take_while(|bytes| kept(*bytes))
            .last();
        let bytes = bytes.unwrap_or(0);
        shared += bytes;
        let tokens = bytes as f64 / one.text.len() as f64 * f64::from(one.tokens);
        if tokens >= 1_024.0 {
            cached += tokens;
            hits += 1;
        }
    }
    let prefix = &told["prefix"];
    assert_eq!(prefix["repeated_bytes"], shared);
    assert_eq!(prefix["requests_with_hit"], hits);
    assert!(hits > 20, "the sample has something to find");
    let input: u64 = asked.iter().map(|one| u64::from(one.tokens)).sum();
    close(&prefix["cacheable_share"], cached / input as f64);
    assert_eq!(prefix["cacheable_input_tokens"], cached.round() as u64);
    let long = files
        .run("prompt_repeats", json!({ "least_tokens": 100_000 }))
        .unwrap();
    assert_eq!(long["prefix"]["requests_with_hit"], 0);
}

#[test]
fn a_conversation_as_a_list_of_messages_is_a_prompt_too() {
    let asked = asked();
    let messages = lines(
        &asked,
        |one| json!({ "messages": [{ "role": "system", "content": one.text }] }),
    );
    let spans = lines(&asked, |one| {
        json!({ "attributes": [
        { "key": "gen_ai.input.messages", "value": { "stringValue": one.text } },
    ] })
    });
    for log in [messages, spans] {
        let files = Files::new(&[("log.jsonl", &log)]);
        let told = files.run("prompt_repeats", json!({})).unwrap();
        assert!(
            told["prefix"]["requests_with_hit"].as_u64().unwrap() > 20,
            "{told}"
        );
        assert!(
            !files.run("log_inspect", json!({})).unwrap()["columns"]
                .to_string()
                .contains("lawyer")
        );
    }
}

#[test]
fn hashes_tell_how_often_but_not_how_long() {
    let asked = asked();
    let log = lines(
        &asked,
        |one| json!({ "prompt_hash": format!("{:?}", one.text), "prefix_hash": one.text[..20] }),
    );
    let files = Files::new(&[("log.jsonl", &log)]);
    let told = files.run("prompt_repeats", json!({})).unwrap();
    assert_eq!(told["basis"], "hash");
    let hit = |at: usize| {
        let one = &asked[at];
        asked[..at].iter().any(|other| {
            other.model == one.model
                && other.text[..20] == one.text[..20]
                && one.minute - other.minute <= 5
        })
    };
    assert_eq!(
        told["named_beginnings"]["requests_with_hit"],
        (0..60).filter(|at| hit(*at)).count()
    );
    assert_eq!(told["prefix"], Value::Null);
    assert!(told["exact"]["repeated_requests"].as_u64().unwrap() > 0);
}
