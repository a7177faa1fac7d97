//! Writing: a transaction for each work, on several connections at once.
//!
//! A user's works are carried out one after the other, whoever asks, and those of other users meanwhile. Over all nodes
//! the database sees to the same: a transaction of a user holds that user's lock, one of the server itself holds
//! everybody's. So what a work has read stays true until its commit, as in the embedded store.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_context::Runtime;
use netra_context::memory::Scope;
use netra_context::pressure::{Bounds, Pressure};
use netra_protocol::id::UserId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::Address;
use super::session::Session;
use super::turns::Turns;
use super::voice::Voice;
use crate::audit::AuditKey;
use crate::database::Whose;
use crate::error::Error;
use crate::lines::Lines;
use crate::sql::{self, Connection};
use crate::transaction::Tx;
use crate::work::{self, Line, Work};

/// Works that may wait for a connection; further callers wait for a place.
const QUEUE: usize = 4096;
/// What of one user's works counts at the most as standing before everybody's: theirs are carried out one after the
/// other, beside those of others.
const SHARE: Duration = Duration::from_millis(10);

/// A work that waits, and its place.
type Waiting = (Box<dyn Work>, OwnedSemaphorePermit);

pub(super) struct Writers {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
}

struct Shared {
    address: Address,
    runtime: Runtime,
    audit_key: AuditKey,
    turns: Arc<Turns>,
    voice: Arc<Voice>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    lines: Lines<Line, Waiting>,
    /// Lines of which a work is being carried out.
    busy: HashSet<Line>,
    /// Threads, each with a connection, and how many of them have nothing to do.
    threads: u32,
    idle: usize,
    pressure: Pressure,
    is_closed: bool,
}

impl Queue {
    fn new(threads: u32, waits: Bounds) -> Self {
        Self {
            lines: Lines::of_share(SHARE),
            busy: HashSet::new(),
            threads,
            idle: 0,
            pressure: Pressure::new(waits),
            is_closed: false,
        }
    }

    /// The first work of who has used the least, of those of whom none is being carried out.
    fn next(&mut self, now: Instant) -> Option<(Line, Waiting)> {
        let (line, waiting) = self.lines.next(&self.busy)?;
        self.busy.insert(line);
        if self.lines.is_empty() {
            self.pressure.rested();
        } else {
            self.pressure.served(self.wait(), now);
        }
        Some((line, waiting))
    }

    /// How long whoever comes now waits for a connection.
    fn wait(&self) -> Duration {
        self.lines.in_the_way() / self.threads
    }

    fn took(&mut self, line: Line, time: Duration) {
        self.busy.remove(&line);
        self.lines.took(line, time);
        self.lines.forget();
    }
}

impl Writers {
    pub(super) fn start(
        address: &Address,
        connections: usize,
        runtime: &Runtime,
        audit_key: AuditKey,
        (turns, voice): (Arc<Turns>, Arc<Voice>),
        waits: Bounds,
    ) -> Result<Self, Error> {
        let threads = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        let shared = Arc::new(Shared {
            address: address.clone(),
            runtime: runtime.clone(),
            audit_key,
            turns,
            voice,
            queue: Mutex::new(Queue::new(threads, waits)),
            changed: Condvar::new(),
        });
        for number in 0..threads {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("netra-writer-{number}"))
                .spawn(move || shared.run())
                .map_err(Error::from)?;
        }
        Ok(Self {
            shared,
            places: Arc::new(Semaphore::new(QUEUE)),
        })
    }

    /// Whether further callers would wait too long for a connection, or even for a place. Whoever waits while a
    /// thread is idle waits for a work of its own line.
    pub(super) fn are_overloaded(&self) -> bool {
        let queue = self.shared.queue.lock();
        self.places.available_permits() == 0
            || (queue.idle == 0 && queue.pressure.is_high(Instant::now()))
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let ((line, work), answer) = work::ask(whose, work);
        let gone = || Error::Unavailable("the store's writers have stopped".into());
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| gone())?;
        self.shared.push(line, (work, place));
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        let mut connection = None;
        while let Some((line, (work, place))) = self.next() {
            drop(place);
            let started = Instant::now();
            self.carry_out(&mut connection, line, work);
            metrics::histogram!("netra_store_commit_seconds").record(started.elapsed());
            metrics::histogram!("netra_store_commit_works").record(1.0);
            self.queue.lock().took(line, started.elapsed());
            // What stands behind it in its line can begin.
            self.changed.notify_one();
        }
    }

    fn push(&self, line: Line, waiting: Waiting) {
        let mut queue = self.queue.lock();
        queue.pressure.began(Instant::now());
        queue.lines.push(line, waiting);
        drop(queue);
        self.changed.notify_one();
    }

    fn next(&self) -> Option<(Line, Waiting)> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(next) = queue.next(Instant::now()) {
                return Some(next);
            }
            if queue.is_closed && queue.lines.is_empty() {
                return None;
            }
            queue.idle += 1;
            self.changed.wait(&mut queue);
            queue.idle -= 1;
        }
    }

    fn carry_out(&self, kept: &mut Option<Connection>, line: Line, mut work: Box<dyn Work>) {
        let whose = match line {
            Line::Of(user) => Whose::User(user),
            Line::By(_) => Whose::All,
        };
        let connection = match self.begin(kept.take(), whose) {
            Ok(connection) => connection,
            Err(error) => return work.answer(Err(unavailable(error))),
        };
        let (mut appended, mut place) = (Vec::new(), self.turns.place());
        let (now, key) = (self.runtime.now(), &self.audit_key);
        let mut tx = Tx::new(&connection, now, key, &mut appended);
        tx.set_place(&mut place);
        if work.carry_out(&mut tx) {
            let (rings, revoked) = (tx.rings(), tx.revoked());
            let told = self.voice.tell(&connection, &appended, rings);
            let told = told.and_then(|()| self.voice.tell_revoked(&connection, revoked));
            match told.and_then(|revoked| connection.commit().map(|()| revoked)) {
                Ok(revoked) => {
                    place.committed(&appended);
                    self.voice.committed(rings, revoked);
                    *kept = Some(connection);
                    work.answer(Ok(()));
                }
                Err(error) => {
                    tracing::error!(%error, "a commit failed");
                    drop(place);
                    work.answer(Err(unavailable(error)));
                }
            }
        } else {
            drop(place);
            let ended = connection.roll_back();
            *kept = ended.is_ok().then_some(connection);
            work.answer(Ok(()));
        }
    }

    /// A connection with a transaction that has begun.
    fn begin(&self, kept: Option<Connection>, whose: Whose) -> sql::Result<Connection> {
        let connection = match kept.filter(Connection::is_usable) {
            Some(connection) => connection,
            None => {
                let _system = Scope::system().enter();
                Connection::Postgres(Session::connect(&self.address)?)
            }
        };
        connection.begin_write(whose)?;
        Ok(connection)
    }
}

/// A transaction that could not begin or end. What the schema refuses it tells with the last answer, when nobody waited
/// for that of the statement.
fn unavailable(error: sql::Error) -> sql::Error {
    match error {
        sql::Error::Refused => error,
        error => sql::Error::Unavailable(error.to_string()),
    }
}

/// What a user's transactions lock, over all nodes. Two users with the same number would only wait for each other.
pub(super) fn lock_of(user: UserId) -> i64 {
    let bytes = user.to_bytes();
    bytes.iter().fold(0_i64, |hash, byte| {
        hash.wrapping_mul(0x0100_0000_01b3) ^ i64::from(*byte)
    })
}
