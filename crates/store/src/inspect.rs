//! Reading the logs of all users as they stand in a data folder, to check them: beside a server, or
//! without one. One snapshot, and nothing is written.

use std::path::Path;
use std::sync::Arc;

use netra_protocol::id::{RunId, UserId};
use netra_protocol::run::RunStatus;

use crate::error::Error;
use crate::log::{Entry, entries};
use crate::postgres::{self, Postgres};
use crate::sql::{self, Connection, Row};
use crate::sqlite;

/// A user's log.
#[derive(Debug, Clone)]
pub struct LogOwner {
    /// Whose it is.
    pub user_id: UserId,
    /// The account's name.
    pub name: String,
    /// The first number that the log answers for.
    pub oldest_seq: u64,
    /// The last number that was given.
    pub latest_seq: u64,
}

/// A run, as far as its events are concerned.
#[derive(Debug, Clone)]
pub struct LoggedRun {
    /// The run.
    pub id: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// All its events have larger numbers.
    pub after_seq: u64,
    /// The number of its last event, when it has ended.
    pub terminal_seq: Option<u64>,
    /// How many pieces of its messages were folded away.
    pub folded: u64,
}

/// Events that were deleted: so many, with numbers after one and through the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// All had larger numbers.
    pub after_seq: u64,
    /// None had a larger number.
    pub through: u64,
    /// How many there were.
    pub events: u64,
}

/// A data folder's logs at one moment.
pub struct Logs(Connection);

impl Logs {
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

    /// Every user's log.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be read.
    pub fn owners(&self) -> Result<Vec<LogOwner>, Error> {
        let sql = "SELECT l.user_id, u.name, l.oldest_seq, l.seq
                   FROM logs l JOIN users u ON u.id = l.user_id ORDER BY u.name";
        self.list(sql, [], |row| {
            Ok(LogOwner {
                user_id: UserId::from_bytes(row.get(0)?),
                name: row.get(1)?,
                oldest_seq: row.get(2)?,
                latest_seq: row.get(3)?,
            })
        })
    }

    /// A user's runs, oldest first.
    ///
    /// # Errors
    /// As [`Logs::owners`].
    pub fn runs(&self, user: UserId) -> Result<Vec<LoggedRun>, Error> {
        let sql = "SELECT id, status, log_start, log_end, coalesce(folded, 0) FROM runs
                   WHERE user_id = ?1 ORDER BY id";
        let found = self.list(sql, [user.to_bytes()], |row| {
            let status: String = row.get(1)?;
            Ok((
                status.parse::<RunStatus>(),
                LoggedRun {
                    id: RunId::from_bytes(row.get(0)?),
                    status: RunStatus::Queued,
                    after_seq: row.get(2)?,
                    terminal_seq: row.get(3)?,
                    folded: row.get(4)?,
                },
            ))
        })?;
        let known = found.into_iter().map(|(status, run)| {
            let status = status.map_err(|_| Error::corrupt("run's status"))?;
            Ok(LoggedRun { status, ..run })
        });
        known.collect()
    }

    /// What was deleted from a user's log, besides what was folded.
    ///
    /// # Errors
    /// As [`Logs::owners`].
    pub fn deletions(&self, user: UserId) -> Result<Vec<Deletion>, Error> {
        let sql = "SELECT after_seq, through, events FROM log_deletions WHERE user_id = ?1";
        self.list(sql, [user.to_bytes()], |row| {
            Ok(Deletion {
                after_seq: row.get(0)?,
                through: row.get(1)?,
                events: row.get(2)?,
            })
        })
    }

    /// A user's entries after this number, in order, at most `limit`.
    ///
    /// # Errors
    /// As [`Logs::owners`].
    pub fn entries(
        &self,
        user: UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, Error> {
        entries(&self.0, user, (after, u64::MAX), limit, usize::MAX)
    }

    fn list<T>(
        &self,
        sql: &str,
        params: impl sql::Params,
        read: impl FnMut(&Row<'_>) -> sql::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut statement = self.0.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
