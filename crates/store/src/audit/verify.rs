//! Holding the audit of a data folder against its chains: in one snapshot, beside a server too, and nothing is written.

use std::path::Path;

use netra_protocol::audit::AuditEntry;
use netra_protocol::id::UserId;

use super::chain::{AuditKey, Covered, Hash, START};
use super::totals::{self, Totals, Written};
use super::{COLUMNS, Stored};
use crate::error::Error;
use crate::postgres::{self, Postgres};
use crate::sql::{Connection, OptionalExtension as _};
use crate::sqlite;

/// A chain's owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainOwner {
    /// Whose chain it is.
    pub user_id: UserId,
    /// The account's name; none when there is no such account any more.
    pub name: Option<String>,
}

/// What was found in one chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records in the chain.
    pub records: u64,
    /// Records from before there was a chain: nothing protects them.
    pub unchained: u64,
    /// What is wrong, with the number of the record that it was found at.
    pub findings: Vec<(u64, &'static str)>,
}

/// A data folder's audit at one moment.
pub struct Audit(Connection);

impl Audit {
    /// Opens the folder's database for reading.
    ///
    /// # Errors
    /// `Unavailable` when there is none, or it cannot be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self(sqlite::snapshot(dir)?))
    }

    /// The same of a store whose rows are in PostgreSQL.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub fn open_on(server: &Postgres) -> Result<Self, Error> {
        Ok(Self(postgres::snapshot(server)?))
    }

    /// Everybody who has records, or should have.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be read.
    pub fn owners(&self) -> Result<Vec<ChainOwner>, Error> {
        let sql = "SELECT ids.user_id, u.name
                   FROM (SELECT user_id FROM audit UNION SELECT user_id FROM audit_heads) ids
                   LEFT JOIN users u ON u.id = ids.user_id ORDER BY u.name, ids.user_id";
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(ChainOwner {
                user_id: UserId::from_bytes(row.get(0)?),
                name: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives a user's records in the order of the chain to `each`, those from before it first.
    ///
    /// # Errors
    /// As [`Audit::owners`], and what `each` returns.
    pub fn entries<E: From<Error>>(
        &self,
        user: UserId,
        mut each: impl FnMut(AuditEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stored(user, |stored| each(stored.entry()?))
    }

    fn stored<E: From<Error>>(
        &self,
        user: UserId,
        mut each: impl FnMut(Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql =
            format!("SELECT {COLUMNS} FROM audit WHERE user_id = ?1 ORDER BY seq NULLS FIRST, id");
        let mut statement = self.0.prepare_cached(&sql).map_err(Error::from)?;
        let mut rows = statement.query([user.to_bytes()]).map_err(Error::from)?;
        while let Some(row) = rows.next().map_err(Error::from)? {
            each(Stored::read(&row)?)?;
        }
        Ok(())
    }

    /// Holds a user's records against the chain.
    ///
    /// # Errors
    /// As [`Audit::owners`].
    pub fn verify(&self, key: &AuditKey, user: UserId) -> Result<Verdict, Error> {
        let mut verdict = Verdict::default();
        let (mut last, mut before) = (0, START);
        self.stored(user, |stored| {
            let (Some(seq), Some(hash)) = (stored.seq, stored.hash) else {
                if stored.seq.is_some() || stored.hash.is_some() {
                    verdict.findings.push((
                        stored.seq.unwrap_or(0),
                        "half of its place in the chain is missing",
                    ));
                }
                verdict.unchained += 1;
                return Ok::<(), Error>(());
            };
            verdict.records += 1;
            if seq != last + 1 {
                verdict.findings.push((last + 1, "records are missing"));
            } else if hash != key.link(user, seq, &before, &stored.covered()) {
                verdict.findings.push((
                    seq,
                    "this record, or the one before, is not what was written",
                ));
            }
            (last, before) = (seq, hash);
            Ok(())
        })?;
        self.end(key, user, (last, before), &mut verdict)?;
        Ok(verdict)
    }

    /// Holds the number of chains and records over all users against what was written: a chain that was taken away as a
    /// whole shows there only.
    ///
    /// # Errors
    /// As [`Audit::owners`].
    pub fn verify_totals(&self, key: &AuditKey) -> Result<Vec<&'static str>, Error> {
        let totals = match totals::written(&self.0, key)? {
            Written::None if totals::were_taken(&self.0, key)? => {
                return Ok(vec!["the numbers of chains and records were taken away"]);
            }
            // It is from before there were totals, and was not opened since.
            Written::None => return Ok(Vec::new()),
            Written::Broken => {
                return Ok(vec![
                    "the numbers of chains and records are not what was written",
                ]);
            }
            Written::Whole(totals) => totals,
        };
        let counted = Totals::counted(&self.0)?;
        let compared = [
            (
                totals.chains == counted.chains,
                "there are not as many chains as were written",
            ),
            (
                totals.records == counted.records,
                "the chains have not as many records as were written",
            ),
            (
                totals.unchained == counted.unchained,
                "there are not as many records from before there were chains as there were",
            ),
        ];
        let wrong = compared.into_iter().filter(|(is_right, _)| !is_right);
        Ok(wrong.map(|(_, words)| words).collect())
    }

    fn end(
        &self,
        key: &AuditKey,
        user: UserId,
        (last, hash): (u64, Hash),
        verdict: &mut Verdict,
    ) -> Result<(), Error> {
        let sql = "SELECT seq, hash, seal FROM audit_heads WHERE user_id = ?1";
        let head: Option<(u64, Hash, Hash)> = self
            .0
            .prepare_cached(sql)?
            .query_row([user.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        match head {
            None if last == 0 => {}
            None => verdict
                .findings
                .push((last, "the end of the chain is not recorded")),
            Some((seq, head, seal)) => {
                let seals = [
                    key.seal(user, seq, &head),
                    key.seal_before_totals(user, seq, &head),
                ];
                if !seals.contains(&seal) {
                    verdict
                        .findings
                        .push((seq, "the end of the chain is not what was written"));
                } else if seq > last {
                    verdict.findings.push((last + 1, "records are missing"));
                } else if (seq, head) != (last, hash) {
                    verdict
                        .findings
                        .push((seq, "there are records after the end of the chain"));
                }
            }
        }
        Ok(())
    }
}

impl Stored {
    fn covered(&self) -> Covered<'_> {
        Covered {
            id: self.id,
            at_micros: self.at_micros,
            actor: &self.actor,
            action: &self.action,
            object: &self.object,
            outcome: &self.outcome,
            details: &self.details,
            request_id: self.request_id,
        }
    }
}
