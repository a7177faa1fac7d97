//! How much memory a worker process has, asked from anywhere while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::confine::status_bytes;

/// Reads the memory of the worker that a script or an analysis has at the moment. Clones read the same.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The process's number; 0 while there is none.
    process: Arc<AtomicU32>,
}

impl Meter {
    /// Bytes that are the process's alone (`RssAnon`) now; 0 while there is no process.
    pub fn bytes(&self) -> u64 {
        let Some(id) = self.process_id() else {
            return 0;
        };
        std::fs::read_to_string(format!("/proc/{id}/status"))
            .map_or(0, |status| status_bytes(&status, "RssAnon:"))
    }

    /// The process's number; `None` while there is no process.
    pub fn process_id(&self) -> Option<u32> {
        Some(self.process.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    pub(crate) fn set(&self, id: Option<u32>) {
        self.process.store(id.unwrap_or(0), Ordering::Release);
    }
}
