//! Times of a log: every spelling that the known logs use, as nanoseconds, and back as text.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// Nanoseconds in a calendar minute.
pub(crate) const MINUTE: i64 = 60 * SECOND;
/// Nanoseconds in an hour.
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// Nanoseconds in a day.
pub(crate) const DAY: i64 = 24 * HOUR;

/// What the times of a log count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Utc,
    /// Nanoseconds since the start of the log's first day, which the log does not name.
    FirstDay,
}

impl Base {
    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utc => "utc",
            Self::FirstDay => "seconds_from_first_day",
        }
    }
}

/// One time as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) nanos: i64,
    pub(crate) base: Base,
    /// The text named no offset, so UTC was taken.
    pub(crate) assumed_utc: bool,
}

/// Reads one time. `None` when the text is in none of the known spellings or outside the years 1678 to 2261.
pub(crate) fn parse(text: &str) -> Option<Moment> {
    let text = text.trim();
    let first = text.bytes().next()?;
    if !first.is_ascii_digit() {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return number(text);
    }
    let utc = |nanos, assumed_utc| {
        Some(Moment {
            nanos,
            base: Base::Utc,
            assumed_utc,
        })
    };
    let (naive, marked) = match text
        .strip_suffix(" UTC")
        .or_else(|| text.strip_suffix(" GMT"))
    {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if let Ok(stamp) = naive.parse::<Timestamp>() {
        return utc(nanos_of(stamp)?, false);
    }
    let civil = match naive.parse::<DateTime>() {
        Ok(civil) => civil,
        Err(_) => naive.parse::<Date>().ok()?.at(0, 0, 0, 0),
    };
    let stamp = TimeZone::UTC.to_timestamp(civil).ok()?;
    utc(nanos_of(stamp)?, !marked)
}

fn nanos_of(stamp: Timestamp) -> Option<i64> {
    i64::try_from(stamp.as_nanosecond()).ok()
}

/// A bare number is told apart by its size: epoch seconds of this century have ten digits, milliseconds thirteen,
/// microseconds sixteen, nanoseconds nineteen; what is far smaller counts from the log's first day.
fn number(text: &str) -> Option<Moment> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || fraction.contains('.') {
        return None;
    }
    let units: i64 = whole.parse().ok()?;
    let (unit, base) = match units {
        ..100_000_000 => (SECOND, Base::FirstDay),
        100_000_000..100_000_000_000 => (SECOND, Base::Utc),
        100_000_000_000..100_000_000_000_000 => (1_000_000, Base::Utc),
        100_000_000_000_000..100_000_000_000_000_000 => (1_000, Base::Utc),
        _ => (1, Base::Utc),
    };
    let mut nanos = units.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(place * i64::from(digit - b'0'))?;
    }
    Some(Moment {
        nanos,
        base,
        assumed_utc: false,
    })
}

/// Writes a time: RFC 3339 in UTC with no fraction, six or nine digits; or the day and time of day from the first day.
pub(crate) fn format(nanos: i64, base: Base) -> String {
    let seconds = nanos.div_euclid(SECOND);
    let rest = nanos.rem_euclid(SECOND);
    let fraction = match rest {
        0 => String::new(),
        rest if rest % 1_000 == 0 => format!(".{:06}", rest / 1_000),
        rest => format!(".{rest:09}"),
    };
    let day_seconds = seconds.rem_euclid(DAY / SECOND);
    let clock = format!(
        "{:02}:{:02}:{:02}",
        day_seconds / 3_600,
        day_seconds / 60 % 60,
        day_seconds % 60
    );
    match base {
        Base::FirstDay => {
            format!(
                "day {} {clock}{fraction}",
                seconds.div_euclid(DAY / SECOND) + 1
            )
        }
        Base::Utc => match Timestamp::from_second(seconds) {
            Ok(stamp) => {
                let date = TimeZone::UTC.to_datetime(stamp).date();
                format!("{date}T{clock}{fraction}Z")
            }
            Err(_) => format!("{seconds}{fraction} s"),
        },
    }
}

/// Reads a time as [`format`] writes it.
pub(crate) fn parse_shown(text: &str) -> Option<Moment> {
    let Some(rest) = text.strip_prefix("day ") else {
        return parse(text);
    };
    let (day, clock) = rest.split_once(' ')?;
    let mut parts = clock.splitn(3, ':');
    let mut part = || {
        parts
            .next()?
            .parse::<f64>()
            .ok()
            .filter(|p| (0.0..1e4).contains(p))
    };
    let seconds = part()? * 3_600.0 + part()? * 60.0 + part()?;
    let day: i64 = day.parse().ok()?;
    let nanos = day
        .checked_sub(1)?
        .checked_mul(DAY)?
        .checked_add((seconds * 1e9) as i64)?;
    Some(Moment {
        nanos,
        base: Base::FirstDay,
        assumed_utc: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        let moment = parse(text).unwrap();
        format(moment.nanos, moment.base)
    }

    #[test]
    fn every_spelling_of_the_same_instant_is_the_same() {
        let expected = "2023-11-16T18:17:03.979960Z";
        for text in [
            "2023-11-16 18:17:03.9799600",
            "2023-11-16T18:17:03.97996Z",
            "2023-11-16T19:17:03.979960+01:00",
            "2023-11-16 18:17:03.97996 UTC",
            "1700158623.97996",
            "1700158623979.96",
            "1700158623979960",
            "1700158623979960000",
        ] {
            assert_eq!(round(text), expected, "{text}");
        }
    }

    #[test]
    fn other_times() {
        assert_eq!(round("2024-02-29"), "2024-02-29T00:00:00Z");
        assert_eq!(
            round("2023-11-16 18:17:03.9799601"),
            "2023-11-16T18:17:03.979960100Z"
        );
        assert_eq!(round("90065"), "day 2 01:01:05");
        assert_eq!(round("0"), "day 1 00:00:00");
        for text in ["90065.25", "0", "1700158623.97996"] {
            let moment = parse(text).unwrap();
            assert_eq!(
                parse_shown(&format(moment.nanos, moment.base)),
                Some(moment)
            );
        }
        assert!(parse("2023-11-16 18:17:03").unwrap().assumed_utc);
        assert!(!parse("2023-11-16 18:17:03Z").unwrap().assumed_utc);
        for bad in [
            "",
            "yesterday",
            "2023-13-01 00:00:00",
            "1.2.3",
            "-5",
            ".5",
            "99999999999999999999",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
