//! The embedded backend: one writer thread, a pool of readers, migrations at opening.

mod checkpoint;
mod migrate;
mod pace;
mod writer;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use netra_context::Runtime;
use rusqlite::{Connection, OpenFlags};

use crate::audit::AuditKey;
use crate::database::{Waits, Whose};
use crate::effort::Effort;
use crate::error::Error;
use crate::log::Fanout;
use crate::readers::Readers;
use crate::sql;
use crate::transaction::Tx;

/// Statements that one connection keeps prepared.
const STATEMENT_CACHE: usize = 128;
/// Connections for reading at the most. More would not read faster on a few cores, and each has a cache.
const READERS: usize = 8;

pub(crate) struct Database {
    writer: writer::Writer,
    readers: Readers,
}

impl Database {
    pub(crate) fn open(
        path: &Path,
        runtime: &Runtime,
        audit_key: AuditKey,
        fanout: Arc<dyn Fanout>,
        waits: Waits,
    ) -> Result<Self, Error> {
        let connection = sql::Connection::Sqlite(connect(path)?);
        migrate::up(&connection)?;
        crate::audit::totals::begin(&connection, &audit_key)?;
        let read_only = path.to_owned();
        let connect = move || {
            let connection = open_to_read(&read_only)?;
            connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
            Ok(sql::Connection::Sqlite(connection))
        };
        let readers = Readers::new(
            Box::new(connect),
            READERS,
            Effort::of_processor,
            waits.to_read,
            runtime,
        );
        // Checkpoints are not the commits' affair.
        connection.batch("PRAGMA wal_autocheckpoint = 0;")?;
        let checkpoints = checkpoint::Checkpoints::start(path)?;
        let writer = writer::Writer::start(
            connection,
            runtime.clone(),
            audit_key,
            fanout,
            checkpoints,
            waits.to_write,
        )?;
        Ok(Self { writer, readers })
    }

    /// Carries the work out in a transaction and returns when it is durable. Work that fails
    /// leaves nothing behind. Works of different callers may share a commit.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.write(whose, work).await
    }

    /// Whether what is to be written, or read, would wait too long.
    pub(crate) fn is_overloaded(&self, to_write: bool) -> bool {
        self.readers.are_overloaded() || (to_write && self.writer.is_overloaded())
    }

    /// Reads one snapshot.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&sql::Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.readers.read(Whose::All, work).await
    }

    /// Reads on this thread; at opening only.
    pub(crate) fn read_now<T>(
        &self,
        work: impl FnOnce(&sql::Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.readers.read_now(work)
    }
}

/// A connection that cannot write. One thread uses it at a time.
pub(crate) fn open_to_read(path: &Path) -> sql::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| sql::Error::Unavailable(format!("{}: {error}", path.display())))?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}

/// A data folder's database at the moment of the first read from it, whatever a server writes meanwhile.
pub(crate) fn snapshot(dir: &Path) -> Result<sql::Connection, Error> {
    let connection = open_to_read(&dir.join("netra.db"))?;
    connection.execute_batch("BEGIN DEFERRED")?;
    Ok(sql::Connection::Sqlite(connection))
}

pub(crate) fn migrate_file(path: &Path) -> Result<u32, Error> {
    migrate::up(&sql::Connection::Sqlite(connect(path)?))
}

/// Made by us where it is absent: SQLite would let others read it, and gives its other files the
/// rights of this one. One that is there is not opened: closing it would give up the locks that
/// other connections of this process hold on it, and the next process that comes and goes would
/// take the write-ahead log away from under them.
fn make_private(path: &Path) -> Result<(), Error> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::Unavailable(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let at = |error: rusqlite::Error| Error::Unavailable(format!("{}: {error}", path.display()));
    make_private(path)?;
    let connection = Connection::open(path).map_err(at)?;
    connection
        .busy_timeout(std::time::Duration::from_secs(5))
        .map_err(at)?;
    // FULL: a commit is on the disk before it is answered, so neither a killed process nor a
    // power cut loses what was told to anybody. MEMORY: what a savepoint would take back is kept
    // in memory, not in a temporary file, which would cost a quarter of the writer's time.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -8192;",
        )
        .map_err(at)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}
