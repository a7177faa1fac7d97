//! The database of one call: it lives in memory, holds the files that the call names, and answers questions only.
//!
//! What a query may do is decided by SQLite's authorizer, which is asked about every part of a statement while it is
//! compiled: reading the loaded tables and calling functions. What a query may use is bounded by SQLite's own limits, by
//! time, and by the worker's memory, which is SQLite's too.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use serde_json::Value;

use super::cells;
use super::load::{Failed, Table, load};
use crate::error::Error;
use crate::jobs::InputFile;
use crate::output::cut;

/// The most files of one call.
pub(crate) const MAX_FILES: usize = 8;
/// The longest query, in bytes.
pub(crate) const MAX_QUERY_BYTES: usize = 20_000;
/// The longest single value that a query may make, in bytes.
const MAX_VALUE_BYTES: i32 = 16 << 20;
/// How many steps of a query are taken before the time is looked at.
const STEPS: i32 = 100_000;
/// How much an error tells of the tables that there are, in characters.
const TABLES_CHARS: usize = 1_500;
/// How many bytes of a result tell about the tables.
const TOLD_BYTES: usize = 20_000;
/// The most columns of an answer, and the longest name of one, in characters.
const ANSWER_COLUMNS: usize = 150;
const NAME_CHARS: usize = 50;

/// What there is to read beside the loaded tables: the list of them, and JSON taken apart.
const ALWAYS_READABLE: [&str; 4] = ["sqlite_master", "sqlite_schema", "json_each", "json_tree"];
/// Functions that do more than compute.
const FORBIDDEN_FUNCTIONS: [&str; 2] = ["load_extension", "fts3_tokenizer"];

/// Takes a row with the names of its columns; false when no more are wanted.
pub(crate) type Each<'a> = dyn FnMut(&[String], &Row<'_>) -> Result<bool, Error> + 'a;

/// Files as tables.
pub(crate) struct Database {
    connection: Connection,
    tables: Vec<Table>,
    /// What the statement was refused for, in words.
    refused: Arc<std::sync::Mutex<Option<String>>>,
    /// How long a query may take.
    time: Duration,
}

impl Database {
    /// Loads the files, each as a table named after it.
    ///
    /// # Errors
    /// Where a file is no table.
    pub(crate) fn load(
        inputs: &[InputFile],
        time: Duration,
        progress: &mut dyn FnMut(f32, &str),
    ) -> Result<Self, Error> {
        if inputs.len() > MAX_FILES {
            return Err(Error::invalid(format!(
                "{} files are too many, at most {MAX_FILES} can be loaded: name those that are needed in `files`",
                inputs.len()
            )));
        }
        let mut database = Self {
            connection: open().map_err(|error| internal(&error))?,
            tables: Vec::new(),
            refused: Arc::default(),
            time,
        };
        let stems = inputs.iter().map(|input| stem(&input.name));
        let names = cells::names(stems, "table");
        let count = inputs.len() as f32;
        for (index, (input, name)) in inputs.iter().zip(names).enumerate() {
            let mut share = |part: f32| progress((index as f32 + part) / count, "reading");
            let table = database
                .in_one_transaction(|connection| load(connection, input, name, &mut share))?;
            database.tables.push(table);
        }
        database.close_to_all_but_reading();
        Ok(database)
    }

