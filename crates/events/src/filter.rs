//! Which events a subscription wants.

use std::collections::HashSet;

use netra_protocol::id::{RunId, ThreadId};
use netra_store::Entry;

/// Which of a user's events are wanted.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only of these threads; all when none.
    pub threads: Option<HashSet<ThreadId>>,
    /// Only of this run; all when none.
    pub run: Option<RunId>,
    /// Whether pieces of messages are wanted.
    pub deltas: bool,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self {
            threads: None,
            run: None,
            deltas: true,
        }
    }

    /// One run, with its deltas.
    pub fn run(id: RunId) -> Self {
        Self {
            run: Some(id),
            ..Self::all()
        }
    }

    /// Whether the entry is wanted.
    pub fn passes(&self, entry: &Entry) -> bool {
        (self.deltas || !entry.kind.is_delta())
            && self.run.is_none_or(|run| run == entry.run_id)
            && self
                .threads
                .as_ref()
                .is_none_or(|threads| threads.contains(&entry.thread_id))
    }
}
