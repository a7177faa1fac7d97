//! How a program ended.

use serde::{Deserialize, Serialize};

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// The most memory that was seen, in bytes.
    pub peak_bytes: u64,
}

/// Why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// By itself, with this code; 128 and more: by that signal.
    Exited(u8),
    /// Its time was over.
    Time,
    /// It took more memory than it may have.
    Memory,
    /// It wrote more into its folder than it may.
    Disk,
    /// It started more processes than it may.
    Processes,
    /// The server wanted it to end, or is gone.
    Stopped,
}
