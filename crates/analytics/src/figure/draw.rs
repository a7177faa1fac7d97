//! The drawing of `make_chart`: series over an axis of numbers or times, lying bars, bins.

use plotters::element::{Circle, PathElement, Polygon};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color as _, RGBColor};

use super::{Kind, Level, Series};
use crate::chart::draw::{
    Area, BLUE, LEFT, ORANGE, Plot, RIGHT, TITLE, WIDTH, bar, column, failed, line, picture, short,
    steps, text, time_axis, upright,
};
use crate::error::Error;
use crate::output::thousands;
use crate::times::Base;

const COLOURS: [RGBColor; 4] = [
    BLUE,
    ORANGE,
    RGBColor(0x3F, 0xA0, 0x6B),
    RGBColor(0xA0, 0x6B, 0xC8),
];
/// The box of the plot, in pixels.
const TOP: i32 = TITLE + 26;
const BOTTOM: i32 = 300;
const HEIGHT: i32 = 346;
/// How many bins a histogram has, about.
const BINS: f64 = 20.0;
/// How wide a letter is, about, in pixels.
const LETTER: i32 = 8;

/// A number for people: whole ones with commas, others with four digits that count.
pub(super) fn number(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    if size.fract() == 0.0 && size < 1e15 {
        return format!("{sign}{}", thousands(size as u64));
    }
    if !(1e-6..1e15).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 12) as usize;
    if decimals == 0 {
        return format!("{sign}{}", thousands(size.round() as u64));
    }
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The scale of an upright axis: where it begins and ends, and its step.
fn scale(values: impl Iterator<Item = f64> + Clone, with_zero: bool) -> (f64, f64, f64) {
    let start = if with_zero { 0.0 } else { f64::INFINITY };
    let low = values.clone().fold(start, f64::min);
    let high = values.fold(if with_zero { 0.0 } else { f64::NEG_INFINITY }, f64::max);
    // A band that is narrow for its height is shown for itself; else the axis begins at zero.
    let (low, high) = match (low, high) {
        (low, high) if low > 0.0 && low < 0.5 * high => (0.0, high),
        (low, high) if high < 0.0 && high > 0.5 * low => (low, 0.0),
        (low, high) if low == high && low == 0.0 => (0.0, 1.0),
        (low, high) if low == high => (low - low.abs() * 0.1, high + high.abs() * 0.1),
        both => both,
    };
    let (step, _) = steps(high - low, 4.0);
    (
        (low / step).floor() * step,
        (high / step).ceil() * step,
        step,
    )
}

/// Small signs of the colours with the names of what they stand for.
fn legend(area: &Area<'_>, names: &[&str], left: i32, y: i32) -> Result<(), Error> {
    if let [only] = names {
        return text(area, only, (left, y), 13.0, false, HPos::Left);
    }
    let mut x = left;
    for (name, colour) in names.iter().zip(COLOURS) {
        bar(area, (x, y - 5), (x + 10, y + 5), colour, 0.85)?;
        let name = crate::output::cut(name, 22);
        text(area, &name, (x + 15, y), 13.0, false, HPos::Left)?;
        x += 15 + LETTER * name.chars().count() as i32 + 14;
    }
    Ok(())
}

/// Lines, areas or dots over numbers or times.
pub(super) fn over_axis(
    title: &str,
    x_name: &str,
    level: Level,
    all: &[Series],
    kind: Kind,
) -> Result<String, Error> {
    let points = || all.iter().flat_map(|series| series.points.iter());
    let across = points().map(|point| point.0);
    let (from, to) = span(across, kind == Kind::Scatter);
    // The axis of times names the last second before its end, and here the end has a point.
    let to = if level == Level::Times { to + 1.0 } else { to };
    let (min, max, step) = scale(points().map(|point| point.1), kind == Kind::Area);
    let plot = Plot {
        top: TOP,
        bottom: BOTTOM,
        from,
        to,
        min,
        max,
    };
    picture(title, HEIGHT, |area| {
        let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
        legend(area, &names, LEFT, TITLE + 8)?;
        upright(area, &plot, step)?;
        for (series, colour) in all.iter().zip(COLOURS) {
            mark(area, &plot, series, colour, kind)?;
        }
        match level {
            Level::Times => time_axis(area, &plot, Base::Utc, true),
            Level::Numbers => number_axis(area, &plot, x_name),
        }
    })
}

