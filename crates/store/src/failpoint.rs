//! A crash on demand, for tests of crashes: no release has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use netra_protocol::id::UserId;

use crate::log::{Entry, Fanout};

/// Hands on what was committed, and dies before that where it is asked to: whatever the database, that is after the
/// commit and before anybody is told.
pub(crate) struct Mortal {
    /// The file that asks for it.
    death: PathBuf,
    fanout: Arc<dyn Fanout>,
}

impl Mortal {
    /// Asked by the file `die-after-commit` in the data folder.
    pub(crate) fn over(fanout: Arc<dyn Fanout>, dir: &Path) -> Arc<dyn Fanout> {
        Arc::new(Self {
            death: dir.join("die-after-commit"),
            fanout,
        })
    }
}

impl Fanout for Mortal {
    #[expect(clippy::disallowed_methods, reason = "a crash is what is asked for")]
    fn committed(&self, entries: &[Arc<Entry>]) {
        // The file is taken away, so that the next start lives.
        if !entries.is_empty() && std::fs::remove_file(&self.death).is_ok() {
            std::process::abort();
        }
        self.fanout.committed(entries);
    }

    fn elsewhere(&self, user: UserId, through: u64) {
        self.fanout.elsewhere(user, through);
    }

    fn heard(&self, entries: &[Arc<Entry>]) {
        self.fanout.heard(entries);
    }

    fn listens(&self, user: UserId) -> bool {
        self.fanout.listens(user)
    }

    fn lost_track(&self) {
        self.fanout.lost_track();
    }
}
