//! What users' calls of models may use within a day and within a run, and what they have used: the purses.

use std::fmt;

use netra_protocol::id::UserId;

use crate::error::Error;
use crate::reservation::Reserved;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// Billionths of a dollar in a dollar.
const NANO: f64 = 1e9;
/// The most of anything in one amount: sums of many stay far from the largest number of a column.
const MOST: u64 = 1 << 52;

/// Tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub(crate) tokens: u64,
    pub(crate) nano_usd: u64,
}

impl Amount {
    /// So many tokens, and what they cost where that is known.
    pub fn new(tokens: u64, usd: Option<f64>) -> Self {
        Self {
            tokens: tokens.min(MOST),
            nano_usd: usd.map_or(0, nano),
        }
    }
}

/// Dollars in billionths, so that sums are exact; a part of one counts as one.
fn nano(usd: f64) -> u64 {
    // A cast saturates, and makes nothing of what is no number. Noise of the multiplication is no part.
    ((usd * NANO - 1e-3).ceil().max(0.0) as u64).min(MOST)
}

/// What may be used; none: without a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    tokens: Option<u64>,
    nano_usd: Option<u64>,
}

impl Bound {
    /// So many tokens and dollars at most.
    pub fn new(tokens: Option<u64>, usd: Option<f64>) -> Self {
        Self {
            tokens,
            nano_usd: usd.map(nano),
        }
    }

    /// Whether it bounds anything.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// What bounds the calls of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// The user's budget for a day, over all the user's runs.
    pub day: Bound,
    /// The run's own budget.
    pub run: Bound,
}

impl Budgets {
    /// Whether they bound nothing.
    pub fn is_none(&self) -> bool {
        self.day.is_none() && self.run.is_none()
    }

    /// The limits of which at least this part is used once a call has used so much: key, used and allowed.
    pub fn reached(
        &self,
        reserved: &Reserved,
        used: Amount,
        part: f64,
    ) -> Vec<(&'static str, f64, f64)> {
        let purses = [
            (Purse::Day, self.day, reserved.day),
            (Purse::Run, self.run, reserved.run),
        ];
        let mut reached = Vec::new();
        for (purse, bound, with_reserved) in purses {
            for unit in Unit::ALL {
                let now = unit.of(with_reserved) + unit.of(used);
                let now = now.saturating_sub(unit.of(reserved.amount));
                if let Some(allowed) = unit.bound(&bound)
                    && now as f64 >= allowed as f64 * part
                {
                    reached.push((unit.key(purse), unit.shown(now), unit.shown(allowed)));
                }
            }
        }
        reached
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Tokens,
    Usd,
}

impl Unit {
    const ALL: [Self; 2] = [Self::Tokens, Self::Usd];

    const fn key(self, purse: Purse) -> &'static str {
        match (purse, self) {
            (Purse::Day, Self::Tokens) => "budget_tokens",
            (Purse::Day, Self::Usd) => "budget_usd",
            (Purse::Run, Self::Tokens) => "run_budget_tokens",
            (Purse::Run, Self::Usd) => "run_budget_usd",
        }
    }

    const fn of(self, amount: Amount) -> u64 {
        match self {
            Self::Tokens => amount.tokens,
            Self::Usd => amount.nano_usd,
        }
    }

    const fn bound(self, bound: &Bound) -> Option<u64> {
        match self {
            Self::Tokens => bound.tokens,
            Self::Usd => bound.nano_usd,
        }
    }

    /// In tokens or dollars.
    fn shown(self, number: u64) -> f64 {
        match self {
            Self::Tokens => number as f64,
            Self::Usd => number as f64 / NANO,
        }
    }
}

/// Whose a purse is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purse {
    /// The user's, for a day.
    Day,
    /// A run's.
    Run,
}