fn mark(
    area: &Area<'_>,
    plot: &Plot,
    series: &Series,
    colour: RGBColor,
    kind: Kind,
) -> Result<(), Error> {
    let place = |(across, up): &(f64, f64)| (plot.x(*across), plot.y(*up));
    let places: Vec<(i32, i32)> = series.points.iter().map(place).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Ok(());
    };
    if kind == Kind::Scatter || places.len() == 1 {
        for place in places {
            let dot = Circle::new(place, 3, colour.mix(0.6).filled());
            area.draw(&dot).map_err(failed)?;
        }
        return Ok(());
    }
    if kind == Kind::Area {
        let ground = plot.y(0.0);
        let mut whole = places.clone();
        whole.extend([(last.0, ground), (first.0, ground)]);
        let whole = Polygon::new(whole, colour.mix(0.28).filled());
        area.draw(&whole).map_err(failed)?;
    }
    let edge = PathElement::new(places, colour.stroke_width(2));
    area.draw(&edge).map_err(failed)
}

/// From where to where the level axis goes; dots keep away from its ends.
fn span(across: impl Iterator<Item = f64> + Clone, padded: bool) -> (f64, f64) {
    let low = across.clone().fold(f64::INFINITY, f64::min);
    let high = across.fold(f64::NEG_INFINITY, f64::max);
    // Numbers this close have no room for steps between them.
    let pad = match high - low {
        width if width <= low.abs().max(high.abs()) * 1e-9 => low.abs().max(1.0) * 0.5,
        width if padded => width * 0.03,
        _ => 0.0,
    };
    (low - pad, high + pad)
}

/// The labels of an axis of numbers, and what it shows.
fn number_axis(area: &Area<'_>, plot: &Plot, name: &str) -> Result<(), Error> {
    let (step, _) = steps(plot.to - plot.from, 8.0);
    let size = plot.from.abs().max(plot.to.abs());
    let first = (plot.from / step).ceil();
    for index in 0..=10 {
        let at = (first + f64::from(index)) * step;
        if at > plot.to + step * 1e-9 {
            break;
        }
        let x = plot.x(at);
        line(area, (x, plot.bottom), (x, plot.bottom + 4), 0.75)?;
        // Years and other small whole numbers stand without commas.
        let label = if size < 1e4 && at.fract() == 0.0 {
            format!("{at:.0}").replace("-0", "0")
        } else {
            short(at, size)
        };
        let place = (x, plot.bottom + 15);
        text(area, &label, place, 12.0, false, HPos::Center)?;
    }
    let at = (WIDTH as i32 - RIGHT, plot.bottom + 34);
    text(area, name, at, 12.0, false, HPos::Right)
}

/// Lying bars, a group for each name: the name above, the values behind.
pub(super) fn bars(
    title: &str,
    names: &[String],
    groups: &[(String, Vec<Option<f64>>)],
) -> Result<String, Error> {
    const EACH: i32 = 20;
    let head = if names.len() > 1 { 26 } else { 0 };
    let group = 24 + EACH * names.len() as i32;
    let height = TITLE + head + group * groups.len() as i32 + 12;
    let values = || {
        groups
            .iter()
            .flat_map(|(_, values)| values.iter().flatten())
    };
    let high = values().copied().fold(0.0, f64::max);
    let low = values().copied().fold(0.0, f64::min);
    let width = if high > low { high - low } else { 1.0 };
    let room = f64::from(WIDTH as i32 - 16 - 130);
    let place = |value: f64| 16 + ((value - low) / width * room).round() as i32;
    picture(title, height, |area| {
        if head > 0 {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            legend(area, &names, 16, TITLE + 8)?;
        }
        for (index, (label, values)) in groups.iter().enumerate() {
            let top = TITLE + head + group * index as i32;
            text(area, label, (16, top + 8), 13.0, false, HPos::Left)?;
            for (index, (value, colour)) in values.iter().zip(COLOURS).enumerate() {
                let Some(value) = value else { continue };
                let y = top + 18 + EACH * index as i32;
                let (left, right) = (place(value.min(0.0)), place(value.max(0.0)));
                let right = right.max(left + 2);
                bar(area, (left, y), (right, y + EACH - 4), colour, 0.85)?;
                let at = (right + 8, y + 8);
                text(area, &number(*value), at, 13.0, true, HPos::Left)?;
            }
        }
        Ok(())
    })
}

