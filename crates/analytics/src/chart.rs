//! Charts as SVG: transparent, in colours that read on light and dark, without scripts or references to anything outside.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::jobs::{Operation, operation};
use crate::log::Log;
use crate::output::{self, Missing, cut, thousands};
use crate::profile;
use crate::times::{self, Base, SECOND};

pub(crate) mod draw;

/// The most points, bins or options of a chart.
const MAX_POINTS: usize = 400;
/// The most options of a cost chart.
const MAX_OPTIONS: usize = 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    kind: Kind,
    title: Option<String>,
    name: Option<String>,
    file: Option<String>,
    time_series: Option<Series>,
    histogram: Option<Histogram>,
    side: Option<Side>,
    options: Option<Vec<CostOption>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    TokensOverTime,
    RequestsPerMinute,
    TokenHistogram,
    CostByOption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Input,
    Output,
}

#[derive(Deserialize)]
struct Series {
    bucket_seconds: u64,
    points: Vec<SeriesPoint>,
}

#[derive(Deserialize)]
struct SeriesPoint {
    start: String,
    requests: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Histogram {
    bins: Vec<Bin>,
}

/// So many requests had `from <= tokens < to`.
#[derive(Deserialize)]
struct Bin {
    from: u64,
    to: u64,
    count: u64,
}

#[derive(Deserialize)]
struct CostOption {
    label: String,
    cost_usd: f64,
}

/// Values over time, ready to be drawn.
struct Timeline {
    /// Start of each bucket, in seconds.
    starts: Vec<f64>,
    bucket: f64,
    base: Base,
}

/// The chart as a tool.
pub(crate) fn tool(file: Value) -> Operation {
    let series = json!({ "type": "object", "description": "time_series of log_profile" });
    let histogram = json!({ "type": "object", "description": "token_histogram.input or .output of log_profile" });
    let option = json!({
        "type": "object",
        "properties": { "label": { "type": "string" }, "cost_usd": { "type": "number", "minimum": 0 } },
        "required": ["label", "cost_usd"],
    });
    operation(
        "chart",
        "Chart",
        "Draws an SVG chart: tokens_over_time or requests_per_minute (from time_series or file), token_histogram (from \
         histogram or file, with side), cost_by_option (from options).",
        &json!({
            "kind": { "enum": ["tokens_over_time", "requests_per_minute", "token_histogram", "cost_by_option"] },
            "title": { "type": "string" },
            "name": { "type": "string", "description": "File name; .svg is added when it is not there." },
            "file": file,
            "time_series": series,
            "histogram": histogram,
            "side": { "enum": ["input", "output"] },
            "options": { "type": "array", "items": option, "minItems": 1, "maxItems": MAX_OPTIONS },
        }),
        &["kind"],
    )
}

type Load<'a> = dyn FnMut(Option<&str>) -> Result<Log, Error> + 'a;

/// Draws the chart that the arguments ask for; `load` reads a log when they hold no data.
pub(crate) fn chart(mut arguments: Arguments, load: &mut Load<'_>) -> Result<Value, Error> {
    let title = arguments
        .title
        .take()
        .map(|title| cut(title.trim(), 90).into_owned());
    let drawn = match arguments.kind {
        Kind::TokensOverTime => tokens_over_time(series(&mut arguments, load)?, title)?,
        Kind::RequestsPerMinute => requests_per_minute(series(&mut arguments, load)?, title)?,
        Kind::TokenHistogram => token_histogram(&mut arguments, load, title)?,
        Kind::CostByOption => cost_by_option(arguments.options.take().unwrap_or_default(), title)?,
    };
    let name = arguments.name.as_deref();
    let name = name.and_then(|name| output::file_name(name, "svg"));
    Ok(json!({
        "name": name.unwrap_or_else(|| format!("{}.svg", drawn.default_name)),
        "media_type": "image/svg+xml",
        "content": draw::with_description(&drawn.svg, &drawn.title, &drawn.alt),
        "alt": drawn.alt,
        "title": drawn.title,
        "points": drawn.points,
        "missing": Missing::default().into_value(),
        "assumptions": [],
    }))
}

struct Drawn {
    default_name: String,
    title: String,
    alt: String,
    points: usize,
    svg: String,
}

fn series(arguments: &mut Arguments, load: &mut Load<'_>) -> Result<Series, Error> {
    if let Some(series) = arguments.time_series.take() {
        return Ok(series);
    }
    let log = load(arguments.file.as_deref())?;
    let profile = profile::profile(&log);
    serde_json::from_value(profile["time_series"].clone())
        .map_err(|_| Error::invalid(format!("{} has no times to draw", log.file)))
}

fn timeline(series: &Series) -> Result<Timeline, Error> {
    if series.points.is_empty() || series.points.len() > MAX_POINTS {
        return Err(Error::invalid(format!(
            "a time series has 1 to {MAX_POINTS} points"
        )));
    }
    if series.bucket_seconds == 0 {
        return Err(Error::invalid("bucket_seconds must be more than 0"));
    }
    let mut starts = Vec::with_capacity(series.points.len());
    let mut base = Base::Utc;
    for point in &series.points {
        let moment = times::parse_shown(&point.start).ok_or_else(|| {
            Error::invalid(format!("\"{}\" is not a time", cut(&point.start, 40)))
        })?;
        base = moment.base;
        let start = moment.nanos as f64 / SECOND as f64;
        if starts.last().is_some_and(|last| *last >= start) {
            return Err(Error::invalid(
                "the points of a time series must be in order",
            ));
        }
        starts.push(start);
    }
    Ok(Timeline {
        starts,
        bucket: series.bucket_seconds as f64,
        base,
    })
}

/// The words for a bucket of so many seconds.
fn per(seconds: u64) -> String {
    match seconds {
        60 => "minute".into(),
        3_600 => "hour".into(),
        86_400 => "day".into(),
        s if s % 86_400 == 0 => format!("{} days", s / 86_400),
        s if s % 3_600 == 0 => format!("{} hours", s / 3_600),
        s if s % 60 == 0 => format!("{} minutes", s / 60),
        s => format!("{s} seconds"),
    }
}

fn extent(series: &Series) -> String {
    let first = series.points.first().map_or("", |p| p.start.as_str());
    let last = series.points.last().map_or("", |p| p.start.as_str());
    format!("from {} to {}", cut(first, 40), cut(last, 40))
}

fn highest(values: &[f64], series: &Series) -> String {
    let best = values
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(String::new(), |(at, value)| {
        let start = cut(&series.points[at].start, 40).into_owned();
        format!("highest {} at {start}", thousands(value.round() as u64))
    })
}

fn tokens_over_time(series: Series, title: Option<String>) -> Result<Drawn, Error> {
    let line = timeline(&series)?;
    let values = |pick: fn(&SeriesPoint) -> Option<u64>| -> Option<Vec<f64>> {
        let known = series.points.iter().any(|point| pick(point).is_some());
        known.then(|| {
            series
                .points
                .iter()
                .map(|p| pick(p).unwrap_or(0) as f64)
                .collect()
        })
    };
    let each = per(series.bucket_seconds);
    let mut panels = Vec::new();
    let mut alt = Vec::new();
    for (side, values) in [
        ("Input", values(|p| p.input_tokens)),
        ("Output", values(|p| p.output_tokens)),
    ] {
        let Some(values) = values else { continue };
        alt.push(format!(
            "{} tokens {}",
            side.to_lowercase(),
            highest(&values, &series)
        ));
        panels.push((format!("{side} tokens per {each}"), values));
    }
    if panels.is_empty() {
        return Err(Error::invalid("the time series has no token counts"));
    }
    let title = title.unwrap_or_else(|| "Tokens over time".to_owned());
    let svg = draw::areas(&title, &line, &panels)?;
    let alt = format!("{title}, {}: {}.", extent(&series), alt.join("; "));
    let points = series.points.len();
    Ok(Drawn {
        default_name: "tokens-over-time".into(),
        title,
        alt,
        points,
        svg,
    })
}

fn requests_per_minute(series: Series, title: Option<String>) -> Result<Drawn, Error> {
    let line = timeline(&series)?;
    if series.points.iter().all(|point| point.requests.is_none()) {
        return Err(Error::invalid("the time series has no requests"));
    }
    let rate = 60.0 / series.bucket_seconds as f64;
    let values: Vec<f64> = series
        .points
        .iter()
        .map(|p| p.requests.unwrap_or(0) as f64 * rate)
        .collect();
    let each = per(series.bucket_seconds);
    let what = if series.bucket_seconds == 60 {
        "Requests in each minute".to_owned()
    } else {
        format!("Requests per minute, mean of each {each}")
    };
    let title = title.unwrap_or_else(|| "Requests per minute".to_owned());
    let svg = draw::bars_over_time(&title, &what, &line, &values)?;
    let alt = format!(
        "{title}, {}: {}.",
        extent(&series),
        highest(&values, &series)
    );
    let points = series.points.len();
    Ok(Drawn {
        default_name: "requests-per-minute".into(),
        title,
        alt,
        points,
        svg,
    })
}

fn token_histogram(
    arguments: &mut Arguments,
    load: &mut Load<'_>,
    title: Option<String>,
) -> Result<Drawn, Error> {
    let side = arguments.side.unwrap_or(Side::Input);
    let (word, name) = match side {
        Side::Input => ("input", "input-token-histogram"),
        Side::Output => ("output", "output-token-histogram"),
    };
    let histogram = match arguments.histogram.take() {
        Some(histogram) => histogram,
        None => {
            let log = load(arguments.file.as_deref())?;
            let profile = profile::profile(&log);
            serde_json::from_value(profile["token_histogram"][word].clone()).map_err(|_| {
                Error::invalid(format!(
                    "{} has no {word} tokens of single requests to draw",
                    log.file
                ))
            })?
        }
    };
    let bins = histogram.bins;
    if bins.is_empty() || bins.len() > MAX_POINTS || bins.iter().any(|bin| bin.from >= bin.to) {
        return Err(Error::invalid(format!(
            "a histogram has 1 to {MAX_POINTS} bins with from below to"
        )));
    }
    let total: u64 = bins
        .iter()
        .map(|bin| bin.count)
        .fold(0, u64::saturating_add);
    let fullest = bins.iter().max_by_key(|bin| bin.count);
    let title = title.unwrap_or_else(|| format!("How many {word} tokens requests have"));
    let svg = draw::histogram(&title, &format!("{word} tokens of a request"), &bins)?;
    let most = fullest.map_or(String::new(), |bin| {
        let (from, to) = (thousands(bin.from), thousands(bin.to));
        format!(
            "most requests, {}, have {from} to under {to} {word} tokens",
            thousands(bin.count)
        )
    });
    let alt = format!("{title}: {} requests; {most}.", thousands(total));
    Ok(Drawn {
        default_name: name.into(),
        title,
        alt,
        points: bins.len(),
        svg,
    })
}

fn cost_by_option(options: Vec<CostOption>, title: Option<String>) -> Result<Drawn, Error> {
    let sound = |o: &CostOption| o.cost_usd.is_finite() && (0.0..1e12).contains(&o.cost_usd);
    if options.is_empty() || options.len() > MAX_OPTIONS || !options.iter().all(sound) {
        return Err(Error::invalid(format!(
            "cost_by_option needs 1 to {MAX_OPTIONS} options, each with a label and a cost_usd that is not negative"
        )));
    }
    let options: Vec<(String, f64)> = options
        .iter()
        .map(|o| (cut(o.label.trim(), 80).into_owned(), o.cost_usd))
        .collect();
    let title = title.unwrap_or_else(|| "Cost by option".to_owned());
    let svg = draw::cost_bars(&title, &options)?;
    let each: Vec<String> = options
        .iter()
        .map(|(label, cost)| format!("{label} {}", dollars(*cost)))
        .collect();
    let alt = format!("{title}: {}.", each.join("; "));
    Ok(Drawn {
        default_name: "cost-by-option".into(),
        title,
        alt,
        points: options.len(),
        svg,
    })
}

/// An amount for people: cents from a dollar on, three digits below.
fn dollars(amount: f64) -> String {
    if amount >= 1.0 {
        let cents = (amount * 100.0).round() as u64;
        return format!("${}.{:02}", thousands(cents / 100), cents % 100);
    }
    if amount == 0.0 {
        return "$0".into();
    }
    let decimals = (2 - amount.log10().floor() as i32).clamp(2, 12) as usize;
    format!("${}", output::round(amount, decimals as i32))
}
