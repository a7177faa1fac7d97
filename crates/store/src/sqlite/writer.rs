//! Writing: one thread, natural group commit.
//!
//! Whatever was asked for while the last commit ran is the next batch: one transaction, one
//! `fsync`, a savepoint for each caller. There is no time window, so a lone caller waits for
//! nobody. Users take turns, and a batch has an end, so nobody waits for all that another wants. After the commit, and before any caller is answered, the batch's events go to the
//! fan-out in commit order; an engine that is dropped meanwhile loses nobody an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_context::Runtime;
use netra_context::memory::Scope;
use netra_protocol::id::UserId;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpoints;
use super::lines::Lines;
use super::pressure::Pressure;
use super::transaction::Tx;
use crate::audit::AuditKey;
use crate::error::Error;
use crate::log::{Entry, Fanout};

/// Works that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 4096;
/// Works in one commit at the most.
const BATCH: usize = 256;
/// From this on a batch takes no further work, so that one commit stays short whatever its works do: who comes now
/// waits for the rest of one batch and for its own.
const BATCH_TIME: Duration = Duration::from_millis(3);

pub(crate) struct Writer {
    queue: mpsc::Sender<Asked>,
    pressure: Arc<Mutex<Pressure>>,
}

/// The line that a work waits in. Works of one line are carried out in the order of asking, others need not be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Line {
    /// What changes this user's runs, whoever asks for it: the end of a run comes after all that its engine wrote.
    Of(UserId),
    /// All else, by the user on whose account whoever asks works.
    By(Scope),
}

/// What was asked for, and when.
type Asked = (Line, Box<dyn Work>, Instant);

/// One caller's work, first carried out, then answered.
trait Work: Send {
    /// Whether it succeeded, and so is to be kept.
    fn carry_out(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Answers the caller, with the commit's error where there is one.
    fn answer(self: Box<Self>, commit: Result<(), String>);
}

struct Task<T, F> {
    work: Option<F>,
    outcome: Option<Result<T, Error>>,
    caller: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send,
{
    fn carry_out(&mut self, tx: &mut Tx<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|_| Err(Error::Bug("a write panicked".into())));
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, commit: Result<(), String>) {
        let outcome = match (self.outcome, commit) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(Error::Unavailable(error)),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(Error::Bug("a write was not carried out".into())),
        };
        // A caller that no longer waits has nothing to be told.
        self.caller.send(outcome).ok();
    }
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        runtime: Runtime,
        audit_key: AuditKey,
        fanout: Arc<dyn Fanout>,
        checkpoints: Checkpoints,
    ) -> Result<Self, Error> {
        let (queue, works) = mpsc::channel(QUEUE);
        let pressure = Arc::<Mutex<Pressure>>::default();
        let thread = Thread {
            connection,
            runtime,
            audit_key,
            fanout,
            checkpoints,
            works,
            waiting: Lines::default(),
            pressure: Arc::clone(&pressure),
            batch_began: Instant::now(),
        };
        std::thread::Builder::new()
            .name("netra-writer".into())
            .spawn(move || thread.run())
            .map_err(Error::from)?;
        Ok(Self { queue, pressure })
    }

    /// Whether further callers would wait too long for their turn, or even for a place.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.queue.capacity() == 0 || self.pressure.lock().is_high(Instant::now())
    }

    /// Carries the work out after all that was asked for before it for the runs of `owner`, where it is for one.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        owner: Option<UserId>,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (caller, answer) = oneshot::channel();
        // What it makes, the log's entries above all, is on the account of whoever asked for it.
        let scope = Scope::current();
        let work = move |tx: &mut Tx<'_>| {
            let _entered = scope.enter();
            work(tx)
        };
        let task = Task {
            work: Some(work),
            outcome: None,
            caller,
        };
        let gone = || Error::Unavailable("the store's writer has stopped".into());
        let line = owner.map_or_else(|| Line::By(scope.user()), Line::Of);
        let asked: Asked = (line, Box::new(task), Instant::now());
        self.queue.send(asked).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Thread {
    connection: Connection,
    runtime: Runtime,
    audit_key: AuditKey,
    fanout: Arc<dyn Fanout>,
    checkpoints: Checkpoints,
    works: mpsc::Receiver<Asked>,
    waiting: Lines<Line, Box<dyn Work>>,
    pressure: Arc<Mutex<Pressure>>,
    /// When the last batch began.
    batch_began: Instant,
}

