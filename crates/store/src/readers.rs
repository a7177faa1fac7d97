//! Reading: a bounded pool of connections, used on tokio's blocking threads, by whoever has used them least
//! ([`Door`]).

use std::sync::Arc;
use std::time::Instant;

use netra_context::Runtime;
use netra_context::memory::Scope;
use netra_context::pressure::{Bounds, Pressure};
use parking_lot::Mutex;

use crate::database::Whose;
use crate::door::{Door, Permit};
use crate::effort::Effort;
use crate::error::Error;
use crate::sql::{self, Connection};

/// Those who may wait for a connection before whoever can come back later is refused, however short their wait is.
const WAITING: usize = 4096;

/// Makes one more connection.
type Connect = Box<dyn Fn() -> sql::Result<Connection> + Send + Sync>;

pub(crate) struct Readers {
    pool: Arc<Pool>,
    door: Arc<Door<Scope>>,
    waiting: Mutex<Waiting>,
    /// Begins to count what a read costs.
    begin: fn() -> Effort,
    runtime: Runtime,
}

struct Waiting {
    number: usize,
    pressure: Pressure,
}

/// Somebody who waits for a connection, until one is there or nobody wants it any more.
struct Waiter<'a> {
    waiting: &'a Mutex<Waiting>,
    since: Instant,
}

impl<'a> Waiter<'a> {
    fn new(waiting: &'a Mutex<Waiting>) -> Self {
        let since = Instant::now();
        let mut among = waiting.lock();
        among.number += 1;
        among.pressure.began(since);
        drop(among);
        Self { waiting, since }
    }

    fn served(self) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.since);
        self.waiting.lock().pressure.served(waited, now);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut among = self.waiting.lock();
        among.number -= 1;
        if among.number == 0 {
            among.pressure.rested();
        }
    }
}

struct Pool {
    connect: Connect,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// At most so many connections, made when they are needed.
    pub(crate) fn new(
        connect: Connect,
        connections: usize,
        begin: fn() -> Effort,
        waits: Bounds,
        runtime: &Runtime,
    ) -> Self {
        Self {
            pool: Arc::new(Pool {
                connect,
                idle: Mutex::new(Vec::new()),
            }),
            door: Door::new(connections),
            waiting: Mutex::new(Waiting {
                number: 0,
                pressure: Pressure::new(waits),
            }),
            begin,
            runtime: runtime.clone(),
        }
    }

    /// Whether further readers would wait too long, or are too many.
    pub(crate) fn are_overloaded(&self) -> bool {
        let among = self.waiting.lock();
        among.number >= WAITING || among.pressure.is_high(Instant::now())
    }

    /// A connection's place, for the user on whose account whoever asks works.
    async fn permit(&self) -> Result<Permit<Scope>, Error> {
        let waits = match self.door.knock(Scope::current().user()) {
            Ok(permit) => return Ok(permit),
            Err(waits) => waits,
        };
        let waiter = Waiter::new(&self.waiting);
        let permit = waits.await;
        waiter.served();
        permit.map_err(|_| Error::Unavailable("the store is closing".into()))
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut permit = self.permit().await?;
        let (pool, begin) = (Arc::clone(&self.pool), self.begin);
        let reading = self.runtime.spawn_blocking(move || {
            let mut effort = begin();
            let answer = pool.with(whose, work);
            permit.costs(effort.lap());
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;

    use super::*;
    use crate::sqlite;

    const CONNECTIONS: usize = 2;

    #[tokio::test]
    async fn readers_that_are_not_served_are_seen_and_forgotten_when_they_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("netra.db");
        sqlite::migrate_file(&path).unwrap();
        let connect = move || Ok(Connection::Sqlite(sqlite::open_to_read(&path)?));
        let (begin, runtime) = (Effort::of_processor, Runtime::new());
        let waits = crate::database::Waits::of_turn(crate::TURN_WAIT).to_read;
        let readers = Readers::new(Box::new(connect), CONNECTIONS, begin, waits, &runtime);
        // All connections have their hands full.
        let (open, gate) = mpsc::sync_channel::<()>(0);
        let gate = Arc::new(Mutex::new(gate));
        let busy = std::iter::repeat_with(|| {
            let gate = Arc::clone(&gate);
            Box::pin(readers.read(Whose::All, move |_| {
                gate.lock().recv().ok();
                Ok(())
            }))
        });
        let mut busy: Vec<_> = busy.take(CONNECTIONS).collect();
        for read in &mut busy {
            assert!(read.now_or_never().is_none());
        }
        assert!(!readers.are_overloaded());
        let mut late = Box::pin(readers.read(Whose::All, |_| Ok(())));
        assert!((&mut late).now_or_never().is_none());
        while !readers.are_overloaded() {
            tokio::task::yield_now().await;
        }
        drop(late);
        assert!(!readers.are_overloaded(), "nobody waits any more");
        // Too many are too many at once.
        let many = std::iter::repeat_with(|| Box::pin(readers.read(Whose::All, |_| Ok(()))));
        let mut many: Vec<_> = many.take(WAITING).collect();
        for read in &mut many {
            assert!(read.now_or_never().is_none());
        }
        assert!(readers.are_overloaded());
        drop(open);
        for read in busy {
            read.await.unwrap();
        }
        for read in many {
            read.await.unwrap();
        }
        assert!(!readers.are_overloaded());
    }
}
