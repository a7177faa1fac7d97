//! Works that callers ask for: carried out by a thread of the store, then answered.

use std::panic::{AssertUnwindSafe, catch_unwind};

use netra_context::memory::Scope;
use netra_protocol::id::UserId;
use tokio::sync::oneshot;

use crate::database::Whose;
use crate::error::Error;
use crate::sql;
use crate::transaction::Tx;

/// The line that a work waits in. Works of one line are carried out in the order of asking, others need not be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    /// What is this user's, whoever asks for it: the end of a run comes after all that its engine wrote.
    Of(UserId),
    /// All else, by the user on whose account whoever asks works.
    By(Scope),
}

pub(crate) type Asked = (Line, Box<dyn Work>);

/// One caller's work, first carried out, then answered.
pub(crate) trait Work: Send {
    /// Whether it succeeded, and so is to be kept.
    fn carry_out(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Answers the caller, with the commit's error where there is one.
    fn answer(self: Box<Self>, commit: sql::Result<()>);
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

    fn answer(self: Box<Self>, commit: sql::Result<()>) {
        let outcome = match (self.outcome, commit) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(Error::Bug("a write was not carried out".into())),
        };
        // A caller that no longer waits has nothing to be told.
        self.caller.send(outcome).ok();
    }
}

/// What a thread is asked for, and where its answer comes.
pub(crate) fn ask<T: Send + 'static>(
    whose: Whose,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
) -> (Asked, oneshot::Receiver<Result<T, Error>>) {
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
    let line = match whose {
        Whose::User(user) => Line::Of(user),
        Whose::All => Line::By(scope.user()),
    };
    ((line, Box::new(task)), answer)
}
