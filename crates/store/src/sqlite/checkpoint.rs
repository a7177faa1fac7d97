//! Checkpoints, off the commits' path: a thread of its own moves what the write-ahead log holds into
//! the database. Inside of commits that would take 4 to 15 ms of some unlucky ones.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::Error;
use crate::sql;

/// Between two checkpoints while there are commits.
const EVERY: Duration = Duration::from_millis(100);
/// Pages in the write-ahead log from which on it is to begin anew: 64 MiB. Under a load without a pause it would grow
/// without end, because it does so only where all of it has been moved and nobody reads it.
const MOST_PAGES: i64 = if cfg!(test) { 64 } else { 16_384 };

/// Tells the thread that there is something to move. Dropping it ends the thread.
pub(super) struct Checkpoints {
    commits: SyncSender<()>,
    /// Whether the log has grown over its measure.
    is_long: Arc<AtomicBool>,
}

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        let connection = super::connect(path)?;
        let (sender, commits) = sync_channel(1);
        let is_long = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_long);
        std::thread::Builder::new()
            .name("netra-checkpoint".into())
            .spawn(move || run(&connection, &commits, &told))
            .map_err(Error::from)?;
        Ok(Self {
            commits: sender,
            is_long,
        })
    }

    /// There was a commit. Never waits.
    pub(super) fn committed(&self) {
        match self.commits.try_send(()) {
            // It has been told already.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("the thread of the checkpoints has ended");
            }
        }
    }

    /// Where the log has grown too long, the writer moves the little that has come since the thread did, so that its next
    /// transaction begins the log anew. It waits for no reader: where one is in the way, there is another time.
    pub(super) fn catch_up(&self, writer: &sql::Connection) {
        if self.is_long.swap(false, Ordering::Relaxed)
            && let Err(error) = writer.batch("PRAGMA wal_checkpoint(PASSIVE);")
        {
            tracing::warn!(%error, "the log was not shortened; the next time it is");
        }
    }
}

fn run(connection: &Connection, commits: &Receiver<()>, is_long: &AtomicBool) {
    while commits.recv().is_ok() {
        std::thread::sleep(EVERY);
        // What was committed meanwhile is this one's too.
        commits.try_recv().ok();
        match checkpoint(connection) {
            Ok(pages) if pages > MOST_PAGES => is_long.store(true, Ordering::Relaxed),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a checkpoint failed; the next one does its work"),
        }
    }
}

/// Moves what nobody is in the way of, and returns how many pages the log holds.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
}

#[cfg(test)]
mod tests {
    use netra_context::Runtime;

    use super::*;
    use crate::audit::AuditKey;
    use crate::database::{Waits, Whose};
    use crate::log::{Entry, Fanout};
    use crate::sqlite::{Database, open_to_read};
    use crate::transaction::Tx;

    struct Nobody;

    impl Fanout for Nobody {
        fn committed(&self, _: &[Arc<Entry>]) {}
    }

    /// A table that each of these fills by many pages.
    async fn fill(database: &Database, times: usize) {
        for number in 0..times {
            let filled = database.write(Whose::All, move |tx: &mut Tx<'_>| {
                let sql = format!(
                    "CREATE TABLE IF NOT EXISTS filler (x BLOB);
                     INSERT INTO filler VALUES (zeroblob(100000));
                     DELETE FROM filler WHERE rowid < {number};"
                );
                Ok(tx.connection().batch(&sql)?)
            });
            filled.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_log_begins_anew_under_a_load_without_a_pause_and_no_reader_stops_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netra.db");
        let (key, waits) = (AuditKey::new([7; 32]), Waits::of_turn(crate::TURN_WAIT));
        let database =
            Database::open(&path, &Runtime::new(), key, Arc::new(Nobody), waits).unwrap();
        let own = crate::sqlite::connect(&path).unwrap();
        let pages = || checkpoint(&own).unwrap();
        let reader = open_to_read(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        fill(&database, 1).await;
        let count = || -> i64 {
            let sql = "SELECT count(*) FROM sqlite_schema";
            reader.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let seen = count();
        // Somebody reads what was there before, for as long as this lasts.
        fill(&database, 100).await;
        let grown = pages();
        assert!(grown > MOST_PAGES, "{grown}");
        assert_eq!(count(), seen);
        drop(reader);
        while pages() >= grown {
            fill(&database, 1).await;
        }
    }
}
