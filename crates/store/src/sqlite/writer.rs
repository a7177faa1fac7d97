//! Writing: one thread, natural group commit.
//!
//! Whatever was asked for while the last commit ran is the next batch: one transaction, one
//! `fsync`, a savepoint for each caller. There is no time window, so a lone caller waits for
//! nobody. After the commit, and before any caller is answered, the batch's events go to the
//! fan-out in commit order; an engine that is dropped meanwhile loses nobody an event.
//!
//! Nobody waits for all that another wants: who has used the writer least comes first, a batch has an end, a user has
//! a share of it, and what is much larger than the rest of a batch waits for the next one ([`Shares`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_context::Runtime;
use netra_context::pressure::{Bounds, Pressure};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::checkpoint::Checkpoints;
use super::pace::Pace;
use crate::audit::AuditKey;
use crate::database::Whose;
use crate::effort::Effort;
use crate::error::Error;
use crate::lines::Lines;
use crate::log::{Entry, Fanout};
use crate::sql::{self, Connection};
use crate::transaction::Tx;
use crate::work::{self, Asked, Line, Work};

/// Works that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 4096;
/// Works in one commit at the most.
const BATCH: usize = 256;
/// From this on a batch takes no further work, so that one commit stays short whatever its works do: who comes now
/// waits for the rest of one batch and for its own.
pub(super) const BATCH_TIME: Duration = Duration::from_millis(3);
/// From this on a batch takes no further work of the same user.
const SHARE: Duration = Duration::from_millis(1);
/// The same where others have a part in the batch: its commit writes what all have changed, and they wait for it.
const SHARE_BESIDE_OTHERS: Duration = Duration::from_micros(200);
/// A work that is expected to take so many times as long as those in the batch did waits for the next batch.
const MUCH_LARGER: u32 = 4;

pub(crate) struct Writer {
    queue: mpsc::Sender<Asked>,
    pressure: Arc<Mutex<Pressure>>,
}

