//! What the store's modules know of a database: a connection, statements, rows and their values, whichever of the two
//! databases answers.
//!
//! Statements are written once, with `?1` as their parameters, where both databases understand them, and
//! [`Connection::either`] takes the place of that where they do not. SQLite's statements stay prepared with their
//! connection.

mod sqlite;
mod value;

use std::sync::Arc;

use crate::database::Whose;
use crate::error::Error as StoreError;
use crate::postgres::scope;
use crate::postgres::session::{self, Prepared, Session};

pub(crate) use value::{FromSql, Params, ToSql, Value};

/// What went wrong between the store and its database.
#[derive(Debug, Clone)]
pub(crate) enum Error {
    /// A row was asked for and there is none.
    NoRow,
    /// The database cannot be read or written now.
    Unavailable(String),
    /// The schema refuses to write for a user who is gone or disabled.
    Refused,
    /// A text has the character NUL, which PostgreSQL does not keep.
    Nul,
    /// What was asked or read does not fit the schema.
    Bug(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A value that is not what the store writes.
    pub(crate) fn unreadable(what: &str) -> Self {
        Self::Bug(format!("a stored {what} cannot be read back"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoRow => f.write_str("there is no such row"),
            Self::Refused => f.write_str("the user is gone or disabled"),
            Self::Nul => f.write_str("a text with the character NUL cannot be kept"),
            Self::Unavailable(text) | Self::Bug(text) => f.write_str(text),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::NoRow => Self::NotFound,
            Error::Refused => Self::Forbidden,
            Error::Nul => Self::Nul,
            Error::Unavailable(text) => Self::Unavailable(text),
            Error::Bug(text) => Self::Bug(text),
        }
    }
}

/// A look-up that may find nothing.
pub(crate) trait OptionalExtension<T> {
    fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
    fn optional(self) -> Result<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(Error::NoRow) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// One connection. One thread uses it at a time.
pub(crate) enum Connection {
    Sqlite(rusqlite::Connection),
    Postgres(Session),
}

impl Connection {
    /// A statement, which stays prepared for the next time.
    pub(crate) fn prepare_cached(&self, sql: &str) -> Result<Statement<'_>> {
        match self {
            Self::Sqlite(connection) => Ok(Statement::Sqlite(connection.prepare_cached(sql)?)),
            Self::Postgres(session) => Ok(Statement::Postgres(session, session.prepare(sql)?)),
        }
    }

    /// Several statements without parameters, for the schema.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => Ok(connection.execute_batch(sql)?),
            Self::Postgres(session) => session.batch(sql),
        }
    }

    /// The text for this database, where one statement does not serve both.
    pub(crate) fn either<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Whether it can be used again.
    pub(crate) fn is_usable(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(session) => session.is_usable(),
        }
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn is_in_transaction(&self) -> bool {
        match self {
            Self::Sqlite(connection) => !connection.is_autocommit(),
            Self::Postgres(session) => session.is_in_transaction(),
        }
    }

    /// Begins to read one snapshot.
    pub(crate) fn begin_read(&self, whose: Whose) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.prepare_cached("BEGIN DEFERRED")?.execute([]).map(drop),
            Self::Postgres(session) => scope::begin_read(session, whose),
        }
    }

    /// Begins to write.
    pub(crate) fn begin_write(&self, whose: Whose) -> Result<()> {
        match self {
            Self::Sqlite(_) => self
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])
                .map(drop),
            Self::Postgres(session) => scope::begin_write(session, whose),
        }
    }

    /// Makes what was written durable.
    pub(crate) fn commit(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.prepare_cached("COMMIT")?.execute([]).map(drop),
            Self::Postgres(session) => session.commit(),
        }
    }

    /// Takes back what was written.
    pub(crate) fn roll_back(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.prepare_cached("ROLLBACK")?.execute([]).map(drop),
            Self::Postgres(session) => session.roll_back(),
        }
    }

    pub(crate) fn end_read(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.prepare_cached("COMMIT")?.execute([]).map(drop),
            Self::Postgres(session) => session.end_read(),
        }
    }
}

