//! Reading: a bounded pool of connections, used on tokio's blocking threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use netra_context::Runtime;
use netra_context::memory::Scope;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::Error;

/// Connections at the most. More would not read faster on a few cores, and each has a cache.
const CONNECTIONS: usize = 8;

pub(crate) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    runtime: Runtime,
}

struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: &Path, runtime: &Runtime) -> Self {
        Self {
            pool: Arc::new(Pool {
                path: path.to_owned(),
                idle: Mutex::new(Vec::new()),
            }),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            runtime: runtime.clone(),
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let closed = |_| Error::Unavailable("the store is closing".into());
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let pool = Arc::clone(&self.pool);
        let reading = self.runtime.spawn_blocking(move || {
            let answer = pool.with(work);
            drop(permit);
            answer
        });
        reading
            .await
            .map_err(|_| Error::Bug("a read panicked".into()))?
    }

    /// Reads on this thread; at opening only.
    pub(crate) fn read_now<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.pool.with(work)
    }
}

impl Pool {
    /// One snapshot for the whole work; the connection goes back only if the work did not panic.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().pop();
        let connection = idle.map_or_else(|| self.connect(), Ok)?;
        connection.prepare_cached("BEGIN DEFERRED")?.execute([])?;
        let answer = work(&connection);
        connection.prepare_cached("COMMIT")?.execute([])?;
        self.idle.lock().push(connection);
        answer
    }

    fn connect(&self) -> Result<Connection, Error> {
        // It outlives whoever happens to be the first to need it.
        let _system = Scope::system().enter();
        let connection = super::open_to_read(&self.path)?;
        connection.set_prepared_statement_cache_capacity(super::STATEMENT_CACHE);
        Ok(connection)
    }
}
