//! Whose turn it is at the processor. A runtime carries out what is ready in the order in which it got ready, so
//! beside a user with a hundred ready tasks everybody waits for a hundred. Here a few of one user's tasks stand in the
//! runtime's queue at once; all others stand in the user's own line, and are called from there.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use netra_memory::Scope;
use parking_lot::Mutex;
use pin_project_lite::pin_project;

use crate::in_use::InUse;

/// How many of a user's tasks stand in the runtime's queue at once, for each of its threads: one that is carried out,
/// and one that is next. With fewer, a user alone on the machine would leave threads idle.
const FOR_EACH_THREAD: usize = 2;

/// The users' lines.
pub(crate) struct Lines {
    at_once: usize,
    of: InUse<Scope, Line>,
}

impl Default for Lines {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self::of_width(threads * FOR_EACH_THREAD)
    }
}

impl Lines {
    fn of_width(at_once: usize) -> Self {
        Self {
            at_once,
            of: InUse::default(),
        }
    }

    /// The line of the user on whose account this is; none for what is the server's own.
    fn of(&self, scope: Scope) -> Option<Arc<Line>> {
        let user = scope.user();
        let has_one = user != Scope::system();
        has_one.then(|| self.of.of(user, || Line::of_width(self.at_once)))
    }

    /// The future, which is polled when it is the turn of whoever is on this account.
    pub(crate) fn in_turn<F: Future>(&self, scope: Scope, future: F) -> InTurn<F> {
        InTurn {
            line: self.of(scope),
            place: None,
            future,
        }
    }
}

/// One user's tasks that are ready.
struct Line(Mutex<Standing>);

struct Standing {
    at_once: usize,
    /// Those who were called and have not been polled to the end of their turn.
    called: usize,
    waiting: VecDeque<Arc<Ticket>>,
}

impl Standing {
    /// Calls whoever is next, where there is room.
    fn call(&mut self) -> Option<Waker> {
        while self.called < self.at_once {
            let next = self.waiting.pop_front()?;
            let mut turn = next.turn.lock();
            // Who has left may still stand in the line.
            if turn.phase == Phase::Waiting {
                turn.phase = Phase::Called;
                self.called += 1;
                return Some(turn.task.clone());
            }
        }
        None
    }

    /// Calls this one, or lets it wait behind the others.
    fn ask(&mut self, ticket: &Arc<Ticket>, turn: &mut Turn) -> bool {
        let is_called = self.called < self.at_once;
        if is_called {
            turn.phase = Phase::Called;
            self.called += 1;
        } else {
            turn.phase = Phase::Waiting;
            self.waiting.push_back(Arc::clone(ticket));
        }
        is_called
    }
}

impl Line {
    fn of_width(at_once: usize) -> Self {
        Self(Mutex::new(Standing {
            at_once,
            called: 0,
            waiting: VecDeque::new(),
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not ready.
    Idle,
    /// Ready, in its user's line.
    Waiting,
    /// Ready, in the runtime's queue.
    Called,
    /// Being polled.
    Polled,
    /// Being polled, and ready again.
    PolledAndReady,
    /// Ended or dropped.
    Gone,
}

/// What stands in a line. Its phase changes while the line is locked, and only then.
struct Ticket {
    line: Arc<Line>,
    turn: Mutex<Turn>,
}

struct Turn {
    phase: Phase,
    /// Gets the task into the runtime's queue.
    task: Waker,
}

impl Ticket {
    /// Whether it is this one's turn; where not, it will be woken when it is.
    fn begin(self: &Arc<Self>, task: &Waker, is_first: bool) -> bool {
        let mut line = self.line.0.lock();
        let mut turn = self.turn.lock();
        if !turn.task.will_wake(task) {
            turn.task.clone_from(task);
        }
        let may = match turn.phase {
            Phase::Called => true,
            Phase::Idle if is_first => line.ask(self, &mut turn),
            // Nothing has happened that it waits for: its task was woken for something else.
            _ => false,
        };
        if may {
            turn.phase = Phase::Polled;
        }
        may
    }

    /// Its turn, or its wait for one, is over.
    fn end(self: &Arc<Self>, is_gone: bool) {
        let next = {
            let mut line = self.line.0.lock();
            let mut turn = self.turn.lock();
            let before = turn.phase;
            turn.phase = if is_gone { Phase::Gone } else { Phase::Idle };
            if matches!(
                before,
                Phase::Called | Phase::Polled | Phase::PolledAndReady
            ) {
                line.called -= 1;
            }
            if before == Phase::PolledAndReady && !is_gone {
                turn.phase = Phase::Waiting;
                line.waiting.push_back(Arc::clone(self));
            }
            drop(turn);
            line.call()
        };
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut line = self.line.0.lock();
            let mut turn = self.turn.lock();
            match turn.phase {
                Phase::Idle => line.ask(self, &mut turn).then(|| turn.task.clone()),
                Phase::Polled => {
                    turn.phase = Phase::PolledAndReady;
                    None
                }
                Phase::Waiting | Phase::Called | Phase::PolledAndReady | Phase::Gone => None,
            }
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A future's place in its line, given back when this is dropped.
struct Place {
    ticket: Arc<Ticket>,
    waker: Waker,
}

impl Place {
    fn new(line: &Arc<Line>, task: &Waker) -> Self {
        let ticket = Arc::new(Ticket {
            line: Arc::clone(line),
            turn: Mutex::new(Turn {
                phase: Phase::Idle,
                task: task.clone(),
            }),
        });
        let waker = Waker::from(Arc::clone(&ticket));
        Self { ticket, waker }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ticket.end(true);
    }
}

pin_project! {
    /// A future that is polled when it is its user's turn. Never inside of another one: each would wait for the other's
    /// place.
    #[must_use = "futures do nothing unless polled"]
    pub struct InTurn<F> {
        line: Option<Arc<Line>>,
        place: Option<Place>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(line) = this.line else {
            return this.future.poll(context);
        };
        let is_first = this.place.is_none();
        let place = this
            .place
            .get_or_insert_with(|| Place::new(line, context.waker()));
        if !place.ticket.begin(context.waker(), is_first) {
            return Poll::Pending;
        }
        let polled = this.future.poll(&mut Context::from_waker(&place.waker));
        match polled {
            Poll::Ready(_) => *this.place = None,
            Poll::Pending => place.ticket.end(false),
        }
        polled
    }
}

#[cfg(test)]
mod tests;
