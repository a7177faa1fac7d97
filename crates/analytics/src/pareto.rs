//! A choice with several aims: which options no other one beats in everything, and a picture of them.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::chart::draw::{self, BLUE, INK, LEFT, Plot, RIGHT, TITLE, WIDTH};
use crate::error::Error;
use crate::jobs::{Operation, operation};
use crate::output::{cut, file_name};

const MAX_OPTIONS: usize = 64;
const MAX_OBJECTIVES: usize = 5;
/// The longest name, in characters.
const NAME_CHARS: usize = 80;
const HEIGHT: i32 = 420;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arguments {
    options: Vec<Choice>,
    objectives: Vec<Objective>,
    title: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    name: String,
    values: Map<String, Value>,
}

/// What is wanted: less or more of a value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Objective {
    field: String,
    better: Better,
    label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Better {
    Lower,
    Higher,
}

/// The choice as a tool.
pub(crate) fn tool() -> Operation {
    let option = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "values": { "type": "object" } },
        "required": ["name", "values"], "additionalProperties": false,
    });
    let objective = json!({
        "type": "object",
        "properties": {
            "field": { "type": "string" }, "better": { "enum": ["lower", "higher"] }, "label": { "type": "string" },
        },
        "required": ["field", "better"], "additionalProperties": false,
    });
    let described = operation(
        "pareto",
        "Choice with several aims",
        "Finds among options with several values (cost, risk, effort, …) those that no other option beats in everything (the \
         Pareto set), says for each of the others which one beats it, and draws all over the first two objectives.",
        &json!({
            "options": { "type": "array", "items": option, "minItems": 1, "maxItems": MAX_OPTIONS },
            "objectives": { "type": "array", "items": objective, "minItems": 2, "maxItems": MAX_OBJECTIVES },
            "title": { "type": "string" },
            "name": { "type": "string", "description": "File name; .svg is added when it is not there." },
        }),
        &["options", "objectives"],
    );
    Operation {
        makes_artifact: true,
        ..described
    }
}

/// An option with a number for each objective, where more is better.
struct Point {
    at: usize,
    gains: Vec<f64>,
}

impl Point {
    /// At least as good in everything, and better in something.
    fn beats(&self, other: &Self) -> bool {
        let pairs = || self.gains.iter().zip(&other.gains);
        pairs().all(|(a, b)| a >= b) && pairs().any(|(a, b)| a > b)
    }
}

/// The Pareto set and its picture.
pub(crate) fn pareto(arguments: Arguments) -> Result<Value, Error> {
    let Arguments {
        options,
        objectives,
        title,
        name,
    } = arguments;
    if options.is_empty() || options.len() > MAX_OPTIONS {
        return Err(Error::invalid(format!("give 1 to {MAX_OPTIONS} options")));
    }
    if !(2..=MAX_OBJECTIVES).contains(&objectives.len()) {
        return Err(Error::invalid(format!(
            "give 2 to {MAX_OBJECTIVES} objectives"
        )));
    }
    let (mut points, mut left_out) = (Vec::new(), Vec::new());
    for (at, option) in options.iter().enumerate() {
        match gains(option, &objectives) {
            Ok(gains) => points.push(Point { at, gains }),
            Err(field) => {
                let reason = format!("it has no number for {}", cut(field, NAME_CHARS));
                left_out.push(json!({ "name": named(option), "reason": reason }));
            }
        }
    }
    if points.is_empty() {
        return Err(Error::invalid("no option has a number for every objective"));
    }
    let best: Vec<bool> = points
        .iter()
        .map(|p| !points.iter().any(|other| other.beats(p)))
        .collect();
    let told = |point: &Point| {
        let by = points
            .iter()
            .zip(&best)
            .find(|(other, best)| **best && other.beats(point));
        let option = &options[point.at];
        let values: Map<String, Value> = objectives
            .iter()
            .map(|o| (o.field.clone(), option.values[&o.field].clone()))
            .collect();
        json!({
            "number": point.at + 1, "name": named(option), "values": values, "pareto": by.is_none(),
            "beaten_by": by.map(|(other, _)| named(&options[other.at])),
        })
    };
    let rows: Vec<Value> = points.iter().map(told).collect();
    let front: Vec<&Value> = rows
        .iter()
        .filter(|row| row["pareto"] == true)
        .map(|row| &row["name"])
        .collect();
    let title = title.map_or_else(
        || "Choice".to_owned(),
        |title| cut(title.trim(), 90).into_owned(),
    );
    let svg = picture(&title, &points, &best, &objectives)?;
    let names: Vec<&str> = front.iter().filter_map(|name| name.as_str()).collect();
    let alt = format!(
        "{title}: of {} options no other one beats {}.",
        rows.len(),
        names.join("; ")
    );
    let alt = cut(&alt, 2_000).into_owned();
    Ok(json!({
        "name": name.as_deref().and_then(|name| file_name(name, "svg")).unwrap_or_else(|| "choice.svg".into()),
        "media_type": "image/svg+xml",
        "content": draw::with_description(&svg, &title, &alt),
        "alt": alt,
        "title": title,
        "front": front,
        "options": rows,
        "left_out": left_out,
        "method": "an option is in the set when no other one is at least as good in every objective and better in one",
    }))
}

