//! Tests of the reader: each known log, broken files, and bytes of any kind.

use proptest::prelude::*;

use super::*;
use crate::times::Base;

fn of(bytes: &[u8]) -> Result<Log, Error> {
    read("log", bytes.len() as u64, bytes, None, &mut |_, _| ())
}

fn log(text: &str) -> Log {
    of(text.as_bytes()).unwrap()
}

fn column<T: crate::log::Cell>(values: &crate::log::Values<T>, rows: usize) -> Vec<Option<T>> {
    (0..rows).map(|row| values.get(row)).collect()
}

#[test]
fn azure_trace() {
    let log = log(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8",
    );
    assert_eq!(
        (log.kind, log.rows, log.bad_rows),
        (Kind::AzureLlmInference, 2, 0)
    );
    assert_eq!(column(&log.input, 2), [Some(4_808), Some(3_180)]);
    assert_eq!(column(&log.output, 2), [Some(10), Some(8)]);
    assert_eq!(
        log.time.get(1).unwrap() - log.time.get(0).unwrap(),
        52_000_000
    );
    assert!(log.assumed_utc);
}

#[test]
fn burstgpt_trace() {
    let log = log(
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
        5,1,3.5,ChatGPT,472,18,490,Conversation log\n45.0,2,1,GPT-4,1087,230,1317,API log\n",
    );
    assert_eq!(
        (log.kind, log.rows, log.base),
        (Kind::BurstGpt, 2, Some(Base::FirstDay))
    );
    assert_eq!(
        column(&log.latency_micros, 2),
        [Some(3_500_000), Some(1_000_000)]
    );
    assert_eq!(log.models.name(log.model.get(1).unwrap()), "GPT-4");
    assert!(log.headers.iter().all(|h| h.column.is_some()));
}

#[test]
fn openai_usage_export() {
    let log = log(
        "start_time,model,num_model_requests,input_tokens,input_cached_tokens,output_tokens\n\
        1730419200,gpt-4o-2024-08-06,5,1000,800,50\n2024-11-02,gpt-4o-mini,1,20,0,3\n",
    );
    assert_eq!(
        (log.kind, log.rows, log.total_requests()),
        (Kind::OpenAiUsage, 2, 6)
    );
    assert_eq!(column(&log.cached, 2), [Some(800), Some(0)]);
    assert_eq!(
        log.time.get(1).unwrap() - log.time.get(0).unwrap(),
        86_400_000_000_000
    );
    assert!(log.is_aggregated());
}

#[test]
fn litellm_spend_log() {
    let log = log(
        "startTime,endTime,model,prompt_tokens,completion_tokens,spend,user,cache_hit,request_id\n\
        2024-06-01T10:00:00Z,2024-06-01T10:00:02.5Z,gpt-4o,100,20,0.00055,ann,False,a\n\
        2024-06-01T12:00:01+02:00,2024-06-01T10:00:03Z,gpt-4o,100,20,1.25e-05,,True,b\n",
    );
    assert_eq!((log.kind, log.rows), (Kind::LiteLlmSpend, 2));
    assert_eq!(
        column(&log.latency_micros, 2),
        [Some(2_500_000), Some(2_000_000)]
    );
    assert_eq!(
        column(&log.cost_pico, 2),
        [Some(550_000_000), Some(12_500_000)]
    );
    assert_eq!(column(&log.cache_hit, 2), [Some(0), Some(1)]);
    assert_eq!((log.user.get(0).is_some(), log.user.get(1)), (true, None));
    assert_eq!(log.headers.last().unwrap().column, None);
}

#[test]
fn otel_spans() {
    let log = log(concat!(
        r#"{"name":"chat","start_time":"2025-01-01T00:00:00Z","end_time":"2025-01-01T00:00:01Z","attributes":{"gen_ai.request.model":"gpt-4o","gen_ai.usage.input_tokens":12,"gen_ai.usage.output_tokens":3}}"#,
        "\n",
        r#"{"name":"SELECT","start_time":"2025-01-01T00:00:00Z","attributes":{"db.system":"sqlite"}}"#,
        "\nbroken\n",
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"1735689602000000000","endTimeUnixNano":"1735689602250000000","attributes":[{"key":"gen_ai.response.model","value":{"stringValue":"o3"}},{"key":"gen_ai.usage.input_tokens","value":{"intValue":"7"}}]}]}]}]}"#,
    ));
    assert_eq!(
        (log.kind, log.rows, log.other_rows, log.bad_rows),
        (Kind::OtelGenAi, 2, 1, 1)
    );
    assert_eq!(log.bad_shown[0].line, 3);
    assert_eq!(column(&log.input, 2), [Some(12), Some(7)]);
    assert_eq!(column(&log.output, 2), [Some(3), None]);
    assert_eq!(
        column(&log.latency_micros, 2),
        [Some(1_000_000), Some(250_000)]
    );
    assert_eq!(log.models.name(1), "o3");
}

