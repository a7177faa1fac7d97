//! Checkpoints, off the commits' path: a thread of its own moves what the write-ahead log holds into
//! the database. Inside of commits that would take 4 to 15 ms of some unlucky ones.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use crate::error::Error;

/// Between two checkpoints while there are commits.
const EVERY: Duration = Duration::from_millis(100);
/// Pages in the write-ahead log from which on the writer waits for it to begin anew: 64 MiB. Under
/// a load without a pause it would grow without end.
const MOST_PAGES: i64 = 16_384;

/// Tells the thread that there is something to move. Dropping it ends the thread.
pub(super) struct Checkpoints(SyncSender<()>);

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Self, Error> {
        let connection = super::connect(path)?;
        let (sender, commits) = sync_channel(1);
        std::thread::Builder::new()
            .name("netra-checkpoint".into())
            .spawn(move || run(&connection, &commits))
            .map_err(Error::from)?;
        Ok(Self(sender))
    }

    /// There was a commit. Never waits.
    pub(super) fn committed(&self) {
        match self.0.try_send(()) {
            // It has been told already.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => {
                tracing::error!("the thread of the checkpoints has ended");
            }
        }
    }
}

fn run(connection: &Connection, commits: &Receiver<()>) {
    while commits.recv().is_ok() {
        std::thread::sleep(EVERY);
        // What was committed meanwhile is this one's too.
        commits.try_recv().ok();
        if let Err(error) = checkpoint(connection) {
            tracing::warn!(%error, "a checkpoint failed; the next one does its work");
        }
    }
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    let pages = pages(connection, "PASSIVE")?;
    if pages > MOST_PAGES {
        self::pages(connection, "RESTART")?;
    }
    Ok(())
}

/// Checkpoints in this mode and returns how many pages the log held.
fn pages(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get(1)
    })
}
