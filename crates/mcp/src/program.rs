//! Programs that are tool servers: how one is started, and what is known of one that runs.

use async_trait::async_trait;
use netra_worker::sandbox::Processes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::Command;

/// Starts programs.
#[async_trait]
pub trait Programs: Send + Sync {
    /// Starts one.
    ///
    /// # Errors
    /// In words, where it cannot be started.
    async fn start(&self, command: &Command) -> Result<Started, String>;
}

/// A program that was started.
pub struct Started {
    /// Its standard output.
    pub read: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard input.
    pub write: Box<dyn AsyncWrite + Send + Unpin>,
    /// The program itself.
    pub program: Box<dyn Program>,
}

/// A program that runs. Dropping it ends it, and all that it has started.
#[async_trait]
pub trait Program: Send + Sync {
    /// Memory that it and all that it has started hold now, in bytes.
    fn memory_bytes(&self) -> u64;

    /// The number of its process, where it is one.
    fn process_id(&self) -> Option<u32>;

    /// It and all that it has started, as far as that has not ended.
    fn processes(&self) -> Processes;

    /// Ends what it has started and is not among these; the program itself stays.
    async fn end_others(&self, kept: &Processes);

    /// Ends it and all that it has started, at once.
    fn end(&self);

    /// Waits until it has ended, and says how.
    async fn ended(&self) -> String;

    /// The last of what it has written to its standard error.
    fn said(&self) -> String;
}