fn named(option: &Choice) -> String {
    cut(option.name.trim(), NAME_CHARS).into_owned()
}

/// A number for each objective, turned so that more is better; else the field that has none.
fn gains<'a>(option: &Choice, objectives: &'a [Objective]) -> Result<Vec<f64>, &'a str> {
    let gain = |objective: &'a Objective| {
        let value = option.values.get(&objective.field).and_then(Value::as_f64);
        let value = value
            .filter(|value| value.abs() < 1e15)
            .ok_or(objective.field.as_str())?;
        Ok(if objective.better == Better::Higher {
            value
        } else {
            -value
        })
    };
    objectives.iter().map(gain).collect()
}

/// An axis from below to above all values, zero included, with round steps.
struct Axis {
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    fn over(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(0.0, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        // Room above the highest value, so that its number does not meet the edge.
        let (step, _) = draw::steps((high - low).max(1e-9) * 1.1, 4.0);
        let to = ((high * 1.05 / step).ceil() * step).max(step);
        Self {
            from: (low / step).floor() * step,
            to,
            step,
        }
    }

    fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.to - self.from) / self.step).round() as u32;
        (0..=count).map(|at| self.from + f64::from(at) * self.step)
    }
}

fn picture(
    title: &str,
    points: &[Point],
    best: &[bool],
    objectives: &[Objective],
) -> Result<String, Error> {
    let value = |point: &Point, at: usize| match objectives[at].better {
        Better::Higher => point.gains[at],
        Better::Lower => -point.gains[at],
    };
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().map(|p| (value(p, 0), value(p, 1))).unzip();
    let (level, upright) = (Axis::over(&xs), Axis::over(&ys));
    let plot = Plot {
        top: TITLE + 26,
        bottom: HEIGHT - 56,
        from: level.from,
        to: level.to,
        min: upright.from,
        max: upright.to,
    };
    draw::picture(title, HEIGHT, |area| {
        axes(area, &plot, (&level, &upright), objectives)?;
        for (at, ((x, y), best)) in xs.iter().zip(&ys).zip(best).enumerate() {
            let (colour, size) = if *best { (BLUE, 6) } else { (INK, 4) };
            let (x, y) = (plot.x(*x), plot.y(*y));
            area.draw(&Circle::new((x, y), size, colour.mix(0.85).filled()))
                .map_err(draw::failed)?;
            if *best {
                // Dots that are close take turns above and below.
                let beside = if at % 2 == 0 { y - 14 } else { y + 15 };
                draw::text(
                    area,
                    &(points[at].at + 1).to_string(),
                    (x, beside),
                    12.0,
                    false,
                    HPos::Center,
                )?;
            }
        }
        let legend = "blue: no other option beats it in everything; its number is that of the list";
        draw::text(
            area,
            legend,
            (WIDTH as i32 - RIGHT, HEIGHT - 6),
            12.0,
            false,
            HPos::Right,
        )
    })
}

fn axes(
    area: &draw::Area<'_>,
    plot: &Plot,
    (level, upright): (&Axis, &Axis),
    objectives: &[Objective],
) -> Result<(), Error> {
    let words = |objective: &Objective| {
        let label = objective.label.as_deref().unwrap_or(&objective.field);
        let better = if objective.better == Better::Higher {
            "more is better"
        } else {
            "less is better"
        };
        format!("{} ({better})", cut(label, 50))
    };
    draw::text(
        area,
        &words(&objectives[1]),
        (LEFT, TITLE + 8),
        13.0,
        false,
        HPos::Left,
    )?;
    let at = (WIDTH as i32 - RIGHT, plot.bottom + 34);
    draw::text(area, &words(&objectives[0]), at, 13.0, false, HPos::Right)?;
    let size = |low: f64, high: f64| low.abs().max(high.abs());
    for y in upright.marks() {
        let at = plot.y(y);
        draw::line(area, (LEFT, at), (WIDTH as i32 - RIGHT, at), 0.22)?;
        draw::text(
            area,
            &draw::short(y, size(plot.min, plot.max)),
            (LEFT - 8, at),
            12.0,
            false,
            HPos::Right,
        )?;
    }
    for x in level.marks() {
        let at = plot.x(x);
        draw::line(area, (at, plot.bottom), (at, plot.bottom + 4), 0.75)?;
        draw::text(
            area,
            &draw::short(x, size(plot.from, plot.to)),
            (at, plot.bottom + 16),
            12.0,
            false,
            HPos::Center,
        )?;
    }
    Ok(())
}
