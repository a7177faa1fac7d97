//! The drawing itself: axes, areas and bars on a transparent ground, by plotters' SVG backend.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Bin, Timeline, dollars};
use crate::error::Error;
use crate::times::{self, Base, SECOND};

/// Middle tones that stand out from white and from near-black alike.
pub(crate) const INK: RGBColor = RGBColor(0x76, 0x7B, 0x85);
pub(crate) const BLUE: RGBColor = RGBColor(0x3D, 0x86, 0xD8);
pub(crate) const ORANGE: RGBColor = RGBColor(0xDD, 0x7F, 0x2E);
const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
pub(crate) const WIDTH: u32 = 800;
pub(crate) const LEFT: i32 = 66;
pub(crate) const RIGHT: i32 = 22;
pub(crate) const TITLE: i32 = 44;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The box of one plot, in pixels, and its scales.
pub(crate) struct Plot {
    pub(crate) top: i32,
    pub(crate) bottom: i32,
    /// The level axis.
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// The upright axis.
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Plot {
    pub(crate) fn x(&self, value: f64) -> i32 {
        let width = f64::from(WIDTH as i32 - LEFT - RIGHT);
        LEFT + ((value - self.from) / (self.to - self.from) * width).round() as i32
    }

    pub(crate) fn y(&self, value: f64) -> i32 {
        let height = f64::from(self.bottom - self.top);
        self.bottom - ((value - self.min) / (self.max - self.min) * height).round() as i32
    }
}

pub(crate) fn failed(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("the chart cannot be drawn: {error}"))
}