#[test]
fn bad_rows_are_counted_shown_and_told_apart() {
    let log = log("\u{feff}timestamp;prompt_tokens;completion_tokens;user\n\
        2024-01-01 00:00:00;1;2;a\n2024-01-01 00:00:00;-1;2;a\nnever;1;2;a\n1;1;2;a\n1;2\n\
        2024-01-01 00:00:00;1.0;99999999999;a\n;;;a\n\"2024-01-01 00:00:01\";\"3\";;\"x;y\"\n");
    assert_eq!((log.rows, log.bad_rows, log.records()), (2, 6, 8));
    let shown: Vec<(u64, &str)> = log
        .bad_shown
        .iter()
        .map(|b| (b.line, b.reason.as_str()))
        .collect();
    let says = [
        (3, "input_tokens"),
        (4, "timestamp"),
        (5, "another kind"),
        (6, "cells"),
        (7, "output_tokens"),
        (8, "no time"),
    ];
    for ((line, reason), (expected, word)) in shown.iter().zip(says) {
        assert_eq!(*line, expected);
        assert!(reason.contains(word), "{reason}");
    }
    assert_eq!(column(&log.output, 2), [Some(2), None]);
}

#[test]
fn what_is_no_log_is_refused_with_words() {
    for (bytes, says) in [
        (&b""[..], "is empty"),
        (b" \n\t\n", "blank"),
        (b"PK\x03\x04\x00", "ZIP"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "binary"),
        (b"\xFF\xFEa\x00,\x00", "UTF-16"),
        (b"a,\"b", "never closed"),
    ] {
        let error = of(bytes).unwrap_err();
        assert!(error.message.contains(says), "{}", error.message);
        assert_eq!(error.code, crate::Code::UnreadableFile);
    }
    let log = log("timestamp,input_tokens");
    assert_eq!((log.rows, log.bad_rows), (0, 0));
}

#[test]
fn a_first_line_that_was_cut_off_is_one_bad_row() {
    let log = log(
        "{\"model\": \"a\", \"prompt_tok\n{\"model\": \"a\", \"prompt_tokens\": 5}\n{\"model\": \"b\"}\n",
    );
    assert_eq!((log.format, log.records(), log.bad_rows), ("jsonl", 3, 2));
}

#[test]
fn a_gigantic_line_is_one_bad_row() {
    let mut text = String::from("timestamp,input_tokens\n2024-01-01,1\n");
    text.push_str(&"9".repeat(3 << 20));
    text.push_str("\n2024-01-02,2\n");
    let log = log(&text);
    assert_eq!((log.rows, log.bad_rows), (2, 1));
    assert!(log.bad_shown[0].text.chars().count() <= 160);
}

#[test]
fn duplicate_headers_and_lost_bytes() {
    let log =
        of(b"timestamp,model,model,input_tokens\n2024-01-01,a\xFF,b,1\n2024-01-01,a\xFF,b,1\n")
            .unwrap();
    assert_eq!((log.rows, log.duplicates), (2, 1));
    assert_eq!(log.models.name(0), "a\u{fffd}");
}

/// Rows that are good, bad or blank, so that the generated file is close to a real one.
fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..4_000_000, 0u32..100_000, 0u32..100_000)
            .prop_map(|(t, i, o)| format!("{t},{i},{o},m")),
        "[0-9a-z,\"\r ]{0,24}",
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn never_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = of(&bytes);
    }

    #[test]
    fn never_panics_on_any_json_lines(lines in proptest::collection::vec("\\{?[\\{\\}\\[\\]\":,a-z0-9.]{0,40}", 0..20)) {
        let _ = of(format!("{{{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn counts_and_sums_add_up(lines in proptest::collection::vec(any_line(), 0..60)) {
        let text = format!("timestamp,input_tokens,output_tokens,model\n{}", lines.join("\n"));
        let log = log(&text);
        prop_assert_eq!(log.records(), log.rows as u64 + log.bad_rows);
        prop_assert!(log.records() <= lines.iter().filter(|l| !l.trim().is_empty()).count() as u64);
        prop_assert!(log.duplicates <= (log.rows as u64).saturating_sub(1));
        // Without quotes a record is a line, so the rows can be counted in another way.
        if !text.contains('"') {
            let filled = lines.iter().filter(|l| !l.trim().is_empty()).count() as u64;
            prop_assert_eq!(log.records(), filled);
            let profile = crate::profile::profile(&log);
            let counted: u64 = profile["time_series"]["points"].as_array().into_iter().flatten()
                .map(|p| p["requests"].as_u64().unwrap()).sum();
            prop_assert_eq!(counted, log.time.present() as u64);
            let total: u64 = log.input.iter().map(u64::from).sum();
            let told = profile["input_tokens"]["total"].as_u64();
            prop_assert_eq!(told, (log.input.present() > 0).then_some(total));
        }
    }
}
