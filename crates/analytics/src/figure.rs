//! `make_chart`: any numbers of the user as a chart, given with the call or found by a query over files.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::jobs::{InputFile, Operation, operation};
use crate::output::{cut, file_name};
use crate::sql::{self, Database};
use crate::times::{self, Base, SECOND};

mod draw;

/// The most rows that are drawn each by itself, and the most that come with the call.
const MAX_ROWS: usize = 2_000;
/// The most values of a histogram.
const MAX_VALUES: usize = 100_000;
/// The most bars below each other.
const MAX_BARS: usize = 60;
/// The most columns that are drawn into one chart.
const MAX_SERIES: usize = 4;
/// The longest word in a picture, in characters.
const WORD_CHARS: usize = 80;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    kind: Kind,
    x: String,
    y: Option<Columns>,
    title: Option<String>,
    name: Option<String>,
    data: Option<Vec<Map<String, Value>>>,
    query: Option<String>,
    #[expect(dead_code, reason = "whoever starts the job has made inputs of them")]
    files: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Line,
    Area,
    Scatter,
    Bar,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Area => "area",
            Self::Scatter => "scatter",
            Self::Bar => "bar",
            Self::Histogram => "histogram",
        }
    }

    fn most_rows(self) -> usize {
        match self {
            Self::Bar => MAX_BARS,
            Self::Histogram => MAX_VALUES,
            Self::Line | Self::Area | Self::Scatter => MAX_ROWS,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Columns {
    One(String),
    Several(Vec<String>),
}

/// The chart as a tool.
pub(crate) fn tool() -> Operation {
    let column = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
    let described = operation(
        "make_chart",
        "Chart of any numbers",
        "Draws an SVG chart and stores it as a file: line, area and scatter (x: numbers or times, y: one to four columns of \
         numbers), bar (x: names), histogram (x: numbers, no y). The rows come as data, or from a SELECT statement over \
         files of the user as in sql_query; aggregate there, as at most 2,000 rows are drawn (60 bars; 100,000 values of \
         a histogram).",
        &json!({
            "kind": { "enum": ["line", "area", "scatter", "bar", "histogram"] },
            "x": column,
            "y": { "anyOf": [column, {
                "type": "array", "items": column, "minItems": 1, "maxItems": MAX_SERIES, "uniqueItems": true,
            }] },
            "title": { "type": "string", "maxLength": 200 },
            "name": { "type": "string", "maxLength": 100, "description": "File name; .svg is added when it is not there." },
            "data": {
                "type": "array", "items": { "type": "object" }, "minItems": 1, "maxItems": MAX_ROWS,
                "description": "The rows as objects, in place of a query.",
            },
            "query": sql::query_schema("One SELECT statement that gives the rows, in place of data."),
            "files": sql::files_schema(),
        }),
        &["kind", "x"],
    );
    Operation {
        makes_artifact: true,
        names_files: true,
        ..described
    }
}

/// Rows with named columns, wherever they come from.
struct Sheet {
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// Draws the chart.
pub(crate) fn figure(
    mut arguments: Arguments,
    inputs: &[InputFile],
    time: Duration,
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, Error> {
    let sheet = Sheet::of(&mut arguments, inputs, time, progress)?;
    progress(0.9, "drawing");
    let title = arguments.title.take();
    let title = title.map(|title| cut(title.trim(), WORD_CHARS).into_owned());
    let title = title.filter(|title| !title.is_empty());
    let drawn = match arguments.kind {
        Kind::Histogram => histogram(&sheet, &arguments, title)?,
        Kind::Bar => bars(&sheet, &arguments, title)?,
        Kind::Line | Kind::Area | Kind::Scatter => over_axis(&sheet, &arguments, title)?,
    };
    let name = arguments.name.as_deref();
    let name = name.and_then(|name| file_name(name, "svg"));
    Ok(json!({
        "name": name.unwrap_or_else(|| format!("{}-chart.svg", arguments.kind.name())),
        "media_type": "image/svg+xml",
        "content": crate::chart::draw::with_description(&drawn.svg, &drawn.title, &drawn.alt),
        "alt": drawn.alt,
        "title": drawn.title,
        "points": drawn.points,
        "left_out": drawn.left_out,
    }))
}

struct Drawn {
    title: String,
    alt: String,
    points: usize,
    /// Rows without a value where one is needed.
    left_out: usize,
    svg: String,
}

impl Sheet {
    /// The rows that the call holds, or those of its query.
    fn of(
        arguments: &mut Arguments,
        inputs: &[InputFile],
        time: Duration,
        progress: &mut dyn FnMut(f32, &str),
    ) -> Result<Self, Error> {
        let kind = arguments.kind;
        let most = kind.most_rows();
        let sheet = match (arguments.data.take(), &arguments.query) {
            (Some(rows), None) => Self::given(rows),
            (None, Some(query)) => {
                let mut loading = |share: f32, words: &str| progress(share * 0.7, words);
                let database = Database::load(inputs, time, &mut loading)?;
                progress(0.7, "answering");
                Self::found(&database, query, most)?
            }
            _ => return Err(Error::invalid("give either data or a query")),
        };
        if sheet.rows.is_empty() {
            return Err(Error::invalid("there are no rows to draw"));
        }
        if sheet.rows.len() > most {
            return Err(Error::invalid(format!(
                "there are more than {most} rows, which is the most that a {} chart shows: aggregate them in the query",
                kind.name()
            )));
        }
        Ok(sheet)
    }

    fn given(rows: Vec<Map<String, Value>>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for row in &rows {
            for name in row.keys() {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        let cells = |mut row: Map<String, Value>| {
            let cell = |name: &String| row.remove(name).unwrap_or(Value::Null);
            names.iter().map(cell).collect()
        };
        let rows = rows.into_iter().map(cells).collect();
        Self { names, rows }
    }

    /// The rows of a query, and one more than can be drawn where there are too many.
    fn found(database: &Database, query: &str, most: usize) -> Result<Self, Error> {
        let mut rows = Vec::new();
        let names = database.select(query, &mut |names, row| {
            let cell = |at| row.get_ref(at).map(sql::value);
            let cells: Result<Vec<Value>, _> = (0..names.len()).map(cell).collect();
            rows.push(cells.map_err(|error| Error::internal(error.to_string()))?);
            Ok(rows.len() <= most)
        })?;
        Ok(Self { names, rows })
    }

    fn column(&self, name: &str) -> Result<usize, Error> {
        let found = self.names.iter().position(|known| known == name);
        found.ok_or_else(|| {
            let known: Vec<_> = self
                .names
                .iter()
                .take(40)
                .map(|name| cut(name, 60))
                .collect();
            Error::invalid(format!(
                "there is no column \"{}\"; the columns are: {}",
                cut(name, 60),
                known.join(", ")
            ))
        })
    }

    /// The number of a cell; none where it is empty.
    fn number(&self, row: usize, column: usize) -> Result<Option<f64>, Error> {
        match &self.rows[row][column] {
            Value::Null => Ok(None),
            cell => number(cell).map(Some).ok_or_else(|| {
                Error::invalid(format!(
                    "\"{}\" is no number in row {}: {}",
                    cut(&self.names[column], 60),
                    row + 1,
                    cut(&cell.to_string(), 40)
                ))
            }),
        }
    }
}

fn number(cell: &Value) -> Option<f64> {
    let number = match cell {
        Value::String(text) => text.trim().parse().ok(),
        cell => cell.as_f64(),
    };
    number.filter(|number: &f64| number.abs() < 1e300)
}

/// What the level axis shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Numbers,
    Times,
}

/// One drawn column.
struct Series {
    name: String,
    /// Across and up; in order across.
    points: Vec<(f64, f64)>,
}

fn series_columns(sheet: &Sheet, arguments: &Arguments) -> Result<Vec<usize>, Error> {
    let names = match &arguments.y {
        Some(Columns::One(name)) => std::slice::from_ref(name),
        Some(Columns::Several(names)) => names.as_slice(),
        None => &[],
    };
    if names.is_empty() || names.len() > MAX_SERIES {
        return Err(Error::invalid(format!(
            "a {} chart needs y: the name of one to {MAX_SERIES} columns",
            arguments.kind.name()
        )));
    }
    names.iter().map(|name| sheet.column(name)).collect()
}

/// Where the rows stand across: all by numbers, or all by times.
fn across(sheet: &Sheet, column: usize) -> Result<(Level, Vec<Option<f64>>), Error> {
    let cells = || sheet.rows.iter().map(|row| &row[column]);
    if cells().all(|cell| cell.is_null() || number(cell).is_some()) {
        return Ok((Level::Numbers, cells().map(number).collect()));
    }
    let time = |(row, cell): (usize, &Value)| {
        if cell.is_null() {
            return Ok(None);
        }
        let moment = cell.as_str().and_then(times::parse);
        let moment = moment.filter(|moment| moment.base == Base::Utc);
        let seconds = moment.map(|moment| moment.nanos as f64 / SECOND as f64);
        seconds.map(Some).ok_or_else(|| {
            Error::invalid(format!(
                "x must hold numbers or times, and \"{}\" has {} in row {}; for names use a bar chart",
                cut(&sheet.names[column], 60),
                cut(&cell.to_string(), 40),
                row + 1
            ))
        })
    };
    let times: Result<Vec<_>, Error> = cells().enumerate().map(time).collect();
    Ok((Level::Times, times?))
}

/// The columns to be drawn, and how many points lack a value.
fn series(
    sheet: &Sheet,
    arguments: &Arguments,
    places: &[Option<f64>],
) -> Result<(Vec<Series>, usize), Error> {
    let mut all = Vec::new();
    let mut left_out = 0;
    for column in series_columns(sheet, arguments)? {
        let mut points = Vec::with_capacity(places.len());
        for (row, place) in places.iter().enumerate() {
            match (place, sheet.number(row, column)?) {
                (Some(across), Some(up)) => points.push((*across, up)),
                _ => left_out += 1,
            }
        }
        if arguments.kind != Kind::Scatter {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let name = cut(&sheet.names[column], WORD_CHARS).into_owned();
        all.push(Series { name, points });
    }
    Ok((all, left_out))
}

fn over_axis(sheet: &Sheet, arguments: &Arguments, title: Option<String>) -> Result<Drawn, Error> {
    let x = sheet.column(&arguments.x)?;
    let (level, places) = across(sheet, x)?;
    let (all, left_out) = series(sheet, arguments, &places)?;
    let points = all.iter().map(|series| series.points.len()).sum();
    if points == 0 {
        return Err(Error::invalid("no row has both x and y"));
    }
    let x_name = cut(&sheet.names[x], WORD_CHARS).into_owned();
    let title = title.unwrap_or_else(|| format!("{} by {x_name}", names_of(&all)));
    let show = |across: f64| match level {
        Level::Numbers => draw::number(across),
        Level::Times => times::format((across as i64).saturating_mul(SECOND), Base::Utc),
    };
    let highest = |series: &Series| {
        let best = series.points.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(across, up)| {
            let (up, across) = (draw::number(*up), show(*across));
            format!("{} is highest with {up} at {across}", series.name)
        })
    };
    let highest: Vec<String> = all.iter().filter_map(highest).collect();
    let svg = draw::over_axis(&title, &x_name, level, &all, arguments.kind)?;
    Ok(Drawn {
        alt: format!(
            "{title}, a {} chart: {}.",
            arguments.kind.name(),
            highest.join("; ")
        ),
        title,
        points,
        left_out,
        svg,
    })
}

fn names_of(all: &[Series]) -> String {
    let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
    names.join(", ")
}

/// A name with the values that it has.
type Group = (String, Vec<Option<f64>>);

fn label(cell: &Value) -> String {
    match cell {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => cut(text.trim(), WORD_CHARS).into_owned(),
        cell => cut(&cell.to_string(), WORD_CHARS).into_owned(),
    }
}

/// The first bars of a chart.
fn bars_in_words(groups: &[Group]) -> String {
    let words = |(label, values): &Group| {
        let known = values.iter().flatten();
        let values: Vec<String> = known.map(|value| draw::number(*value)).collect();
        format!("{label} {}", values.join(" and "))
    };
    let each: Vec<String> = groups.iter().take(12).map(words).collect();
    let more = if groups.len() > each.len() {
        "; and more"
    } else {
        ""
    };
    format!("{}{more}", each.join("; "))
}

fn bars(sheet: &Sheet, arguments: &Arguments, title: Option<String>) -> Result<Drawn, Error> {
    let x = sheet.column(&arguments.x)?;
    let columns = series_columns(sheet, arguments)?;
    let mut groups = Vec::with_capacity(sheet.rows.len());
    let mut left_out = 0;
    for (row, cells) in sheet.rows.iter().enumerate() {
        let values = columns.iter().map(|column| sheet.number(row, *column));
        let values: Vec<Option<f64>> = values.collect::<Result<_, _>>()?;
        left_out += values.iter().filter(|value| value.is_none()).count();
        groups.push((label(&cells[x]), values));
    }
    let values = groups.iter().flat_map(|(_, values)| values);
    let points = values.flatten().count();
    if points == 0 {
        return Err(Error::invalid("no row has a value in y"));
    }
    let names: Vec<String> = columns
        .iter()
        .map(|column| cut(&sheet.names[*column], WORD_CHARS).into_owned())
        .collect();
    let x_name = cut(&sheet.names[x], WORD_CHARS);
    let title = title.unwrap_or_else(|| format!("{} by {x_name}", names.join(", ")));
    let svg = draw::bars(&title, &names, &groups)?;
    Ok(Drawn {
        alt: format!("{title}, a bar chart: {}.", bars_in_words(&groups)),
        title,
        points,
        left_out,
        svg,
    })
}

fn histogram(sheet: &Sheet, arguments: &Arguments, title: Option<String>) -> Result<Drawn, Error> {
    if arguments.y.is_some() {
        return Err(Error::invalid(
            "a histogram counts the values of x and has no y",
        ));
    }
    let x = sheet.column(&arguments.x)?;
    let values = (0..sheet.rows.len()).map(|row| sheet.number(row, x));
    let values: Vec<Option<f64>> = values.collect::<Result<_, _>>()?;
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    if known.is_empty() {
        return Err(Error::invalid("no row has a value in x"));
    }
    let bins = draw::Bins::of(&known);
    let x_name = cut(&sheet.names[x], WORD_CHARS).into_owned();
    let title = title.unwrap_or_else(|| format!("Distribution of {x_name}"));
    let svg = draw::histogram(&title, &x_name, &bins)?;
    let (from, to, count) = bins.fullest();
    Ok(Drawn {
        alt: format!(
            "{title}, a histogram of {} values: most, {count}, are from {} to under {}.",
            known.len(),
            draw::number(from),
            draw::number(to)
        ),
        title,
        points: known.len(),
        left_out: values.len() - known.len(),
        svg,
    })
}
