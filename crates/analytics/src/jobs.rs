//! The operations by name: what a worker process runs, and what the server offers as tools.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use crate::error::{Code, Error};
use crate::log::Log;
use crate::read::Progress;
use crate::{arguments, chart, cost, figure, inspect, profile, read, sql, what_if};

/// The longest result beside its `content`, as JSON text in bytes. The limits of the parts keep below it.
const MAX_RESULT_BYTES: usize = 100_000;
/// The field of a result that is to be stored as a file, under the result's `name` and `media_type`.
const CONTENT: &str = "content";

/// A file that a job may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The name by which the user and the arguments call it.
    pub name: String,
    /// As the uploader declared it; the content decides how it is read.
    pub media_type: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
}

/// An operation as a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The name of the tool.
    pub name: String,
    /// A few words for people.
    pub title: String,
    /// What it does and gives, for a model that chooses tools.
    pub description: String,
    /// JSON Schema of the arguments; unknown fields are refused.
    pub input_schema: Value,
    /// Whether the result may hold a file to be stored as an artifact (`name`, `media_type`, `content`).
    pub makes_artifact: bool,
    /// Whether the argument `files` names the files that it reads, any of the user's; else it has those of the run.
    pub names_files: bool,
}

/// Runs the operation `op`. A query of the caller's own ends after `time`; whoever runs all of this in a worker holds
/// the rest to it. `progress` hears how far it is (0 to 1) and at what. The result is an object of less than
/// 100 KB beside its `content`; the same arguments over the same files give the same result.
///
/// # Errors
/// [`Code::UnknownOperation`] for a name that [`operations`] does not list, [`Code::InvalidInput`] for arguments that do
/// not fit, [`Code::UnreadableFile`] for a file that is none of what can be read.
pub fn run(
    op: &str,
    arguments: Value,
    inputs: &[InputFile],
    time: Duration,
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, Error> {
    progress(0.0, "starting");
    let mut result = match op {
        "log_inspect" => {
            let args: FileOnly = arguments::read(op, arguments)?;
            let file = arguments::input(args.file.as_deref(), inputs)?;
            let log = read::open(&file.name, &file.path, Some(inspect::MAX_RECORDS), progress)?;
            inspect::inspect(&log)
        }
        "log_profile" => {
            let args: FileOnly = arguments::read(op, arguments)?;
            let log = load(args.file.as_deref(), inputs, progress)?;
            progress(0.9, "summing up");
            profile::profile(&log)
        }
        "log_cost" => {
            let args: cost::Arguments = arguments::read(op, arguments)?;
            let list = arguments::price_list(args.price_list.as_ref(), inputs)?;
            let log = load(args.file.as_deref(), inputs, progress)?;
            progress(0.9, "pricing");
            cost::cost(&log, &list, args.models.as_deref())?
        }
        "what_if" => {
            let args: what_if::Arguments = arguments::read(op, arguments)?;
            let list = arguments::price_list(args.price_list.as_ref(), inputs)?;
            let log = load(args.file.as_deref(), inputs, progress)?;
            progress(0.9, "pricing the scenarios");
            what_if::what_if(&log, &list, &args)?
        }
        "chart" => {
            let args: chart::Arguments = arguments::read(op, arguments)?;
            chart::chart(args, &mut |file| load(file, inputs, progress))?
        }
        "sql_query" => {
            let args: sql::Arguments = arguments::read(op, arguments)?;
            sql::sql(&args, inputs, time, progress)?
        }
        "make_chart" => {
            let args: figure::Arguments = arguments::read(op, arguments)?;
            figure::figure(args, inputs, time, progress)?
        }
        other => {
            return Err(Error {
                code: Code::UnknownOperation,
                message: format!(
                    "there is no operation \"{}\"",
                    crate::output::cut(other, 60)
                ),
            });
        }
    };
    let content = result
        .as_object_mut()
        .and_then(|fields| fields.remove(CONTENT));
    if result.to_string().len() > MAX_RESULT_BYTES {
        return Err(Error::internal(format!("the result of {op} is too long")));
    }
    if let Some(content) = content {
        result[CONTENT] = content;
    }
    progress(1.0, "done");
    Ok(result)
}

/// Reads a whole log that has at least times or tokens.
fn load(
    file: Option<&str>,
    inputs: &[InputFile],
    progress: &mut Progress<'_>,
) -> Result<Log, Error> {
    let file = arguments::input(file, inputs)?;
    let log = read::open(&file.name, &file.path, None, &mut |part, text| {
        progress(part * 0.9, text);
    })?;
    if log.rows > 0
        || log
            .headers
            .iter()
            .any(|h| h.column.is_some_and(|c| c.used()))
    {
        return Ok(log);
    }
    let headers: Vec<&str> = log
        .headers
        .iter()
        .map(|h| h.header.as_str())
        .take(12)
        .collect();
    Err(Error::invalid(format!(
        "{} has none of the columns that the analyses know; its headers are: {}",
        log.file,
        headers.join(", ")
    )))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOnly {
    file: Option<String>,
}

/// All operations, in the order in which an analysis uses them.
pub fn operations() -> Vec<Operation> {
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
                "baseline_model": {
                    "type": "string",
                    "description": "The model that the traffic runs on now; needed as an assumption when the log names none, \
                        else the first default of the price list is assumed.",
                },
                "price_list": price_list_schema(),
            }),
            &["scenarios"],
        ),
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