impl Thread {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut appended = Vec::new();
        while self.wait() {
            let started = Instant::now();
            appended.clear();
            let commit = self.commit(&mut batch, &mut appended);
            if commit.is_ok() {
                #[cfg(feature = "failpoints")]
                if !appended.is_empty() {
                    self.die_where_asked();
                }
                self.fanout.committed(&appended);
                self.checkpoints.committed();
            }
            metrics::histogram!("netra_store_commit_seconds").record(started.elapsed());
            metrics::histogram!("netra_store_commit_works").record(batch.len() as f64);
            for work in batch.drain(..) {
                work.answer(commit.clone());
            }
        }
    }

    /// Waits for work. False when there will be none.
    fn wait(&mut self) -> bool {
        if self.waiting.is_empty() {
            let next = match self.works.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.pressure.lock().rested();
                    self.works.blocking_recv()
                }
                next => next.ok(),
            };
            match next {
                Some((line, work, asked)) => self.waiting.push(line, work, asked),
                None => return false,
            }
        }
        self.let_in();
        true
    }

    /// Those who have come meanwhile get into their users' lines. Together they are as many as may wait outside.
    fn let_in(&mut self) {
        while self.waiting.len() < QUEUE
            && let Ok((line, work, asked)) = self.works.try_recv()
        {
            self.waiting.push(line, work, asked);
        }
    }

    /// Dies between commit and fan-out when the file `die-after-commit` is beside the database, and
    /// takes it away, so that the next start lives. For tests of crashes: no release has it.
    #[cfg(feature = "failpoints")]
    #[expect(clippy::disallowed_methods, reason = "a crash is what is asked for")]
    fn die_where_asked(&self) {
        let file = self.connection.path().map(std::path::Path::new);
        let file = file.map(|database| database.with_file_name("die-after-commit"));
        if file.is_some_and(|file| std::fs::remove_file(file).is_ok()) {
            std::process::abort();
        }
    }

    fn commit(
        &mut self,
        batch: &mut Vec<Box<dyn Work>>,
        appended: &mut Vec<Arc<Entry>>,
    ) -> Result<(), String> {
        let outcome = self.transact(batch, appended);
        outcome.map_err(|error| {
            tracing::error!(error = %error, works = batch.len(), "a commit failed");
            if !self.connection.is_autocommit()
                && let Err(error) = self.connection.execute_batch("ROLLBACK")
            {
                tracing::error!(error = %error, "the failed commit could not be rolled back");
            }
            error.to_string()
        })
    }

    /// Carries out one work after the other, of each user one in turn, and commits. What fails to begin is in the
    /// batch too.
    fn transact(
        &mut self,
        batch: &mut Vec<Box<dyn Work>>,
        appended: &mut Vec<Arc<Entry>>,
    ) -> rusqlite::Result<()> {
        let began = Instant::now();
        let is_alone = self.waiting.len() == 1;
        let mut next = self.first(began);
        let mut has_begun = false;
        while let Some(work) = next {
            batch.push(work);
            if !has_begun {
                self.execute("BEGIN IMMEDIATE")?;
                has_begun = true;
            }
            let Some(work) = batch.last_mut() else { break };
            if !self.carry_out(work.as_mut(), is_alone, appended)? {
                return Ok(());
            }
            if is_alone || batch.len() >= BATCH || began.elapsed() > BATCH_TIME {
                break;
            }
            self.let_in();
            next = self.waiting.next(Instant::now()).map(|(work, _)| work);
        }
        self.execute("COMMIT")
    }

    /// The first work of a batch: nobody has waited longer for a turn. To wait for the batch before is the price of
    /// sharing commits, however long the disk takes; what counts is how long it had waited when that one began.
    fn first(&mut self, now: Instant) -> Option<Box<dyn Work>> {
        let (work, waited) = self.waiting.next(now)?;
        let before = now.saturating_duration_since(self.batch_began);
        let waited = waited.saturating_sub(before);
        self.pressure.lock().served(waited, now);
        self.batch_began = now;
        Some(work)
    }

    /// Carries out one work, or leaves everything as it was. False when there is nothing left to commit.
    fn carry_out(
        &self,
        work: &mut dyn Work,
        is_alone: bool,
        appended: &mut Vec<Arc<Entry>>,
    ) -> rusqlite::Result<bool> {
        let kept = appended.len();
        if !is_alone {
            self.execute("SAVEPOINT work")?;
        }
        let mut tx = Tx::new(
            &self.connection,
            self.runtime.now(),
            &self.audit_key,
            appended,
        );
        let succeeded = work.carry_out(&mut tx);
        if !succeeded {
            appended.truncate(kept);
            self.execute(if is_alone {
                "ROLLBACK"
            } else {
                "ROLLBACK TO work"
            })?;
        }
        if !is_alone {
            self.execute("RELEASE work")?;
        }
        Ok(succeeded || !is_alone)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::future::{LocalBoxFuture, join_all};
    use netra_context::memory::Account;

    use super::*;
    use crate::sqlite::Database;

    struct Nobody;

    impl Fanout for Nobody {
        fn committed(&self, _: &[Arc<Entry>]) {}
    }

    #[tokio::test]
    async fn one_users_many_works_do_not_stand_before_anothers_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("netra.db"), AuditKey::new([7; 32]));
        let database = Database::open(&path, &Runtime::new(), key, Arc::new(Nobody)).unwrap();
        let (many, one) = (Account::user(), Account::user());
        let order = Mutex::new(Vec::new()).into();
        let asks = |account: &Account, name: &'static str| {
            let order: Arc<Mutex<Vec<&str>>> = Arc::clone(&order);
            let work = move |_: &mut Tx<'_>| {
                order.lock().push(name);
                Ok(())
            };
            account.scope().wrap(database.write(work))
        };
        // The writer has its hands full until all others have asked.
        let (all_asked, wait) = mpsc::sync_channel(1);
        let busy = database.write(move |_| {
            wait.recv().ok();
            Ok(())
        });
        let mut all: Vec<LocalBoxFuture<'_, Result<(), Error>>> = vec![Box::pin(busy)];
        for _ in 0..50 {
            all.push(Box::pin(asks(&many, "of many")));
        }
        all.push(Box::pin(asks(&one, "one")));
        all.push(Box::pin(async move {
            all_asked.send(()).ok();
            Ok(())
        }));
        for outcome in join_all(all).await {
            outcome.unwrap();
        }
        let order = order.lock();
        assert_eq!(order.len(), 51);
        assert_eq!(order.iter().position(|name| *name == "one"), Some(1));
    }

    #[tokio::test]
    async fn the_end_of_a_run_comes_after_what_its_engine_wrote_whoever_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("netra.db"), AuditKey::new([7; 32]));
        let database = Database::open(&path, &Runtime::new(), key, Arc::new(Nobody)).unwrap();
        let (owner, engine) = (UserId::from_parts(1, 1), Account::user());
        let order = Mutex::new(Vec::new()).into();
        let asks = |number: usize| {
            let order: Arc<Mutex<Vec<usize>>> = Arc::clone(&order);
            database.write_for(owner, move |_: &mut Tx<'_>| {
                order.lock().push(number);
                Ok(())
            })
        };
        let (all_asked, wait) = mpsc::sync_channel(1);
        let busy = database.write(move |_| {
            wait.recv().ok();
            Ok(())
        });
        let mut all: Vec<LocalBoxFuture<'_, Result<(), Error>>> = vec![Box::pin(busy)];
        for number in 0..20 {
            all.push(Box::pin(engine.scope().wrap(asks(number))));
        }
        all.push(Box::pin(Scope::system().wrap(asks(20))));
        all.push(Box::pin(async move {
            all_asked.send(()).ok();
            Ok(())
        }));
        for outcome in join_all(all).await {
            outcome.unwrap();
        }
        assert!(order.lock().is_sorted());
        assert_eq!(order.lock().len(), 21);
    }
}
