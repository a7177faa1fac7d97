//! How often a user's agents may call a tool: counted in the transaction that begins the call, so that calls at once
//! cannot pass a rate together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use netra_protocol::Timestamp;
use netra_protocol::id::UserId;

use crate::error::Error;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// How long the calls are counted. A window begins with its first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// 1,000 ms.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Window {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// As it is written in policies and stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    const fn millis(self) -> i64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60 * 1_000,
            Self::Hour => 60 * 60 * 1_000,
            Self::Day => 24 * 60 * 60 * 1_000,
        }
    }
}

/// So many calls within a window: `100/hour`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// The most calls, at least one.
    pub calls: u32,
    /// Within how long.
    pub window: Window,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.calls, self.window.as_str())
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let windows = Window::ALL.map(Window::as_str).join(", ");
            format!("{text:?} is no rate: a number from 1, `/`, and one of {windows}")
        };
        let (calls, window) = text.trim().split_once('/').ok_or_else(wrong)?;
        let window = Window::ALL
            .into_iter()
            .find(|one| one.as_str() == window.trim());
        match (calls.trim().parse(), window) {
            (Ok(calls), Some(window)) if calls > 0 => Ok(Self { calls, window }),
            _ => Err(wrong()),
        }
    }
}

/// A call of a tool whose number is bounded.
#[derive(Debug, Clone)]
pub struct RatedCall {
    /// The tool.
    pub tool: String,
    /// What each permission for the call says. There is room for it where one of them has room in all of its rates;
    /// where there are none, nothing bounds the call.
    pub permissions: Vec<Vec<Rate>>,
    /// Whether the call begins and is counted; otherwise it is only seen whether there is room.
    pub begins: bool,
}

/// The open window.
#[derive(Clone, Copy)]
struct Open {
    began_at: Timestamp,
    calls: u32,
}

impl Open {
    fn ends_at(self, window: Window) -> Timestamp {
        self.began_at.plus_millis(window.millis())
    }
}

fn open(tx: &Tx<'_>, user: UserId, tool: &str, window: Window) -> Result<Open, Error> {
    let sql = "SELECT began_at, calls FROM tool_rates
               WHERE user_id = ?1 AND tool = ?2 AND \"window\" = ?3";
    let stored = tx
        .prepare(sql)?
        .query_row((user.to_bytes(), tool, window.as_str()), |row| {
            Ok(Open {
                // A clock that was set back must not make a window longer.
                began_at: Timestamp::from_micros(row.get(0)?).min(tx.now()),
                calls: row.get(1)?,
            })
        })
        .optional()?;
    Ok(stored
        .filter(|open| tx.now() < open.ends_at(window))
        .unwrap_or(Open {
            began_at: tx.now(),
            calls: 0,
        }))
}

/// Counts a call that begins, or refuses it.
pub(crate) fn pass(tx: &Tx<'_>, user: UserId, call: &RatedCall) -> Result<(), Error> {
    let mut windows = BTreeMap::new();
    for rate in call.permissions.iter().flatten() {
        if let Entry::Vacant(window) = windows.entry(rate.window) {
            window.insert(open(tx, user, &call.tool, rate.window)?);
        }
    }
    if let Some((until, rate)) = refusal(&windows, &call.permissions) {
        return Err(Error::RateExceeded { rate, until });
    }
    if call.begins {
        for (window, open) in windows {
            tx.put(
                "INSERT INTO tool_rates (user_id, tool, \"window\", began_at, calls)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (user_id, tool, \"window\") DO UPDATE
                 SET began_at = excluded.began_at, calls = excluded.calls",
                (
                    user.to_bytes(),
                    &call.tool,
                    window.as_str(),
                    open.began_at.as_micros(),
                    open.calls.saturating_add(1),
                ),
            )?;
        }
    }
    Ok(())
}

/// Until when there is no room, and by which rate; none where there is room.
fn refusal(
    windows: &BTreeMap<Window, Open>,
    permissions: &[Vec<Rate>],
) -> Option<(Timestamp, Rate)> {
    let full = |rate: &Rate| {
        let open = windows.get(&rate.window)?;
        (open.calls >= rate.calls).then(|| (open.ends_at(rate.window), *rate))
    };
    let mut soonest = None;
    for rates in permissions {
        let last = rates
            .iter()
            .filter_map(full)
            .max_by_key(|(until, _)| *until)?;
        soonest = match soonest {
            Some((until, _)) if until <= last.0 => soonest,
            _ => Some(last),
        };
    }
    soonest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        for text in ["1/second", "60/minute", "100/hour", "1000/day"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!(" 5 / hour ".parse::<Rate>().unwrap().to_string(), "5/hour");
        for text in [
            "",
            "5",
            "0/hour",
            "-1/hour",
            "5/fortnight",
            "5/hour/day",
            "x/day",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
