//! What is set aside for calls of models: looked at and added in one transaction for all of the user's runs before a
//! call, a row for each until it is settled, so that it is settled once, whoever was dropped meanwhile.
//!
//! What a crash cut off counts with all that was set aside: nobody knows what it has cost.

use netra_context::{BackgroundKind, Right, Runtime, UserExecutionContext};
use netra_protocol::run::Run;

use crate::Store;
use crate::budget::{self, Amount, Budgets, Purse};
use crate::error::Error;
use crate::handle::Writable;
use crate::owner::{require, require_background};
use crate::run;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// Names what is set aside for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservationId([u8; 16]);

impl ReservationId {
    /// A new one. Made before anything is set aside: whoever is dropped while the store is at it can still settle it.
    pub fn new(runtime: &Runtime) -> Self {
        Self(runtime.secret_bytes())
    }
}

/// What was set aside for one call.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    pub(crate) amount: Amount,
    /// What the user's day and the run have used with it.
    pub(crate) day: Amount,
    pub(crate) run: Amount,
}

/// The end of a call that something was set aside for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// What was set aside; settled before, or never set aside, it changes nothing.
    pub id: ReservationId,
    /// What the call used.
    pub used: Amount,
}

impl Store {
    /// Sets aside what a call of a model may use, in the user's day and in the run.
    ///
    /// # Errors
    /// `BudgetExceeded` where one of them has no room for it, and then nothing is set aside; `RunEnded`.
    pub async fn reserve(
        &self,
        ctx: &UserExecutionContext,
        handle: &Writable<Run>,
        id: ReservationId,
        budgets: Budgets,
        amount: Amount,
    ) -> Result<Reserved, Error> {
        if ctx.user_id() != Some(handle.owner()) {
            return Err(Error::NotFound);
        }
        require(ctx, Right::Run)?;
        let handle = handle.clone();
        let owner = handle.owner();
        let work = move |tx: &mut Tx<'_>| {
            run::refuse_ended(tx, &handle)?;
            reserve(tx, &handle, id, budgets, amount)
        };
        // In the line of the run's commits: whoever is dropped here settles in one of them, which comes after.
        self.0.db.of(owner).write(work).await
    }

    /// Settles what the stopped server of a folder left behind, with all that was set aside, and returns how many calls that were. To
    /// be called before any run goes on, as `for_background(Recovery)`.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn reservations_abandoned(&self, ctx: &UserExecutionContext) -> Result<usize, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        // Where several nodes may be at work, whoever takes a run settles what was left of it.
        if self.is_shared() {
            return Ok(0);
        }
        let work = |tx: &mut Tx<'_>| tx.execute("DELETE FROM reservations", []);
        self.0.db.of_all().write(work).await
    }
}

/// The day (UTC), as purses are named.
pub(crate) fn today(tx: &Tx<'_>) -> String {
    tx.now().to_string().chars().take(10).collect()
}

fn reserve(
    tx: &Tx<'_>,
    handle: &Writable<Run>,
    id: ReservationId,
    budgets: Budgets,
    amount: Amount,
) -> Result<Reserved, Error> {
    let (user, today) = (handle.owner(), today(tx));
    let purses = [
        (Purse::Day, today.clone(), budgets.day),
        (Purse::Run, handle.id.to_string(), budgets.run),
    ];
    let mut reserved = Reserved {
        amount,
        day: Amount::default(),
        run: Amount::default(),
    };
    for (purse, name, bound) in purses {
        if bound.is_none() {
            continue;
        }
        let used = budget::used(tx, user, &name)?;
        budget::refuse_shortage(purse, bound, used, amount)?;
        let with = Amount {
            tokens: used.tokens + amount.tokens,
            nano_usd: used.nano_usd + amount.nano_usd,
        };
        match purse {
            Purse::Day => reserved.day = with,
            Purse::Run => reserved.run = with,
        }
        budget::put(tx, user, &name, with)?;
    }
    // Days sort before ids of runs, and what a day that is over has used bounds nothing any more.
    tx.put(
        "DELETE FROM budgets WHERE user_id = ?1 AND purse < ?2",
        (user.to_bytes(), &today),
    )?;
    tx.put(
        "INSERT INTO reservations (user_id, run_id, id, day, in_run, tokens, nano_usd)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        (
            user.to_bytes(),
            handle.id.to_bytes(),
            id.0,
            (!budgets.day.is_none()).then_some(today),
            !budgets.run.is_none(),
            amount.tokens,
            amount.nano_usd,
        ),
    )?;
    Ok(reserved)
}

/// Counts what a call used in place of what was set aside for it, on the day on which it began.
pub(crate) fn settle(
    tx: &Tx<'_>,
    handle: &Writable<Run>,
    settlement: &Settlement,
) -> Result<(), Error> {
    let user = handle.owner().to_bytes();
    let Settlement { id, used } = settlement;
    let open: Option<(Option<String>, bool, u64, u64)> = tx
        .prepare(
            "DELETE FROM reservations WHERE user_id = ?1 AND run_id = ?2 AND id = ?3
             RETURNING day, in_run, tokens, nano_usd",
        )?
        .query_row((user, handle.id.to_bytes(), id.0), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((day, in_run, tokens, nano_usd)) = open else {
        return Ok(());
    };
    let run = in_run.then(|| handle.id.to_string());
    for purse in day.into_iter().chain(run) {
        tx.put(
            "UPDATE budgets SET tokens = CASE WHEN tokens + ?3 > ?4 THEN tokens + ?3 - ?4 ELSE 0 END,
                 nano_usd = CASE WHEN nano_usd + ?5 > ?6 THEN nano_usd + ?5 - ?6 ELSE 0 END
             WHERE user_id = ?1 AND purse = ?2",
            (user, purse, used.tokens, tokens, used.nano_usd, nano_usd),
        )?;
    }
    Ok(())
}

/// A run that has ended makes no more calls. What nobody has settled by then counts as it was set aside.
pub(crate) fn close_run(tx: &Tx<'_>, handle: &Writable<Run>) -> Result<(), Error> {
    let user = handle.owner().to_bytes();
    tx.put(
        "DELETE FROM reservations WHERE user_id = ?1 AND run_id = ?2",
        (user, handle.id.to_bytes()),
    )?;
    tx.put(
        "DELETE FROM budgets WHERE user_id = ?1 AND purse = ?2",
        (user, handle.id.to_string()),
    )?;
    Ok(())
}