/// There is no room for a call.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub struct Shortage {
    /// What bounds it.
    pub purse: Purse,
    /// The key of the limit, as in the configuration and in `agent.toml`.
    pub limit: &'static str,
    /// What is used and set aside, in tokens or dollars.
    pub used: f64,
    /// What the call may use at most.
    pub wanted: f64,
    /// What is allowed.
    pub allowed: f64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.purse {
            Purse::Day => "the user's budget for the day",
            Purse::Run => "the run's budget",
        };
        let unit = if self.limit.ends_with("usd") {
            "USD"
        } else {
            "tokens"
        };
        let (used, wanted, allowed) = (self.used, self.wanted, self.allowed);
        write!(
            f,
            "{whose} is {allowed} {unit}: {used} are used or set aside, and a call of the model may take {wanted}"
        )
    }
}

pub(crate) fn refuse_shortage(
    purse: Purse,
    bound: Bound,
    used: Amount,
    wanted: Amount,
) -> Result<(), Shortage> {
    for unit in Unit::ALL {
        let (used, wanted) = (unit.of(used), unit.of(wanted));
        if let Some(allowed) = unit.bound(&bound)
            && used + wanted > allowed
        {
            return Err(Shortage {
                purse,
                limit: unit.key(purse),
                used: unit.shown(used),
                wanted: unit.shown(wanted),
                allowed: unit.shown(allowed),
            });
        }
    }
    Ok(())
}

/// What a purse counts, of calls that are under way too.
pub(crate) fn used(tx: &Tx<'_>, user: UserId, purse: &str) -> Result<Amount, Error> {
    let sql = "SELECT tokens, nano_usd FROM budgets WHERE user_id = ?1 AND purse = ?2";
    let stored = tx
        .prepare(sql)?
        .query_row((user.to_bytes(), purse), |row| {
            Ok(Amount {
                tokens: row.get(0)?,
                nano_usd: row.get(1)?,
            })
        })
        .optional()?;
    Ok(stored.unwrap_or_default())
}

pub(crate) fn put(tx: &Tx<'_>, user: UserId, purse: &str, used: Amount) -> Result<(), Error> {
    tx.put(
        "INSERT INTO budgets (user_id, purse, tokens, nano_usd) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id, purse) DO UPDATE
         SET tokens = excluded.tokens, nano_usd = excluded.nano_usd",
        (user.to_bytes(), purse, used.tokens, used.nano_usd),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_counted_in_whole_billionths_and_never_less() {
        for (usd, expected) in [
            (0.0, 0),
            (0.1, 100_000_000),
            (0.3, 300_000_000),
            (0.000_000_000_1, 1),
            (1.000_000_000_4, 1_000_000_001),
            (-1.0, 0),
            (f64::NAN, 0),
            (f64::INFINITY, MOST),
        ] {
            assert_eq!(nano(usd), expected, "{usd}");
        }
    }

    #[test]
    fn six_tenths_have_room_for_six_calls_at_a_tenth() {
        let bound = Bound::new(None, Some(0.6));
        let call = Amount::new(10, Some(0.1));
        let mut used = Amount::default();
        for _ in 0..6 {
            refuse_shortage(Purse::Day, bound, used, call).unwrap();
            used.nano_usd += call.nano_usd;
        }
        let shortage = refuse_shortage(Purse::Day, bound, used, call).unwrap_err();
        assert_eq!((shortage.limit, shortage.allowed), ("budget_usd", 0.6));
    }

    #[test]
    fn eighty_percent_are_reached_by_what_is_bounded_alone() {
        let budgets = Budgets {
            day: Bound::default(),
            run: Bound::new(Some(100), None),
        };
        let reserved = Reserved {
            amount: Amount::new(50, Some(9.0)),
            day: Amount::default(),
            run: Amount::new(90, Some(9.0)),
        };
        let reached = |tokens| budgets.reached(&reserved, Amount::new(tokens, Some(9.0)), 0.8);
        assert_eq!(reached(39), Vec::new());
        assert_eq!(reached(40), vec![("run_budget_tokens", 80.0, 100.0)]);
    }
}
