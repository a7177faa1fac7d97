//! The database of a store, and whose part of it a transaction works on.

use std::time::Duration;

use netra_context::pressure::Bounds;
use netra_protocol::id::UserId;

use crate::error::Error;
use crate::postgres;
use crate::redis::Link;
use crate::sql::{Connection, OptionalExtension as _};
use crate::sqlite;
use crate::transaction::Tx;

/// How long somebody may wait for a turn, and how long everybody, before others are refused for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    pub(crate) to_read: Bounds,
    pub(crate) to_write: Bounds,
}

impl Waits {
    /// Whoever writes waits for a turn and for the commit, so twice as long. Who is refused then comes back soon, and so
    /// do all others: for a while after that nobody is let in on trust.
    pub(crate) fn of_turn(turn: Duration) -> Self {
        Self {
            to_read: Bounds {
                target: turn,
                patience: Duration::from_millis(450),
                memory: Duration::ZERO,
            },
            to_write: Bounds {
                target: turn * 2,
                patience: Duration::from_millis(100),
                memory: Duration::from_secs(5),
            },
        }
    }
}

/// Whose rows a transaction sees and changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This user's, and what belongs to nobody.
    User(UserId),
    /// Everybody's: for built-in principals, admins, and those who are not known yet.
    All,
}

pub(crate) enum Database {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

impl Database {
    /// What of it is this user's.
    pub(crate) fn of(&self, user: UserId) -> Part<'_> {
        self.part(Whose::User(user))
    }

    /// All of it.
    pub(crate) fn of_all(&self) -> Part<'_> {
        self.part(Whose::All)
    }

    fn part(&self, whose: Whose) -> Part<'_> {
        Part {
            database: self,
            whose,
        }
    }

    /// Whether what is to be read, or also written, would wait too long.
    pub(crate) fn is_overloaded(&self, to_write: bool) -> bool {
        match self {
            Self::Sqlite(database) => database.is_overloaded(to_write),
            Self::Postgres(database) => database.is_overloaded(to_write),
        }
    }

    /// This node's link to Redis, where it has one.
    pub(crate) fn link(&self) -> Option<&Link> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(database) => database.link(),
        }
    }

    /// How many nodes are alive, with this one.
    pub(crate) fn nodes(&self) -> u32 {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(database) => database.nodes(),
        }
    }

    /// The log's name.
    pub(crate) fn epoch(&self) -> Result<String, Error> {
        let read = |connection: &Connection| {
            let sql = "SELECT value FROM meta WHERE key = 'epoch'";
            let mut statement = connection.prepare_cached(sql)?;
            let epoch = statement.query_row([], |row| row.get(0)).optional()?;
            epoch.ok_or_else(|| Error::corrupt("name of the log"))
        };
        match self {
            Self::Sqlite(database) => database.read_now(read),
            Self::Postgres(database) => database.read_now(read),
        }
    }
}

/// One user's part of the database, or all of it.
pub(crate) struct Part<'d> {
    database: &'d Database,
    whose: Whose,
}

impl Part<'_> {
    /// Carries the work out in a transaction and returns when it is durable. Work that fails leaves nothing behind.
    /// What is written for one user is written in the order of asking, whoever asks.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.database {
            Database::Sqlite(database) => database.write(self.whose, work).await,
            Database::Postgres(database) => database.write(self.whose, work).await,
        }
    }

    /// Reads one snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self.database {
            Database::Sqlite(database) => database.read(work).await,
            Database::Postgres(database) => database.read(self.whose, work).await,
        }
    }
}
