//! A first look at a log: what it is, which columns it has and lacks, and which questions it can answer.

use serde_json::{Map, Value, json};

use crate::columns::Column;
use crate::log::Log;
use crate::output::{self, Missing};
use crate::times::Base;

/// How many records are read for a first look.
pub(crate) const MAX_RECORDS: u64 = 10_000;
/// How many headers are told.
const MAX_HEADERS: usize = 60;

/// What is there, as far as the questions need it.
struct Present {
    time: bool,
    input: bool,
    output: bool,
    cached: bool,
    model: bool,
    latency: bool,
    cost: bool,
    user: bool,
    prompts: bool,
    single: bool,
}

/// The first look.
pub(crate) fn inspect(log: &Log) -> Value {
    let there = Present {
        time: log.time.present() > 0,
        input: log.input.present() > 0,
        output: log.output.present() > 0,
        cached: log.cached.present() > 0,
        model: log.model.present() > 0,
        latency: log.latency_micros.present() > 0,
        cost: log.cost_pico.present() > 0,
        user: log.user.present() > 0,
        prompts: log.prompts.present().1 + log.prompts.with_prefix() > 0,
        single: !log.is_aggregated(),
    };
    let mut missing = Missing::default();
    for (field, present) in [
        ("timestamp", log.time.present()),
        ("input_tokens", log.input.present()),
        ("output_tokens", log.output.present()),
        ("model", log.model.present()),
        ("cost", log.cost_pico.present()),
        ("latency", log.latency_micros.present()),
        ("user", log.user.present()),
        ("cached_input_tokens", log.cached.present()),
    ] {
        if let Some(reason) = output::gap_in(log, field, present) {
            missing.add(field, reason);
        }
    }
    let (answerable, not_answerable) = questions(&there);
    let tokens = there.input && there.output;
    let sufficiency = match tokens {
        true if there.time && there.model => "sufficient",
        true => "partial",
        false => "insufficient",
    };
    json!({
        "file": log.file,
        "bytes": log.bytes,
        "format": log.format,
        "kind": log.kind.name(),
        "kind_title": log.kind.title(),
        "delimiter": log.delimiter,
        "columns": columns(log),
        "unmapped": unmapped(log),
        "rows_examined": log.rows,
        "complete": log.complete,
        "bad_rows": output::bad_rows(log),
        "other_rows": log.other_rows,
        "first_rows": first_rows(log),
        "time_base": log.base.map(Base::name),
        "sufficiency": sufficiency,
        "answerable": answerable,
        "not_answerable": not_answerable,
        "missing": missing.into_value(),
        "assumptions": output::reading_assumptions(log),
    })
}

fn columns(log: &Log) -> Value {
    let mapped = log
        .headers
        .iter()
        .filter_map(|h| h.column.map(|column| (h, column)));
    let one = |(header, column): (&crate::columns::Mapped, Column)| {
        json!({
            "header": header.header, "column": column.name(), "meaning": column.meaning(),
            "used": column.used(),
        })
    };
    mapped.take(MAX_HEADERS).map(one).collect()
}

fn unmapped(log: &Log) -> Value {
    let without = log
        .headers
        .iter()
        .filter(|h| h.column.is_none())
        .take(MAX_HEADERS);
    without
        .map(|h| json!({ "header": h.header, "reason": h.reason }))
        .collect()
}

fn first_rows(log: &Log) -> Value {
    let row = |row: &Vec<(String, String)>| {
        let cells: Map<String, Value> = row
            .iter()
            .map(|(header, cell)| (header.clone(), json!(cell)))
            .collect();
        Value::Object(cells)
    };
    log.first_rows.iter().map(row).collect()
}

