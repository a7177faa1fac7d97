//! How much memory a worker process has, asked from anywhere while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sandbox::tree;

/// Reads the memory of the worker that a script or an analysis has at the moment, or of a foreign program. Clones read
/// the same.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The process's number; 0 while there is none.
    process: Arc<AtomicU32>,
    /// Whether what the process has started counts too.
    descendants: bool,
    /// What it was found to hold when it was last asked.
    counted: Arc<AtomicU64>,
}

impl Meter {
    /// Of a process and all that descends from it.
    pub(crate) fn of_descendants() -> Meter {
        Meter {
            descendants: true,
            ..Meter::default()
        }
    }

    /// Bytes that are the process's alone (`RssAnon`) now; 0 while there is no process. A foreign program's also
    /// count where they are swapped out or shared.
    pub fn bytes(&self) -> u64 {
        let bytes = self.process_id().map_or(0, |id| {
            if self.descendants {
                let mut processes = tree::descendants(id);
                processes.push(id);
                tree::usage(&processes).memory_bytes
            } else {
                tree::own_bytes(id)
            }
        });
        self.counted.store(bytes, Ordering::Release);
        bytes
    }

    /// What it held when it was last asked, which is what its user's account knows.
    pub(crate) fn counted(&self) -> u64 {
        self.counted.load(Ordering::Acquire)
    }

    /// Whether both read the same worker.
    pub(crate) fn is(&self, other: &Meter) -> bool {
        Arc::ptr_eq(&self.process, &other.process)
    }

    /// The process's number; `None` while there is no process.
    pub fn process_id(&self) -> Option<u32> {
        Some(self.process.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    pub(crate) fn set(&self, id: Option<u32>) {
        self.process.store(id.unwrap_or(0), Ordering::Release);
        self.counted.store(0, Ordering::Release);
    }

    #[cfg(test)]
    pub(crate) fn count_as(&self, bytes: u64) {
        self.counted.store(bytes, Ordering::Release);
    }
}