/// Values counted in bins of equal width.
pub(super) struct Bins {
    from: f64,
    width: f64,
    counts: Vec<u64>,
}

impl Bins {
    pub(super) fn of(values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let whole = values.iter().all(|value| value.fract() == 0.0);
        let width = match high - low {
            // Also where the values are so large that a bin between them has no width.
            span if span <= low.abs().max(high.abs()) * 1e-9 => low.abs().max(1.0),
            span => steps(span, BINS).0,
        };
        let width = if whole { width.max(1.0) } else { width };
        let from = (low / width).floor() * width;
        let place = |value: f64| ((value - from) / width).floor().max(0.0) as usize;
        let mut counts = vec![0; place(high) + 1];
        for value in values {
            counts[place(*value)] += 1;
        }
        Self {
            from,
            width,
            counts,
        }
    }

    fn edge(&self, index: usize) -> f64 {
        self.from + self.width * index as f64
    }

    /// The bin with the most values, the first of equals: from, to, and how many.
    pub(super) fn fullest(&self) -> (f64, f64, u64) {
        let counts = self.counts.iter().enumerate();
        let best = counts.max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(&a.0)));
        best.map_or((0.0, 0.0, 0), |(index, count)| {
            (self.edge(index), self.edge(index + 1), *count)
        })
    }
}

/// Upright bars for bins.
pub(super) fn histogram(title: &str, x_name: &str, bins: &Bins) -> Result<String, Error> {
    let counts = bins.counts.iter().map(|count| *count as f64);
    let (step, max) = steps(counts.fold(0.0, f64::max), 4.0);
    let plot = Plot {
        top: TOP,
        bottom: BOTTOM,
        from: bins.from,
        to: bins.edge(bins.counts.len()),
        min: 0.0,
        max,
    };
    picture(title, HEIGHT, |area| {
        let at = (LEFT, TITLE + 8);
        text(area, "How many values", at, 13.0, false, HPos::Left)?;
        upright(area, &plot, step)?;
        for (index, count) in bins.counts.iter().enumerate() {
            let (left, right) = (plot.x(bins.edge(index)), plot.x(bins.edge(index + 1)));
            column(area, &plot, left, right, *count as f64)?;
        }
        number_axis(area, &plot, x_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (-1234.0, "-1,234"),
            (12.3456, "12.35"),
            (-0.5, "-0.5"),
            (123456.7, "123,457"),
            (0.0001234567, "0.0001235"),
            (1e-9, "1.000e-9"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn every_value_is_in_one_bin() {
        for values in [
            &[1.0][..],
            &[0.0, 0.0],
            &[-3.5, 2.25, 9.0],
            &[1e12, 1e12 + 1.0],
            &[-1e299, 1e299],
            &[0.1, 0.2, 0.3, 0.1 + 0.2],
        ] {
            let bins = Bins::of(values);
            assert_eq!(bins.counts.iter().sum::<u64>(), values.len() as u64);
            assert!(bins.counts.len() <= 50, "{values:?}: {}", bins.counts.len());
        }
        let (from, to, count) = Bins::of(&[1.0, 2.0, 2.0, 3.0]).fullest();
        assert_eq!((from, to, count), (2.0, 3.0, 2));
    }

    #[test]
    fn axes_begin_at_zero_unless_that_hides_what_there_is_to_see() {
        let scale = |values: &[f64], zero| scale(values.iter().copied(), zero);
        assert_eq!(scale(&[3.0, 10.0], false), (0.0, 10.0, 5.0));
        let (from, _, _) = scale(&[95.0, 100.0], false);
        assert!(from > 0.0);
        assert_eq!(scale(&[95.0, 100.0], true).0, 0.0);
        let (from, to, _) = scale(&[-4.0, 4.0], true);
        assert!(from <= -4.0 && to >= 4.0);
        let (from, to, step) = scale(&[7.0], false);
        assert!(from < 7.0 && to > 7.0 && step > 0.0);
    }
}