/// Name, text, and what must be there with its name for people.
type Question<'a> = (&'a str, String, Vec<(bool, &'a str)>);

/// What a question needs where a row has to be one request.
const SINGLE: &str = "one row for each request instead of sums";

/// What a question needs that is about tokens, and what it needs besides.
fn with_tokens(there: &Present, more: &[(bool, &'static str)]) -> Vec<(bool, &'static str)> {
    let tokens = [
        (there.input, "input tokens"),
        (there.output, "output tokens"),
    ];
    [&tokens[..], more].concat()
}

/// The questions about what was.
fn about_use(there: &Present) -> Vec<Question<'static>> {
    vec![
        (
            "volume_over_time",
            "How many requests came when: rates, peaks, pauses".into(),
            vec![(there.time, "a time")],
        ),
        (
            "token_use",
            "How many tokens were read and written, and how large requests are".into(),
            with_tokens(there, &[]),
        ),
        (
            "cost_as_logged",
            "What it cost, as the log says".into(),
            vec![(there.cost, "a cost or spend column")],
        ),
        (
            "cost_from_prices",
            "What it cost by the price list, for the models that it ran on".into(),
            with_tokens(there, &[(there.model, "a model column")]),
        ),
        (
            "cost_by_model",
            "Which model costs how much".into(),
            with_tokens(there, &[(there.model, "a model column")]),
        ),
        (
            "use_by_user",
            "Who uses how much".into(),
            vec![(there.user, "a user column")],
        ),
        (
            "latency",
            "How long answers take, and whether a change makes them slower".into(),
            vec![(there.latency, "a latency column, or start and end times")],
        ),
        (
            "cache_use",
            "How much of the input came from a prompt cache".into(),
            vec![(there.cached, "a column of cached input tokens")],
        ),
        (
            "prompt_repeats",
            "What repeats in the prompts, and how much of it a cache could keep".into(),
            vec![(there.prompts, "a column of prompts or of hashes of them")],
        ),
        (
            "rate_limits",
            "How the peaks stand against rate limits".into(),
            vec![(there.time, "a time"), (there.single, SINGLE)],
        ),
        (
            "anomalies",
            "Which hours or minutes are unusual (from an hour of requests on)".into(),
            vec![(there.time, "a time")],
        ),
        (
            "forecast",
            "What is to come (from two days of requests on)".into(),
            vec![(there.time, "a time")],
        ),
    ]
}

/// The questions about what a change would do.
fn about_changes(there: &Present) -> Vec<Question<'static>> {
    let model = "as an assumption stated with the result when the log names no model";
    vec![
        (
            "what_if_other_model",
            format!("What the same traffic costs on another model ({model})"),
            with_tokens(there, &[]),
        ),
        (
            "what_if_shorter_prompts",
            format!("What shorter prompts save ({model})"),
            with_tokens(there, &[]),
        ),
        (
            "what_if_prompt_caching",
            "What prompt caching saves, for a share of repeated input that is an assumption".into(),
            with_tokens(there, &[]),
        ),
        (
            "what_if_batching",
            "What the batch interface saves, for requests that can wait".into(),
            with_tokens(there, &[]),
        ),
        (
            "what_if_capped_output",
            "What a cap on the length of answers saves".into(),
            with_tokens(there, &[(there.single, SINGLE)]),
        ),
    ]
}

/// The questions with a text each, and what is lacking for those that the log cannot answer.
fn questions(there: &Present) -> (Vec<Value>, Vec<Value>) {
    let list = about_use(there).into_iter().chain(about_changes(there));
    let (mut can, mut cannot) = (Vec::new(), Vec::new());
    for (question, text, needs) in list {
        let lacking: Vec<&str> = needs
            .iter()
            .filter(|(has, _)| !has)
            .map(|(_, what)| *what)
            .collect();
        if lacking.is_empty() {
            can.push(json!({ "question": question, "text": text }));
        } else {
            let reason = format!("the log has no {}", lacking.join(", no "));
            let reason = reason
                .replace("no a ", "no ")
                .replace("no one row", "not one row");
            cannot.push(json!({ "question": question, "text": text, "reason": reason }));
        }
    }
    (can, cannot)
}
