//! What all parts of one chaos share: who takes part, what was counted, what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use netra_client::Client;
use netra_context::Runtime;
use netra_protocol::id::{ThreadId, UserId};
use tokio::sync::watch;

/// A user of the server, who asks through the proxy.
pub(crate) struct Person {
    pub(crate) id: UserId,
    pub(crate) client: Client,
    /// The conversations in which the lanes of this user start runs.
    pub(crate) threads: Vec<ThreadId>,
    /// Whether this user's texts are long enough to fill the mailbox of a slow client.
    pub(crate) loud: bool,
}

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What clients have done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events that some client has taken.
    pub(crate) delivered: Count,
    /// Clients that began anew from their cursor.
    pub(crate) restarts: Count,
    /// Starts of runs that were sent again because no answer came.
    pub(crate) sent_again: Count,
    /// Starts that were sent again though an answer had come.
    pub(crate) doubled: Count,
}

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) seed: u64,
    /// Names the log.
    pub(crate) epoch: String,
    pub(crate) people: Vec<Person>,
    pub(crate) counts: Counts,
    /// Whether new runs are started.
    pub(crate) open: watch::Receiver<bool>,
    /// Whether servers lose their database, so that connections fail of it.
    pub(crate) may_lack_database: bool,
    faults: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        epoch: String,
        people: Vec<Person>,
        open: watch::Receiver<bool>,
        may_lack_database: bool,
    ) -> Self {
        Self {
            runtime: Runtime::new(),
            seed,
            epoch,
            people,
            counts: Counts::default(),
            open,
            may_lack_database,
            faults: Mutex::default(),
        }
    }

    /// Nothing for a connection that a server closes because its database is away: the client is to come again.
    pub(crate) fn outage(&self, error: anyhow::Error) -> anyhow::Result<()> {
        let closed = error.downcast_ref::<netra_client::Error>();
        let failed = matches!(closed, Some(netra_client::Error::Closed { code: 1011, .. }));
        if self.may_lack_database && failed {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Notes what must not be.
    pub(crate) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push(what);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.clone()
    }
}
