//! Reading: a bounded pool of connections, used on tokio's blocking threads.

use std::sync::Arc;

use netra_context::Runtime;
use netra_context::memory::Scope;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::database::Whose;
use crate::error::Error;
use crate::sql::{self, Connection};

/// Makes one more connection.
type Connect = Box<dyn Fn() -> sql::Result<Connection> + Send + Sync>;

pub(crate) struct Readers {
    pool: Arc<Pool>,
    permits: Arc<Semaphore>,
    runtime: Runtime,
}

struct Pool {
    connect: Connect,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// At most so many connections, made when they are needed.
    pub(crate) fn new(connect: Connect, connections: usize, runtime: &Runtime) -> Self {
        Self {
            pool: Arc::new(Pool {
                connect,
                idle: Mutex::new(Vec::new()),
            }),
            permits: Arc::new(Semaphore::new(connections)),
            runtime: runtime.clone(),
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let closed = |_| Error::Unavailable("the store is closing".into());
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(closed)?;
        let pool = Arc::clone(&self.pool);
        let reading = self.runtime.spawn_blocking(move || {
            let answer = pool.with(whose, work);
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
        self.pool.with(Whose::All, work)
    }
}

impl Pool {
    /// One snapshot for the whole work; the connection goes back only if the work did not panic.
    fn with<T>(
        &self,
        whose: Whose,
        work: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let connection = self.idle().map_or_else(|| self.connect(), Ok)?;
        connection.begin_read(whose)?;
        let answer = work(&connection);
        connection.end_read()?;
        self.idle.lock().push(connection);
        answer
    }

    /// A connection that waits to be used and still can be.
    fn idle(&self) -> Option<Connection> {
        loop {
            let connection = self.idle.lock().pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    fn connect(&self) -> Result<Connection, Error> {
        // It outlives whoever happens to be the first to need it.
        let _system = Scope::system().enter();
        Ok((self.connect)()?)
    }
}
