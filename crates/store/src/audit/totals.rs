//! How many chains and records there are over all users, sealed: what shows that a whole chain was taken away, or records
//! of before there were chains. Kept in the transaction that appends.

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

    fn write(self, tx: &Tx<'_>) -> Result<(), Error> {
        let seal = cursor::write(&tx.audit_key().seal_of_totals(self.parts()));
        let [chains, records, unchained] = self.parts();
        keep(tx, &format!("{chains}:{records}:{unchained}:{seal}"))
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

/// Whether a chain has an end that was written since there are totals: then there must be some.
pub(super) fn are_due(connection: &Connection, key: &AuditKey) -> Result<bool, Error> {
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
        // Once in a server's life, and of everybody's chains, whoever is the first to be recorded.
        Written::None => {
            let key = tx.audit_key();
            let count = |connection: &Connection| {
                Ok((are_due(connection, key)?, Totals::counted(connection)?))
            };
            match tx.of_everybody(count)? {
                (true, _) => return keep(tx, TAKEN),
                (false, counted) => counted,
            }
        }
    };
    totals.chains += u64::from(is_first);
    totals.records += 1;
    totals.write(tx)
}
