//! The operations by name: what a worker process runs, and what the server offers as tools.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::error::{Code, Error};
use crate::log::Log;
pub(crate) use crate::operations::operation;
pub use crate::operations::operations;
use crate::prices::PriceList;
use crate::read::Progress;
use crate::{
    anomalies, arguments, chart, cost, drivers, figure, forecast, growth, inspect, latency, pareto,
    profile, rate_limits, read, repeats, sql, what_if,
};

/// The longest result beside its `content`, as JSON text in bytes. The limits of the parts keep below it.
const MAX_RESULT_BYTES: usize = 100_000;
/// The field of a result that is to be stored as a file, under the result's `name` and `media_type`.
const CONTENT: &str = "content";
/// The name of the input with the prices of whoever runs all of this, which comes last; no file of a user's has it.
pub const OWN_PRICES: &str = "/prices";

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
    let (inputs, own_prices) = match inputs.split_last() {
        Some((last, others)) if last.name == OWN_PRICES => (others, Some(last)),
        _ => (inputs, None),
    };
    let mut result = match op {
        "log_inspect" => {
            let args: FileOnly = arguments::read(op, arguments)?;
            let file = arguments::input(args.file.as_deref(), inputs)?;
            let log = read::open(&file.name, &file.path, Some(inspect::MAX_RECORDS), progress)?;
            inspect::inspect(&log)
        }
        "log_profile" => {
            let args: FileOnly = arguments::read(op, arguments)?;
            profile::profile(&load(args.file.as_deref(), inputs, progress)?)
        }
        "latency_drivers" => {
            let args: FileOnly = arguments::read(op, arguments)?;
            latency::latency(&load(args.file.as_deref(), inputs, progress)?)?
        }
        "rate_limits" => {
            let args: rate_limits::Arguments = arguments::read(op, arguments)?;
            rate_limits::rate_limits(&load(args.file.as_deref(), inputs, progress)?, &args)?
        }
        "prompt_repeats" => {
            let args: repeats::Arguments = arguments::read(op, arguments)?;
            repeats::repeats(&load(args.file.as_deref(), inputs, progress)?, &args)?
        }
        "log_anomalies" => {
            let args: anomalies::Arguments = arguments::read(op, arguments)?;
            anomalies::anomalies(&load(args.file.as_deref(), inputs, progress)?, &args)?
        }
        "log_cost" | "what_if" | "cost_drivers" | "usage_growth" | "usage_forecast" => {
            priced(op, arguments, (inputs, own_prices), progress)?
        }
        "pareto" => pareto::pareto(arguments::read(op, arguments)?)?,
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

/// The operations that need a price list.
fn priced(
    op: &str,
    arguments: Value,
    inputs: (&[InputFile], Option<&InputFile>),
    progress: &mut Progress<'_>,
) -> Result<Value, Error> {
    match op {
        "log_cost" => {
            let args: cost::Arguments = arguments::read(op, arguments)?;
            let (log, list) = with_prices(&args.file, &args.price_list, inputs, progress)?;
            cost::cost(&log, &list, args.models.as_deref())
        }
        "cost_drivers" => {
            let args: drivers::Arguments = arguments::read(op, arguments)?;
            let (log, list) = with_prices(&args.file, &args.price_list, inputs, progress)?;
            drivers::drivers(&log, &list, &args)
        }
        "usage_growth" => {
            let args: growth::Arguments = arguments::read(op, arguments)?;
            let (log, list) = with_prices(&args.file, &args.price_list, inputs, progress)?;
            growth::growth(&log, &list, &args)
        }
        "usage_forecast" => {
            let args: forecast::Arguments = arguments::read(op, arguments)?;
            let (log, list) = with_prices(&args.file, &args.price_list, inputs, progress)?;
            forecast::forecast(&log, &list, &args)
        }
        _ => {
            let args: what_if::Arguments = arguments::read(op, arguments)?;
            let (log, list) = with_prices(&args.file, &args.price_list, inputs, progress)?;
            what_if::what_if(&log, &list, &args)
        }
    }
}

/// A log, and the list that it is priced by.
fn with_prices(
    file: &Option<String>,
    list: &Option<Value>,
    (inputs, own): (&[InputFile], Option<&InputFile>),
    progress: &mut Progress<'_>,
) -> Result<(Log, PriceList), Error> {
    let list = arguments::price_list(list.as_ref(), inputs, own)?;
    let log = load(file.as_deref(), inputs, progress)?;
    progress(0.9, "pricing");
    Ok((log, list))
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