/// Draws on a fresh picture with the title on it.
pub(crate) fn picture(
    title: &str,
    height: i32,
    paint: impl FnOnce(&Area<'_>) -> Result<(), Error>,
) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let size = (WIDTH, height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        text(&area, title, (16, 22), 17.0, true, HPos::Left)?;
        paint(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

pub(crate) fn text(
    area: &Area<'_>,
    words: &str,
    at: (i32, i32),
    size: f64,
    bold: bool,
    anchor: HPos,
) -> Result<(), Error> {
    let style = if bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    };
    // The backend divides sizes by 1.24, as its idea of a font size is the height of a line.
    let font = FontDesc::new(FontFamily::Name(FONT), size * 1.24, style);
    let style = TextStyle::from(font)
        .color(&INK)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(words.to_owned(), at, style))
        .map_err(failed)
}

pub(crate) fn line(
    area: &Area<'_>,
    from: (i32, i32),
    to: (i32, i32),
    alpha: f64,
) -> Result<(), Error> {
    area.draw(&PathElement::new(
        vec![from, to],
        INK.mix(alpha).stroke_width(1),
    ))
    .map_err(failed)
}

pub(crate) fn bar(
    area: &Area<'_>,
    from: (i32, i32),
    to: (i32, i32),
    colour: RGBColor,
    alpha: f64,
) -> Result<(), Error> {
    area.draw(&Rectangle::new([from, to], colour.mix(alpha).filled()))
        .map_err(failed)
}

/// A round number of steps that reaches `max`: 1, 2, 2.5 or 5 times a power of ten each.
pub(crate) fn steps(max: f64, count: f64) -> (f64, f64) {
    if max <= 0.0 {
        return (1.0, 1.0);
    }
    let raw = max / count;
    let decade = 10f64.powf(raw.log10().floor());
    let factors = if decade >= 10.0 {
        [1.0, 2.0, 2.5, 5.0, 10.0]
    } else {
        [1.0, 2.0, 5.0, 5.0, 10.0]
    };
    let step = factors
        .iter()
        .map(|f| f * decade)
        .find(|s| *s >= raw * 0.999)
        .unwrap_or(decade * 10.0);
    (step, (max / step).ceil() * step)
}

/// A count in the unit of its axis: none, k, M or G.
pub(crate) fn short(value: f64, max: f64) -> String {
    let (scale, unit) = match max {
        m if m >= 1e9 => (1e9, "G"),
        m if m >= 1e6 => (1e6, "M"),
        m if m >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // What is left where a step meets zero.
    if value.abs() <= max * 1e-9 {
        return "0".to_owned();
    }
    if value < 0.0 {
        return format!("-{}", short(-value, max));
    }
    if scale == 1.0 && value >= 1_000.0 {
        return crate::output::thousands(value.round() as u64);
    }
    let decimals = if max < 1.0 {
        (3 - max.log10().floor() as i32).clamp(3, 12) as usize
    } else {
        3
    };
    let text = format!("{:.decimals$}", value / scale);
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The lines and labels of the upright axis.
pub(crate) fn upright(area: &Area<'_>, plot: &Plot, step: f64) -> Result<(), Error> {
    let count = ((plot.max - plot.min) / step).round() as u32;
    let size = plot.max.max(-plot.min);
    for index in 0..=count {
        let value = plot.min + f64::from(index) * step;
        let y = plot.y(value);
        let alpha = if value.abs() < step / 2.0 { 0.75 } else { 0.22 };
        line(area, (LEFT, y), (WIDTH as i32 - RIGHT, y), alpha)?;
        text(
            area,
            &short(value, size),
            (LEFT - 8, y),
            12.0,
            false,
            HPos::Right,
        )?;
    }
    Ok(())
}

/// A step between labels of time that gives about eight of them, in seconds.
fn time_step(span: f64) -> f64 {
    const STEPS: [f64; 20] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
        7_200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 172_800.0, 604_800.0,
    ];
    let mut step = STEPS
        .into_iter()
        .find(|step| span / step <= 9.0)
        .unwrap_or(604_800.0);
    while span / step > 9.0 {
        step *= 2.0;
    }
    step
}

/// The labels of the time axis.
pub(crate) fn time_axis(
    area: &Area<'_>,
    plot: &Plot,
    base: Base,
    labelled: bool,
) -> Result<(), Error> {
    let step = time_step(plot.to - plot.from);
    // Where several days are shown, midnight carries the date.
    let dated = plot.to - plot.from > 86_400.0;
    let mut at = (plot.from / step).ceil() * step;
    while at <= plot.to {
        let x = plot.x(at);
        line(area, (x, plot.bottom), (x, plot.bottom + 4), 0.75)?;
        if labelled {
            let nanos = (at as i64).saturating_mul(SECOND);
            let whole = times::format(nanos, base);
            let label = time_label(&whole, step, dated, base);
            text(
                area,
                &label,
                (x, plot.bottom + 15),
                12.0,
                false,
                HPos::Center,
            )?;
        }
        at += step;
    }
    if labelled {
        let first = times::format((plot.from as i64).saturating_mul(SECOND), base);
        let last = times::format((plot.to as i64 - 1).saturating_mul(SECOND), base);
        let words = match base {
            Base::FirstDay => "time from the first day of the log".to_owned(),
            Base::Utc => {
                let (first, last) = (first.get(..10).unwrap_or(""), last.get(..10).unwrap_or(""));
                if first == last {
                    format!("{first}, UTC")
                } else {
                    format!("{first} to {last}, UTC")
                }
            }
        };
        let at = (WIDTH as i32 - RIGHT, plot.bottom + 33);
        text(area, &words, at, 12.0, false, HPos::Right)?;
    }
    Ok(())
}

fn time_label(whole: &str, step: f64, dated: bool, base: Base) -> String {
    let (day, clock) = match base {
        Base::Utc => whole.split_once('T').unwrap_or((whole, "")),
        Base::FirstDay => whole.rsplit_once(' ').unwrap_or((whole, "")),
    };
    let midnight = clock.starts_with("00:00:00");
    let label = match step {
        s if s >= 86_400.0 || (midnight && dated) => {
            day.get(5..).filter(|_| base == Base::Utc).unwrap_or(day)
        }
        s if s >= 60.0 => clock.get(..5).unwrap_or(clock),
        _ => clock.get(..8).unwrap_or(clock),
    };
    label.to_owned()
}

fn time_plot(top: i32, bottom: i32, time: &Timeline, values: &[f64]) -> (Plot, f64) {
    let from = time.starts.first().copied().unwrap_or(0.0);
    let to = time.starts.last().copied().unwrap_or(0.0) + time.bucket;
    let (step, max) = steps(values.iter().copied().fold(0.0, f64::max), 4.0);
    (
        Plot {
            top,
            bottom,
            from,
            to,
            min: 0.0,
            max,
        },
        step,
    )
}

/// One area over time below the other, each with a scale of its own.
pub(super) fn areas(
    title: &str,
    time: &Timeline,
    panels: &[(String, Vec<f64>)],
) -> Result<String, Error> {
    let each = 170;
    let height = TITLE + each * panels.len() as i32 + 24;
    picture(title, height, |area| {
        for (index, (words, values)) in panels.iter().enumerate() {
            let top = TITLE + each * index as i32;
            let (plot, step) = time_plot(top + 26, top + each - 26, time, values);
            let colour = if index == 0 { BLUE } else { ORANGE };
            text(area, words, (LEFT, top + 10), 13.0, false, HPos::Left)?;
            upright(area, &plot, step)?;
            let mut points: Vec<(i32, i32)> = Vec::with_capacity(values.len() * 2);
            for (start, value) in time.starts.iter().zip(values) {
                points.push((plot.x(*start), plot.y(*value)));
                points.push((plot.x(*start + time.bucket), plot.y(*value)));
            }
            let mut ground = points.clone();
            ground.push((plot.x(plot.to), plot.bottom));
            ground.push((plot.x(plot.from), plot.bottom));
            area.draw(&Polygon::new(ground, colour.mix(0.28).filled()))
                .map_err(failed)?;
            let edge = colour.stroke_width(2);
            area.draw(&PathElement::new(points, edge)).map_err(failed)?;
            time_axis(area, &plot, time.base, index + 1 == panels.len())?;
        }
        Ok(())
    })
}

/// Bars over time.
pub(super) fn bars_over_time(
    title: &str,
    words: &str,
    time: &Timeline,
    values: &[f64],
) -> Result<String, Error> {
    picture(title, 320, |area| {
        let (plot, step) = time_plot(TITLE + 26, 272, time, values);
        text(area, words, (LEFT, TITLE + 8), 13.0, false, HPos::Left)?;
        upright(area, &plot, step)?;
        for (start, value) in time.starts.iter().zip(values) {
            let (left, right) = (plot.x(*start), plot.x(*start + time.bucket));
            column(area, &plot, left, right, *value)?;
        }
        time_axis(area, &plot, time.base, true)
    })
}

/// One upright bar, with a gap to the next where there is room.
pub(crate) fn column(
    area: &Area<'_>,
    plot: &Plot,
    left: i32,
    right: i32,
    value: f64,
) -> Result<(), Error> {
    if value <= 0.0 {
        return Ok(());
    }
    let gap = if right - left > 6 {
        2
    } else {
        i32::from(right - left > 2)
    };
    let right = (right - gap).max(left + 1);
    // A count that is not zero shows, however small.
    let top = plot.y(value).min(plot.bottom - 1);
    bar(area, (left, top), (right, plot.bottom), BLUE, 0.85)
}

/// Bars of equal width for bins.
pub(super) fn histogram(title: &str, words: &str, bins: &[Bin]) -> Result<String, Error> {
    picture(title, 320, |area| {
        let most = bins.iter().map(|bin| bin.count as f64).fold(0.0, f64::max);
        let (step, max) = steps(most, 4.0);
        let plot = Plot {
            top: TITLE + 26,
            bottom: 266,
            from: 0.0,
            to: bins.len() as f64,
            min: 0.0,
            max,
        };
        text(area, "Requests", (LEFT, TITLE + 8), 13.0, false, HPos::Left)?;
        upright(area, &plot, step)?;
        for (index, bin) in bins.iter().enumerate() {
            let (left, right) = (plot.x(index as f64), plot.x(index as f64 + 1.0));
            column(area, &plot, left, right, bin.count as f64)?;
        }
        let every = label_step(bins);
        for index in (0..=bins.len()).step_by(every) {
            let edge = bins
                .get(index)
                .map(|bin| bin.from)
                .or_else(|| bins.last().map(|b| b.to));
            let x = plot.x(index as f64);
            line(area, (x, plot.bottom), (x, plot.bottom + 4), 0.75)?;
            let label = crate::output::thousands(edge.unwrap_or(0));
            text(
                area,
                &label,
                (x, plot.bottom + 15),
                12.0,
                false,
                HPos::Center,
            )?;
        }
        let at = (WIDTH as i32 - RIGHT, plot.bottom + 36);
        text(area, words, at, 12.0, false, HPos::Right)
    })
}

/// Every how many bins a label stands, so that labels do not touch and even widths give round numbers.
fn label_step(bins: &[Bin]) -> usize {
    let widest = bins
        .last()
        .map_or(1, |bin| crate::output::thousands(bin.to).len());
    let room = f64::from(WIDTH as i32 - LEFT - RIGHT) / (widest as f64 * 8.0 + 14.0);
    let least = bins.len() as f64 / room;
    [1, 2, 5, 10, 20, 50, 100]
        .into_iter()
        .find(|step| *step as f64 >= least)
        .unwrap_or(200)
}

/// Lying bars with their label above and their amount behind.
pub(super) fn cost_bars(title: &str, options: &[(String, f64)]) -> Result<String, Error> {
    let each = 44;
    let height = TITLE + each * options.len() as i32 + 12;
    picture(title, height, |area| {
        let most = options.iter().map(|(_, cost)| *cost).fold(0.0, f64::max);
        let room = f64::from(WIDTH as i32 - 16 - 130);
        for (index, (label, cost)) in options.iter().enumerate() {
            let top = TITLE + each * index as i32;
            text(area, label, (16, top + 8), 13.0, false, HPos::Left)?;
            let part = if most > 0.0 { cost / most } else { 0.0 };
            let right = 16 + (part * room).round() as i32;
            let colour = if index == 0 { INK } else { BLUE };
            bar(
                area,
                (16, top + 18),
                (right.max(18), top + 34),
                colour,
                0.85,
            )?;
            text(
                area,
                &dollars(*cost),
                (right.max(18) + 8, top + 26),
                13.0,
                true,
                HPos::Left,
            )?;
        }
        Ok(())
    })
}

/// Adds what a screen reader tells, and lets the picture shrink with its page.
pub(crate) fn with_description(svg: &str, title: &str, alt: &str) -> String {
    let escape = |words: &str| {
        let mut out = String::with_capacity(words.len());
        for c in words.chars() {
            match c {
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' => out.push_str("&amp;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&apos;"),
                c => out.push(c),
            }
        }
        out
    };
    let head = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(alt));
    let title = format!(
        ">\n<title>{}</title>\n<desc>{}</desc>",
        escape(title),
        escape(alt)
    );
    svg.replacen("<svg ", &head, 1).replacen('>', &title, 1)
}
