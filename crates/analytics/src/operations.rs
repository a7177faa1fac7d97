//! The operations as tools: names, descriptions for people and models, schemas of the arguments.

use serde_json::{Value, json};

use crate::jobs::Operation;
use crate::{chart, figure, growth, pareto, sql};

/// All operations, in the order in which an analysis uses them.
pub fn operations() -> Vec<Operation> {
    let mut all = basics();
    all.extend(studies());
    all.extend(pictures_and_tables());
    all
}

/// What a log is, and what it costs.
fn basics() -> Vec<Operation> {
    vec![
        operation(
            "log_inspect",
            "First look at a log",
            "Tells what an LLM usage log is: format, which headers map to known columns, which columns are missing, the \
             first rows, and which questions it can and cannot answer. Reads at most 10,000 records.",
            &json!({ "file": file_schema() }),
            &[],
        ),
        operation(
            "log_profile",
            "Profile of a log",
            "Exact figures of an LLM usage log: rows, bad rows, duplicates, first and last time, token totals and \
             percentiles, requests per minute, peak minute and hour, longest pauses, a time series and histograms for \
             charts, use by model and user, latency when it is there. What the log lacks is null and listed as missing.",
            &json!({ "file": file_schema() }),
            &[],
        ),
        operation(
            "log_cost",
            "Cost of a log",
            "What an LLM usage log cost: as logged, by a dated price list for its own models, and what the same traffic \
             would cost on other models (an assumption, marked as such).",
            &json!({
                "file": file_schema(),
                "models": {
                    "type": "array", "items": { "type": "string" }, "maxItems": 30,
                    "description": "Models to price the same traffic on; without it the defaults of the price list.",
                },
                "price_list": price_list_schema(),
            }),
            &[],
        ),
        operation(
            "what_if",
            "What a change would cost",
            "Costs changes of the traffic against a baseline, with formula, variables and assumptions of each: another \
             model, shorter prompts, prompt caching, batching, capped answers, or several combined.",
            &json!({
                "file": file_schema(),
                "scenarios": scenarios_schema(),
                "baseline_model": baseline_schema(),
                "price_list": price_list_schema(),
            }),
            &["scenarios"],
        ),
    ]
}

/// What lies behind the figures, and what is to come.
fn studies() -> Vec<Operation> {
    vec![
        operation(
            "cost_drivers",
            "What makes the cost",
            "Which tokens, models, users, lengths of prompts and answers, and hours make the cost of a log, how much of it the most \
             expensive requests make, and which parts cost more than their share of the requests.",
            &json!({ "file": file_schema(), "baseline_model": baseline_schema(), "price_list": price_list_schema() }),
            &[],
        ),
        operation(
            "usage_growth",
            "Cost of growth",
            "What the same kind of traffic costs with more requests or longer prompts and answers, by day and by 30 days, and how \
             large its peak minute gets.",
            &json!({
                "file": file_schema(), "scenarios": growth::schema(), "baseline_model": baseline_schema(),
                "price_list": price_list_schema(),
            }),
            &["scenarios"],
        ),
        operation(
            "usage_forecast",
            "Forecast",
            "Requests, tokens and cost of the next days or hours from trend and season of a log, with the error that the same method \
             made on the last part of the log.",
            &json!({
                "file": file_schema(),
                "horizon": { "type": "integer", "minimum": 1, "maximum": 120, "description": "How many days or hours ahead." },
                "baseline_model": baseline_schema(), "price_list": price_list_schema(),
            }),
            &[],
        ),
        operation(
            "latency_drivers",
            "What makes answers slow",
            "Latency of a log by model, user, length of prompts and answers, hour and load; a line through all requests (base, time for \
             each input and output token); which parts the slowest 5 % of the requests come from.",
            &json!({ "file": file_schema() }),
            &[],
        ),
        operation(
            "rate_limits",
            "Peaks against rate limits",
            "Requests and tokens of the fullest minutes, how many minutes go over a limit and how long requests would wait under it, and \
             the least limit under which nothing waits longer than 0, 1, 5 and 60 minutes.",
            &json!({
                "file": file_schema(),
                "requests_per_minute": { "type": "integer", "minimum": 1 },
                "tokens_per_minute": { "type": "integer", "minimum": 1 },
                "growth": { "type": "number", "exclusiveMinimum": 0, "maximum": 1000, "description": "Factor on all traffic; 1 is as it is." },
            }),
            &[],
        ),
        operation(
            "prompt_repeats",
            "What repeats in prompts",
            "Whole prompts that repeat, and beginnings that a prompt cache could have kept, where the log has prompts or hashes of them; \
             else what to log. Gives the share of the input that caching can reach, for what_if.",
            &json!({
                "file": file_schema(),
                "keep_minutes": { "type": "integer", "minimum": 1, "maximum": 1440, "description": "How long the cache keeps a beginning; 5." },
                "least_tokens": { "type": "integer", "minimum": 0, "maximum": 1000000, "description": "The shortest cached beginning; 1024." },
            }),
            &[],
        ),
        operation(
            "log_anomalies",
            "What is unusual",
            "Hours, minutes or days of a log in which requests, tokens of a request or latency are far from the median, with a robust z \
             score.",
            &json!({
                "file": file_schema(),
                "threshold": { "type": "number", "minimum": 1, "maximum": 100, "description": "The least score that is told; 3.5." },
            }),
            &[],
        ),
        pareto::tool(),
    ]
}

fn pictures_and_tables() -> Vec<Operation> {
    vec![
        Operation {
            makes_artifact: true,
            ..chart::tool(file_schema())
        },
        sql::tool(),
        figure::tool(),
    ]
}

pub(crate) fn operation(
    name: &str,
    title: &str,
    description: &str,
    properties: &Value,
    required: &[&str],
) -> Operation {
    Operation {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        input_schema: json!({
            "type": "object", "properties": properties, "required": required,
            "additionalProperties": false,
        }),
        makes_artifact: false,
        names_files: false,
    }
}

fn file_schema() -> Value {
    json!({
        "type": "string",
        "description": "Name or id of the log among the files of the run; may be left out when there is only one.",
    })
}

fn baseline_schema() -> Value {
    json!({
        "type": "string",
        "description": "The model that the traffic runs on now; needed as an assumption when the log names none, else the first \
            default of the price list is assumed.",
    })
}

fn price_list_schema() -> Value {
    json!({
        "type": ["string", "object"],
        "description": "A price list of one's own: the name of an input file, TOML or JSON text, or an object with name, \
            source, date, default_models and models [{id, input, cached_input, output, batch: {input, output}}] in USD per \
            million tokens. Without it the built-in dated list.",
    })
}

fn scenarios_schema() -> Value {
    let fraction = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    json!({
        "type": "array", "minItems": 1, "maxItems": 20,
        "description": "kind other_model {model}, shorter_prompts {fraction}, prompt_caching {cached_share}, batching \
            {share, discount}, capped_output {max_tokens}, combined {steps}.",
        "items": {
            "type": "object",
            "properties": {
                "kind": { "enum": [
                    "other_model", "shorter_prompts", "prompt_caching", "batching", "capped_output", "combined",
                ] },
                "label": { "type": "string" },
                "model": { "type": "string" },
                "fraction": fraction,
                "cached_share": fraction,
                "share": fraction,
                "discount": fraction,
                "max_tokens": { "type": "integer", "minimum": 0 },
                "steps": { "type": "array", "items": { "type": "object" }, "minItems": 1, "maxItems": 5 },
            },
            "required": ["kind"],
            "additionalProperties": false,
        },
    })
}