    fn in_one_transaction<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        let done = (|| {
            self.connection.execute_batch("BEGIN")?;
            let done = work(&self.connection)?;
            self.connection.execute_batch("COMMIT")?;
            Ok(done)
        })();
        done.map_err(|failed| match failed {
            Failed::File(error) => error,
            Failed::Database(error) => self.explain(error),
        })
    }

    fn close_to_all_but_reading(&self) {
        let own = self.tables.iter().map(|table| table.name.to_lowercase());
        let readable: HashSet<String> = own.chain(ALWAYS_READABLE.map(str::to_owned)).collect();
        let refused = Arc::clone(&self.refused);
        let judge = move |asked: AuthContext<'_>| {
            let words = match asked.action {
                AuthAction::Select | AuthAction::Recursive => return Authorization::Allow,
                // No column of it is read, as in `count(*)`. Parts of the query itself are asked about so, too.
                AuthAction::Read {
                    column_name: "", ..
                } => return Authorization::Allow,
                AuthAction::Read { table_name, .. }
                    if readable.contains(&table_name.to_lowercase()) =>
                {
                    return Authorization::Allow;
                }
                AuthAction::Function { function_name }
                    if !FORBIDDEN_FUNCTIONS.contains(&function_name.to_lowercase().as_str()) =>
                {
                    return Authorization::Allow;
                }
                AuthAction::Read { table_name, .. } => format!("the table {table_name}"),
                AuthAction::Function { function_name } => format!("the function {function_name}"),
                AuthAction::Attach { .. } | AuthAction::Detach { .. } => "ATTACH".to_owned(),
                AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name}"),
                AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
                    "a transaction".to_owned()
                }
                _ => "a statement that changes something".to_owned(),
            };
            if let Ok(mut refused) = refused.lock() {
                refused.get_or_insert(words);
            }
            Authorization::Deny
        };
        self.connection.authorizer(Some(judge));
    }

    /// Answers one query: shows the names of its columns with every row, until there are no more or nobody wants more.
    /// Gives the names.
    pub(crate) fn select(&self, query: &str, each: &mut Each<'_>) -> Result<Vec<String>, Error> {
        if let Ok(mut refused) = self.refused.lock() {
            *refused = None;
        }
        let statement = self.connection.prepare(query);
        let mut statement = statement.map_err(|error| self.explain(error))?;
        let names: Vec<String> = statement
            .column_names()
            .into_iter()
            .map(|name| cut(name, NAME_CHARS).into_owned())
            .collect();
        if names.is_empty() || !statement.readonly() {
            return Err(Error::invalid("the query is no SELECT statement"));
        }
        if names.len() > ANSWER_COLUMNS {
            return Err(Error::invalid(format!(
                "the query gives {} columns, at most {ANSWER_COLUMNS} are told: name those that are needed",
                names.len()
            )));
        }
        let deadline = Instant::now() + self.time;
        let late = move || Instant::now() > deadline;
        self.connection.progress_handler(STEPS, Some(late));
        let rows = statement.query([]);
        let mut rows = rows.map_err(|error| self.explain(error))?;
        while let Some(row) = rows.next().map_err(|error| self.explain(error))? {
            if !each(&names, row)? {
                break;
            }
        }
        Ok(names)
    }

    /// What is loaded.
    pub(crate) fn tables(&self) -> Value {
        let room = TOLD_BYTES / self.tables.len().max(1);
        self.tables.iter().map(|table| table.told(room)).collect()
    }

    /// A failure of the database, for whoever wrote the query.
    fn explain(&self, error: rusqlite::Error) -> Error {
        let refused = self.refused.lock().ok().and_then(|mut words| words.take());
        let code = error.sqlite_error_code();
        match (error, code) {
            (_, Some(ErrorCode::OperationInterrupted)) => Error::invalid(format!(
                "the query took longer than {} ms",
                self.time.as_millis()
            )),
            (rusqlite::Error::MultipleStatement, _) => {
                Error::invalid("a query is one statement: several were given")
            }
            (
                rusqlite::Error::SqlInputError {
                    msg, sql, offset, ..
                },
                _,
            ) => {
                let place = place(&sql, usize::try_from(offset).unwrap_or(0));
                let words = refused.map_or(msg, |what| not_allowed(&what));
                Error::invalid(format!("{words} ({place}). {}", self.known()))
            }
            (rusqlite::Error::SqliteFailure(_, msg), Some(_)) => {
                let words = refused.map(|what| not_allowed(&what)).or(msg);
                let words = words.unwrap_or_else(|| "the query failed".to_owned());
                Error::invalid(format!("{}. {}", cut(&words, 300), self.known()))
            }
            (error, _) => Error::invalid(cut(&error.to_string(), 300)),
        }
    }

    /// The tables and columns that there are, in words.
    fn known(&self) -> String {
        if self.tables.is_empty() {
            return "No file is loaded: name files in `files`.".to_owned();
        }
        let table = |table: &Table| {
            let columns = table.columns.iter();
            let columns: Vec<String> = columns
                .map(|column| format!("{} {}", column.name, column.kind().name()))
                .collect();
            format!("{}({})", table.name, columns.join(", "))
        };
        let tables: Vec<String> = self.tables.iter().map(table).collect();
        let words = format!("There are: {}", tables.join("; "));
        cut(&words, TABLES_CHARS).into_owned()
    }
}

fn not_allowed(what: &str) -> String {
    format!("{what} is not allowed: a query may only read what is loaded")
}

fn internal(error: &rusqlite::Error) -> Error {
    Error::internal(format!("the database cannot be made: {error}"))
}

/// An empty database that never touches a disk.
fn open() -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_in_memory_with_flags(flags)?;
    for (name, value) in [
        // Sorting too stays in memory.
        ("temp_store", "MEMORY"),
        ("journal_mode", "OFF"),
        ("synchronous", "OFF"),
        ("trusted_schema", "OFF"),
    ] {
        connection.pragma_update(None, name, value)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1_000_000),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    Ok(connection)
}

/// A file's name without its extension.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// A byte of a query as its line and column, counted from 1.
fn place(query: &str, byte: usize) -> String {
    let before = query.get(..byte).unwrap_or(query);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    format!("line {line}, column {column} of the query")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_of_files() {
        assert_eq!(place("a\nbé ?", 6), "line 2, column 4 of the query");
        assert_eq!(place("a", 99), "line 1, column 2 of the query");
        assert_eq!(stem("log.csv"), "log");
        assert_eq!(stem("a.b.csv"), "a.b");
        assert_eq!(stem(".csv"), ".csv");
        assert_eq!(stem("log"), "log");
    }
}
