//! Writing: one thread, natural group commit.
//!
//! Whatever was asked for while the last commit ran is the next batch: one transaction, one
//! `fsync`, a savepoint for each caller. There is no time window, so a lone caller waits for
//! nobody. After the commit, and before any caller is answered, the batch's events go to the
//! fan-out in commit order; an engine that is dropped meanwhile loses nobody an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use netra_context::Runtime;
use netra_context::memory::Scope;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpoints;
use super::transaction::Tx;
use crate::audit::AuditKey;
use crate::error::Error;
use crate::log::{Entry, Fanout};

/// Works that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 4096;
/// Works in one commit at the most, so that one commit stays short.
const BATCH: usize = 256;

pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Work>>,
}

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
        let mut thread = Thread {
            connection,
            runtime,
            audit_key,
            fanout,
            checkpoints,
            works,
        };
        std::thread::Builder::new()
            .name("netra-writer".into())
            .spawn(move || thread.run())
            .map_err(Error::from)?;
        Ok(Self { queue })
    }

    /// Whether so many works wait that further callers would have to wait for a place.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.capacity() == 0
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
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
        self.queue.send(Box::new(task)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

struct Thread {
    connection: Connection,
    runtime: Runtime,
    audit_key: AuditKey,
    fanout: Arc<dyn Fanout>,
    checkpoints: Checkpoints,
    works: mpsc::Receiver<Box<dyn Work>>,
}

impl Thread {
    fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut appended = Vec::new();
        while self.works.blocking_recv_many(&mut batch, BATCH) > 0 {
            let started = std::time::Instant::now();
            let size = batch.len();
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
            metrics::histogram!("netra_store_commit_works").record(size as f64);
            for work in batch.drain(..) {
                work.answer(commit.clone());
            }
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
        &self,
        batch: &mut [Box<dyn Work>],
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

    fn transact(
        &self,
        batch: &mut [Box<dyn Work>],
        appended: &mut Vec<Arc<Entry>>,
    ) -> rusqlite::Result<()> {
        let run = |sql: &str| self.connection.prepare_cached(sql)?.execute([]).map(drop);
        run("BEGIN IMMEDIATE")?;
        let alone = batch.len() == 1;
        for work in batch {
            let kept = appended.len();
            if !alone {
                run("SAVEPOINT work")?;
            }
            let mut tx = Tx::new(
                &self.connection,
                self.runtime.now(),
                &self.audit_key,
                appended,
            );
            if !work.carry_out(&mut tx) {
                appended.truncate(kept);
                if alone {
                    return run("ROLLBACK");
                }
                run("ROLLBACK TO work")?;
            }
            if !alone {
                run("RELEASE work")?;
            }
        }
        run("COMMIT")
    }
}
