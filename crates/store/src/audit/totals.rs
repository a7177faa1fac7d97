//! How many chains and records there are over all users, sealed: what shows that a whole chain was taken away, or records
//! of before there were chains. Written when a store is opened for the first time, and kept in the transaction that
//! appends: a store without them has lost them.

use super::chain::{AuditKey, Hash};
use crate::cursor;
use crate::error::Error;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;

const TOTALS: &str = "audit_totals";
/// What stands in place of totals that were taken away, so that nothing makes new ones.
const TAKEN: &str = "taken away";

/// Over all users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Users with a chain.
    pub(super) chains: u64,
    /// Records in chains.
    pub(super) records: u64,
    /// Records from before there were chains.
    pub(super) unchained: u64,
}

/// The totals as they were written.
pub(super) enum Written {
    /// There are none yet.
    None,
    /// And nobody has changed them.
    Whole(Totals),
    /// They are not what was written.
    Broken,
}

impl Totals {
    /// Of the tables as they are now.
    pub(super) fn counted(connection: &Connection) -> Result<Self, Error> {
        let sql = "SELECT count(*), CAST(coalesce(sum(seq), 0) AS BIGINT),
                          (SELECT count(*) FROM audit WHERE seq IS NULL) FROM audit_heads";
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row([], |row| {
            Ok(Self {
                chains: row.get(0)?,
                records: row.get(1)?,
                unchained: row.get(2)?,
            })
        })?)
    }

    fn parts(self) -> [u64; 3] {
        [self.chains, self.records, self.unchained]
    }

    fn sealed(self, key: &AuditKey) -> String {
        let seal = cursor::write(&key.seal_of_totals(self.parts()));
        let [chains, records, unchained] = self.parts();
        format!("{chains}:{records}:{unchained}:{seal}")
    }

    fn read(text: &str, key: &AuditKey) -> Option<Self> {
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse().ok();
        let totals = Self {
            chains: number()?,
            records: number()?,
            unchained: number()?,
        };
        let seal: Hash = cursor::read(parts.next()?).ok()?;
        (seal == key.seal_of_totals(totals.parts())).then_some(totals)
    }
}

fn keep(tx: &Tx<'_>, value: &str) -> Result<(), Error> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.put(sql, (TOTALS, value))?;
    Ok(())
}

/// What was written last.
pub(super) fn written(connection: &Connection, key: &AuditKey) -> Result<Written, Error> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let text: Option<String> = statement.query_row([TOTALS], |row| row.get(0)).optional()?;
    Ok(match text.map(|text| Totals::read(&text, key)) {
        None => Written::None,
        Some(Some(totals)) => Written::Whole(totals),
        Some(None) => Written::Broken,
    })
}

/// Writes the first totals of a store that is new, or from before there were totals.
pub(crate) fn begin(connection: &Connection, key: &AuditKey) -> Result<(), Error> {
    if !matches!(written(connection, key)?, Written::None) {
        return Ok(());
    }
    let counted = Totals::counted(connection)?;
    // Making a user is recorded.
    let has_users: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM users)")?
        .query_row([], |row| row.get(0))?;
    let lost = are_due(connection, key)? || (has_users && counted == Totals::default());
    let first = match lost {
        true => TAKEN.to_owned(),
        false => counted.sealed(key),
    };
    // Another process may have been faster.
    connection
        .prepare_cached(
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING",
        )?
        .execute((TOTALS, first))?;
    Ok(())
}

/// Whether a store without totals must have had some, as far as its records tell: where a chain has an end that was
/// written since there are totals, or where there is nothing at all. What else there is was never opened since.
pub(super) fn were_taken(connection: &Connection, key: &AuditKey) -> Result<bool, Error> {
    Ok(Totals::counted(connection)? == Totals::default() || are_due(connection, key)?)
}

/// Whether a chain has an end that was written since there are totals: then there must be some.
fn are_due(connection: &Connection, key: &AuditKey) -> Result<bool, Error> {
    let mut statement =
        connection.prepare_cached("SELECT user_id, seq, hash, seal FROM audit_heads")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let user = netra_protocol::id::UserId::from_bytes(row.get(0)?);
        let (seq, hash, seal): (u64, Hash, Hash) = (row.get(1)?, row.get(2)?, row.get(3)?);
        if seal == key.seal(user, seq, &hash) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts one more record, before the end of its chain is written. Totals that are not what was written stay as they
/// are, for `netra audit verify` to find.
pub(super) fn add(tx: &Tx<'_>, is_first: bool) -> Result<(), Error> {
    tx.lock_totals()?;
    let mut totals = match written(tx.connection(), tx.audit_key())? {
        Written::Whole(totals) => totals,
        Written::Broken => return Ok(()),
        // They were there when the store was opened.
        Written::None => return keep(tx, TAKEN),
    };
    totals.chains += u64::from(is_first);
    totals.records += 1;
    keep(tx, &totals.sealed(tx.audit_key()))
}