/// A prepared statement.
pub(crate) enum Statement<'c> {
    Sqlite(rusqlite::CachedStatement<'c>),
    Postgres(&'c Session, Arc<Prepared>),
}

impl Statement<'_> {
    /// Carries it out and returns how many rows it changed.
    pub(crate) fn execute(&mut self, params: impl Params) -> Result<usize> {
        match self {
            Self::Sqlite(statement) => {
                sqlite::bind(statement, &params)?;
                Ok(statement.raw_execute()?)
            }
            Self::Postgres(session, statement) => session.execute(statement, &params),
        }
    }

    /// Carries it out; where it fails, the transaction tells at its next answer. For what nobody needs the answer of:
    /// PostgreSQL is then told of several at once.
    pub(crate) fn put(&mut self, params: impl Params) -> Result<()> {
        match self {
            Self::Sqlite(_) => self.execute(params).map(drop),
            Self::Postgres(session, statement) => session.defer(statement, &params),
        }
    }

    pub(crate) fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
        match self {
            Self::Sqlite(statement) => {
                sqlite::bind(statement, &params)?;
                Ok(Rows::Sqlite(statement.raw_query()))
            }
            Self::Postgres(session, statement) => {
                let rows = session.query(statement, &params)?.into_iter();
                Ok(Rows::Postgres {
                    rows,
                    current: None,
                })
            }
        }
    }

    /// What `read` makes of the first row; `NoRow` where there is none.
    pub(crate) fn query_row<T>(
        &mut self,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut rows = self.query(params)?;
        let row = rows.next()?.ok_or(Error::NoRow)?;
        read(&row)
    }

    /// What `read` makes of each row.
    pub(crate) fn query_map<T, F: FnMut(&Row<'_>) -> Result<T>>(
        &mut self,
        params: impl Params,
        read: F,
    ) -> Result<MappedRows<'_, F>> {
        let rows = self.query(params)?;
        Ok(MappedRows { rows, read })
    }
}

/// The rows that a statement gives, one after the other.
pub(crate) enum Rows<'s> {
    Sqlite(rusqlite::Rows<'s>),
    Postgres {
        rows: std::vec::IntoIter<session::Row>,
        current: Option<session::Row>,
    },
}

impl Rows<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        match self {
            Self::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
            Self::Postgres { rows, current } => {
                *current = rows.next();
                Ok(current.as_ref().map(Row::Postgres))
            }
        }
    }
}

pub(crate) struct MappedRows<'s, F> {
    rows: Rows<'s>,
    read: F,
}

impl<T, F: FnMut(&Row<'_>) -> Result<T>> Iterator for MappedRows<'_, F> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        match self.rows.next() {
            Ok(row) => row.map(|row| (self.read)(&row)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// One row.
pub(crate) enum Row<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r session::Row),
}

/// What names a column: its number, from 0.
pub(crate) trait Column {
    fn number(self) -> usize;
}

impl Column for usize {
    fn number(self) -> usize {
        self
    }
}

impl Row<'_> {
    pub(crate) fn get<C: Column, T: FromSql>(&self, column: C) -> Result<T> {
        let column = column.number();
        let value = self.get_ref(column)?;
        T::from_sql(value).ok_or_else(|| Error::unreadable(&format!("column {column}")))
    }

    /// How much of texts and bytes the row holds.
    pub(crate) fn stored_bytes(&self) -> Result<usize> {
        let columns = match self {
            Self::Sqlite(row) => row.as_ref().column_count(),
            Self::Postgres(row) => row.columns(),
        };
        let bytes = |column| -> Result<usize> {
            Ok(match self.get_ref(column)? {
                Value::Text(text) => text.len(),
                Value::Blob(bytes) => bytes.len(),
                _ => 0,
            })
        };
        (0..columns).map(bytes).sum()
    }

    /// The value as the row holds it.
    pub(crate) fn get_ref(&self, column: usize) -> Result<Value<'_>> {
        match self {
            Self::Sqlite(row) => sqlite::value(row.get_ref(column)?),
            Self::Postgres(row) => row.get(column),
        }
    }
}

/// Values of several types as parameters.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$(&$value as &dyn $crate::sql::ToSql),*] as &[&dyn $crate::sql::ToSql]
    };
}
pub(crate) use params;
