//! Tests of the lines: none stands before another's, no call is lost.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::task::noop_waker;
use netra_memory::Account;
use proptest::prelude::*;

use super::*;

/// A future that is pending so many times, and notes each poll.
struct Steps {
    name: usize,
    left: usize,
    /// Whether it is ready again at once; if not, whoever has its waker says when.
    is_busy: bool,
    polls: Arc<Mutex<Vec<usize>>>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Future for Steps {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.polls.lock().push(self.name);
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        if self.is_busy {
            context.waker().wake_by_ref();
        } else {
            *self.waker.lock() = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "bare tasks, without the runtime's own line"
)]
#[tokio::test]
async fn beside_a_hundred_ready_tasks_of_one_user_another_waits_for_a_few() {
    let lines = Lines::of_width(4);
    let (many, one) = (Account::user(), Account::user());
    let polls = Arc::<Mutex<Vec<usize>>>::default();
    let steps = |name| Steps {
        name,
        left: 3,
        is_busy: true,
        polls: Arc::clone(&polls),
        waker: Arc::default(),
    };
    let mut tasks = Vec::new();
    for name in 1..=100 {
        tasks.push(tokio::spawn(lines.in_turn(many.scope(), steps(name))));
    }
    tasks.push(tokio::spawn(lines.in_turn(one.scope(), steps(0))));
    futures::future::try_join_all(tasks).await.unwrap();
    let polls = polls.lock();
    assert_eq!(polls.len(), 101 * 4);
    let end = polls.iter().rposition(|name| *name == 0).unwrap();
    assert!(
        end < 4 * (4 + 1),
        "the other user's task ended after {end} polls"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "bare tasks, without the runtime's own line"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_that_wait_for_each_other_all_come_to_their_ends() {
    for width in 1..=3 {
        let lines = Lines::of_width(width);
        let account = Account::user();
        let (first, mut before) = tokio::sync::mpsc::channel(1);
        let mut tasks = Vec::new();
        for _ in 0..50 {
            let (to, from) = tokio::sync::mpsc::channel(1);
            let passes_on = async move {
                while let Some(number) = before.recv().await {
                    tokio::task::yield_now().await;
                    if to.send(number).await.is_err() {
                        break;
                    }
                }
            };
            tasks.push(tokio::spawn(lines.in_turn(account.scope(), passes_on)));
            before = from;
        }
        let sends = async move {
            for number in 0..200 {
                first.send(number).await.unwrap();
            }
        };
        tasks.push(tokio::spawn(lines.in_turn(account.scope(), sends)));
        for number in 0..200 {
            assert_eq!(before.recv().await, Some(number));
        }
        futures::future::try_join_all(tasks).await.unwrap();
    }
}

#[test]
fn what_is_the_servers_own_stands_in_no_line() {
    let lines = Lines::of_width(1);
    assert!(lines.of(Scope::system()).is_none());
    let account = Arc::new(Account::user());
    let execution = Account::execution(&account);
    let both = (lines.of(account.scope()), lines.of(execution.scope()));
    let (Some(users), Some(executions)) = both else {
        panic!("a user has a line");
    };
    assert!(Arc::ptr_eq(&users, &executions));
}

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_that_panics_or_is_dropped_leaves_its_place_to_the_next() {
    let lines = Lines::of_width(1);
    let account = Account::user();
    let mut context = Context::from_waker(Waker::noop());
    let polled = |future: BoxFuture<'static, ()>| Box::pin(lines.in_turn(account.scope(), future));
    // Called, and dropped before it is polled again.
    let (ready, waits) = tokio::sync::oneshot::channel::<()>();
    let mut called = polled(Box::pin(async move { waits.await.unwrap() }));
    assert!(called.as_mut().poll(&mut context).is_pending());
    ready.send(()).unwrap();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut next = polled(Box::pin(async { panic!("on purpose") }));
    assert!(
        next.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    let mut last = polled(Box::pin(async {}));
    assert!(
        last.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    drop(called);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        next.as_mut().poll(&mut Context::from_waker(&noop_waker()))
    }));
    assert!(panicked.is_err());
    drop(next);
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert!(last.as_mut().poll(&mut context).is_ready());
}

/// A task of a runtime that does what the test says.
struct Task {
    future: Option<Pin<Box<InTurn<Steps>>>>,
    /// What the runtime is told.
    woken: Arc<Woken>,
    taken: usize,
    /// What wakes the future.
    waker: Arc<Mutex<Option<Waker>>>,
    polls: Arc<Mutex<Vec<usize>>>,
}

impl Task {
    fn new(lines: &Lines, scope: Scope, is_busy: bool) -> Self {
        let (polls, waker) = (Arc::default(), Arc::default());
        let steps = Steps {
            name: 0,
            left: 5,
            is_busy,
            polls: Arc::clone(&polls),
            waker: Arc::clone(&waker),
        };
        let woken = Arc::new(Woken::default());
        woken.0.store(1, Ordering::SeqCst);
        Self {
            future: Some(Box::pin(lines.in_turn(scope, steps))),
            woken,
            taken: 0,
            waker,
            polls,
        }
    }

    fn is_ready(&self) -> bool {
        self.future.is_some() && self.woken.0.load(Ordering::SeqCst) > self.taken
    }

    fn poll(&mut self) {
        self.taken = self.woken.0.load(Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.woken));
        if let Some(future) = &mut self.future
            && future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        {
            self.future = None;
        }
    }
}

proptest! {
    /// Whatever is woken, polled and dropped in whatever order: no more are called than may be, and whoever was woken
    /// is polled.
    #[test]
    fn no_call_is_lost_and_none_is_given_twice(
        width in 1_usize..4,
        busy in prop::collection::vec(any::<bool>(), 1..8),
        actions in prop::collection::vec((0_usize..8, 0_u8..8), 0..200),
    ) {
        let lines = Lines::of_width(width);
        let account = Account::user();
        let line = lines.of(account.scope()).unwrap();
        let mut tasks: Vec<Task> = busy
            .iter()
            .map(|is_busy| Task::new(&lines, account.scope(), *is_busy))
            .collect();
        for (which, action) in actions {
            let which = which % tasks.len();
            let task = &mut tasks[which];
            match action {
                0 => task.future = None,
                1..4 => {
                    let waker = task.waker.lock().take();
                    if let Some(waker) = waker {
                        let before = task.polls.lock().len();
                        waker.wake();
                        run(&mut tasks, 50);
                        let task = &tasks[which];
                        prop_assert!(task.future.is_none() || task.polls.lock().len() > before);
                    }
                }
                // Also what was not woken: a task may be woken for something else.
                _ => task.poll(),
            }
            let standing = line.0.lock();
            prop_assert!(standing.called <= width);
            prop_assert!(standing.waiting.is_empty() || standing.called == width);
        }
        run(&mut tasks, 1_000);
        prop_assert!(tasks.iter().all(|task| task.future.is_none() || task.waker.lock().is_some()));
        drop(tasks);
        let standing = line.0.lock();
        prop_assert_eq!((standing.called, standing.waiting.len()), (0, 0));
    }
}

/// Polls what is ready until nothing is.
fn run(tasks: &mut [Task], at_most: usize) {
    for _ in 0..at_most {
        let ready: Vec<&mut Task> = tasks.iter_mut().filter(|task| task.is_ready()).collect();
        if ready.is_empty() {
            return;
        }
        ready.into_iter().for_each(Task::poll);
    }
}