impl Writer {
    pub(crate) fn start(
        connection: Connection,
        runtime: Runtime,
        audit_key: AuditKey,
        fanout: Arc<dyn Fanout>,
        checkpoints: Checkpoints,
        waits: Bounds,
    ) -> Result<Self, Error> {
        let (queue, works) = mpsc::channel(QUEUE);
        let pressure = Arc::new(Mutex::new(Pressure::new(waits)));
        let thread = Thread {
            runtime,
            audit_key,
            fanout,
            checkpoints,
            works,
            waiting: Lines::of_share(SHARE),
            pressure: Arc::clone(&pressure),
            pace: Pace::default(),
            batch_began: Instant::now(),
            connection,
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

    /// Carries the work out, after all that was asked for before it of the same user's where it is of one.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (asked, answer) = work::ask(whose, work);
        let gone = || Error::Unavailable("the store's writer has stopped".into());
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
    pace: Pace,
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
                self.fanout.committed(&appended);
                self.checkpoints.committed();
            }
            metrics::histogram!("netra_store_commit_seconds").record(started.elapsed());
            metrics::histogram!("netra_store_commit_works").record(batch.len() as f64);
            for work in batch.drain(..) {
                work.answer(commit.clone());
            }
            self.checkpoints.catch_up(&self.connection);
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
                Some((line, work)) => self.waiting.push(line, work),
                None => return false,
            }
        }
        self.let_in();
        true
    }

    /// Those who have come meanwhile get into their users' lines. Together they are as many as may wait outside.
    fn let_in(&mut self) {
        while self.waiting.len() < QUEUE
            && let Ok((line, work)) = self.works.try_recv()
        {
            self.waiting.push(line, work);
        }
    }

    fn commit(
        &mut self,
        batch: &mut Vec<Box<dyn Work>>,
        appended: &mut Vec<Arc<Entry>>,
    ) -> sql::Result<()> {
        let outcome = self.transact(batch, appended);
        outcome.map_err(|error| {
            tracing::error!(error = %error, works = batch.len(), "a commit failed");
            if self.connection.is_in_transaction()
                && let Err(error) = self.connection.roll_back()
            {
                tracing::error!(error = %error, "the failed commit could not be rolled back");
            }
            sql::Error::Unavailable(error.to_string())
        })
    }

    /// Carries out one work after the other and commits. What fails to begin is in the batch too.
    fn transact(
        &mut self,
        batch: &mut Vec<Box<dyn Work>>,
        appended: &mut Vec<Arc<Entry>>,
    ) -> sql::Result<()> {
        let is_alone = self.waiting.len() == 1;
        let (mut shares, mut effort) = (Shares::default(), Effort::of_processor());
        loop {
            let Some((line, work)) = shares.next(&mut self.waiting) else {
                break;
            };
            let is_first = batch.is_empty();
            batch.push(work);
            if is_first {
                self.begin_batch(Instant::now());
                self.connection.begin_write(Whose::All)?;
                effort.lap();
            }
            let Some(work) = batch.last_mut() else { break };
            if !self.carry_out(work.as_mut(), is_alone, appended)? {
                return Ok(());
            }
            let cost = effort.lap();
            shares.took(line, cost);
            self.waiting.took(line, cost);
            if is_alone || batch.len() >= BATCH || self.batch_began.elapsed() > BATCH_TIME {
                break;
            }
            self.let_in();
        }
        let began = Instant::now();
        self.connection.commit()?;
        let commit = began.elapsed();
        self.pace
            .batch(shares.sum, began - self.batch_began, commit);
        shares.settle(commit, &mut self.waiting);
        Ok(())
    }

    /// Notes how long whoever came now would wait.
    fn begin_batch(&mut self, now: Instant) {
        let wait = self.pace.wait_behind(self.waiting.in_the_way());
        self.pressure.lock().served(wait, now);
        self.batch_began = now;
    }

    /// Carries out one work, or leaves everything as it was. False when there is nothing left to commit.
    fn carry_out(
        &self,
        work: &mut dyn Work,
        is_alone: bool,
        appended: &mut Vec<Arc<Entry>>,
    ) -> sql::Result<bool> {
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

    fn execute(&self, sql: &str) -> sql::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// What each line has used of a batch.
#[derive(Default)]
struct Shares {
    used: HashMap<Line, Duration>,
    /// Of all lines together.
    sum: Duration,
    works: u32,
    /// Lines that this batch takes nothing more of.
    closed: HashSet<Line>,
}

impl Shares {
    /// The next work that belongs into this batch.
    fn next<T>(&mut self, waiting: &mut Lines<Line, T>) -> Option<(Line, T)> {
        loop {
            let (line, expected) = waiting.expected(&self.closed)?;
            // In the mean; nothing has been carried out yet for the first.
            let rest = self.sum.checked_div(self.works);
            let is_much_larger = rest.is_some_and(|rest| expected > rest * MUCH_LARGER);
            if !is_much_larger && !self.has_its_share(line) {
                return waiting.next(&self.closed);
            }
            self.closed.insert(line);
        }
    }

    /// Whether the line has had what it gets of this batch.
    fn has_its_share(&self, line: Line) -> bool {
        let used = self.used.get(&line).copied().unwrap_or_default();
        let others = self.used.len() - usize::from(self.used.contains_key(&line));
        used > if others > 0 {
            SHARE_BESIDE_OTHERS
        } else {
            SHARE
        }
    }

    fn took(&mut self, line: Line, time: Duration) {
        self.sum += time;
        self.works += 1;
        *self.used.entry(line).or_default() += time;
    }

    /// Everyone pays as large a part of the commit's time as it used of the batch.
    fn settle<T>(&self, commit: Duration, waiting: &mut Lines<Line, T>) {
        let sum = self.sum.max(Duration::from_nanos(1));
        for (line, used) in &self.used {
            waiting.charge(*line, commit.mul_f64(used.div_duration_f64(sum)));
        }
        waiting.forget();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::future::{LocalBoxFuture, join_all};
    use netra_context::memory::{Account, Scope};
    use netra_protocol::id::UserId;

    use super::*;
    use crate::database::Waits;
    use crate::sqlite::Database;

    struct Nobody;

    fn waits() -> Waits {
        Waits::of_turn(crate::TURN_WAIT)
    }

    impl Fanout for Nobody {
        fn committed(&self, _: &[Arc<Entry>]) {}
    }

    #[test]
    fn beside_others_a_users_share_of_a_batch_is_smaller() {
        let line = |number| Line::Of(UserId::from_parts(1, number));
        let (many, one) = (line(1), line(2));
        let (mut waiting, mut shares) = (Lines::of_share(SHARE), Shares::default());
        let cost = SHARE_BESIDE_OTHERS / 2;
        for _ in 0..20 {
            waiting.push(many, ());
        }
        let mut take = |waiting: &mut Lines<Line, ()>| {
            let (line, ()) = shares.next(waiting)?;
            shares.took(line, cost);
            waiting.took(line, cost);
            Some(line)
        };
        for _ in 0..4 {
            assert!(take(&mut waiting) == Some(many));
        }
        waiting.push(one, ());
        assert!(take(&mut waiting) == Some(one));
        assert!(take(&mut waiting).is_none(), "both have had their shares");
        let mut alone = Shares::default();
        let mut works = 0;
        while let Some((line, ())) = alone.next(&mut waiting) {
            alone.took(line, cost);
            waiting.took(line, cost);
            works += 1;
        }
        assert_eq!(works, 11, "up to the first past the share");
    }

    #[tokio::test]
    async fn one_users_many_works_do_not_stand_before_anothers_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("netra.db"), AuditKey::new([7; 32]));
        let database =
            Database::open(&path, &Runtime::new(), key, Arc::new(Nobody), waits()).unwrap();
        let (many, one) = (Account::user(), Account::user());
        let order = Mutex::new(Vec::new()).into();
        let asks = |account: &Account, name: &'static str| {
            let order: Arc<Mutex<Vec<&str>>> = Arc::clone(&order);
            let work = move |_: &mut Tx<'_>| {
                order.lock().push(name);
                Ok(())
            };
            account.scope().wrap(database.write(Whose::All, work))
        };
        // The writer has its hands full until all others have asked.
        let (all_asked, wait) = mpsc::sync_channel(1);
        let busy = database.write(Whose::All, move |_| {
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
    async fn a_small_work_is_committed_without_a_large_one_that_waits_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("netra.db"), AuditKey::new([7; 32]));
        let database =
            Database::open(&path, &Runtime::new(), key, Arc::new(Nobody), waits()).unwrap();
        let (large, small) = (Account::user(), Account::user());
        let takes_long = |_: &mut Tx<'_>| {
            let began = Instant::now();
            while began.elapsed() < SHARE {}
            Ok(())
        };
        let first = large.scope().wrap(database.write(Whose::All, takes_long));
        first.await.unwrap();
        let (both_asked, wait) = mpsc::sync_channel(1);
        let busy = database.write(Whose::All, move |_| {
            wait.recv().ok();
            Ok(())
        });
        let (is_answered, answered) = mpsc::sync_channel(1);
        let second = database.write(Whose::All, move |_| {
            let patience = Duration::from_secs(20);
            answered.recv_timeout(patience).map_err(|_| {
                Error::Bug("whoever wrote little waits for whoever writes much".into())
            })
        });
        let little = database.write(Whose::All, |_: &mut Tx<'_>| Ok(()));
        let all: Vec<LocalBoxFuture<'_, Result<(), Error>>> = vec![
            Box::pin(busy),
            Box::pin(large.scope().wrap(second)),
            Box::pin(async {
                small.scope().wrap(little).await?;
                is_answered.send(()).ok();
                Ok(())
            }),
            Box::pin(async move {
                both_asked.send(()).ok();
                Ok(())
            }),
        ];
        for outcome in join_all(all).await {
            outcome.unwrap();
        }
    }

    #[tokio::test]
    async fn the_end_of_a_run_comes_after_what_its_engine_wrote_whoever_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("netra.db"), AuditKey::new([7; 32]));
        let database =
            Database::open(&path, &Runtime::new(), key, Arc::new(Nobody), waits()).unwrap();
        let (owner, engine) = (UserId::from_parts(1, 1), Account::user());
        let order = Mutex::new(Vec::new()).into();
        let asks = |number: usize| {
            let order: Arc<Mutex<Vec<usize>>> = Arc::clone(&order);
            database.write(Whose::User(owner), move |_: &mut Tx<'_>| {
                order.lock().push(number);
                Ok(())
            })
        };
        let (all_asked, wait) = mpsc::sync_channel(1);
        let busy = database.write(Whose::All, move |_| {
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
