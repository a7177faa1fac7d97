//! Why an instance of a tool server is no longer there.

use std::sync::Arc;

use netra_context::memory::OverLimit;
use netra_context::programs::Shortage;
use parking_lot::Mutex;

use crate::lines::MAX_MESSAGE_BYTES;

/// Why the connection to an instance ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    /// It closed its side.
    #[error("it closed the connection")]
    Closed,
    /// It ended by itself, as the system words it.
    #[error("it ended ({0})")]
    Ended(String),
    /// One message was too long.
    #[error("it sent a message of more than {MAX_MESSAGE_BYTES} bytes")]
    LongMessage,
    /// It sent too much in too short a time.
    #[error("it sent more than is taken of one server")]
    Flood,
    /// The user has no memory left for what it sent.
    #[error("no memory is left for what it sent: {0}")]
    Memory(OverLimit),
    /// It held the most where there was too little.
    #[error("{0}")]
    Shortage(Shortage),
    /// It did not answer, again and again.
    #[error("it did not answer in time {0} times in a row")]
    Hung(u32),
}

/// The first reason that was noted. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending(Arc<Mutex<Option<Why>>>);

impl Ending {
    pub(crate) fn note(&self, why: Why) {
        self.0.lock().get_or_insert(why);
    }

    pub(crate) fn why(&self) -> Option<Why> {
        self.0.lock().clone()
    }
}
