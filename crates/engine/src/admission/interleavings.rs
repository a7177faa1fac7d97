//! The admission as its tasks use it, in every order: what each of a few tasks does next is tried
//! after whatever the others did before. And once with real threads, as they come.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use netra_protocol::run::{OnBusy, OnLimit};

use super::*;

fn wish(user: u128, thread: u128) -> Wish {
    Wish {
        user: UserId::from_parts(1, user),
        thread: ThreadId::from_parts(1, user * 100 + thread),
        allowed: 2,
        queue: 10,
        on_limit: OnLimit::Queue,
        on_busy: OnBusy::Queue,
        had_begun: false,
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

enum Stage {
    Outside,
    /// Not polled, or polled in vain.
    Waiting(Pin<Box<dyn Future<Output = Permit>>>, bool),
    Holding(Permit),
    Parked(Parked),
    Gone,
}

/// What a task may do next. Everywhere it may also be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Enter,
    Poll,
    Park,
    Rejoin,
    Drop,
}

struct Task {
    wish: Wish,
    stage: Stage,
    ticket: Option<Ticket>,
    woken: Arc<Woken>,
    may_park: bool,
}

impl Task {
    fn steps(&self) -> Vec<Step> {
        match &self.stage {
            Stage::Outside => vec![Step::Enter],
            // As a runtime does: once at first, and then only when woken.
            Stage::Waiting(_, polled) if *polled && !self.woken.0.load(Ordering::SeqCst) => {
                vec![Step::Drop]
            }
            Stage::Waiting(..) => vec![Step::Poll, Step::Drop],
            Stage::Holding(_) if self.may_park => vec![Step::Park, Step::Drop],
            Stage::Holding(_) => vec![Step::Drop],
            Stage::Parked(_) => vec![Step::Rejoin, Step::Drop],
            Stage::Gone => Vec::new(),
        }
    }

    fn wait(&mut self, place: Place) {
        self.ticket = Some(place.ticket());
        self.woken = Arc::default();
        self.stage = Stage::Waiting(Box::pin(place.granted()), false);
    }

    fn take(&mut self, admission: &Admission, step: Step) {
        match (step, std::mem::replace(&mut self.stage, Stage::Gone)) {
            (Step::Enter, Stage::Outside) => self.wait(admission.enter(&self.wish).unwrap()),
            (Step::Poll, Stage::Waiting(mut granted, _)) => {
                self.woken.0.store(false, Ordering::SeqCst);
                let waker = Waker::from(Arc::clone(&self.woken));
                self.stage = match granted.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(permit) => Stage::Holding(permit),
                    Poll::Pending => Stage::Waiting(granted, true),
                };
            }
            (Step::Park, Stage::Holding(permit)) => {
                self.may_park = false;
                self.stage = Stage::Parked(permit.park());
            }
            (Step::Rejoin, Stage::Parked(parked)) => self.wait(parked.rejoin()),
            (Step::Drop, held) => drop(held),
            _ => panic!("{step:?} in another stage"),
        }
    }

    /// Whether the core has given it a slot, and whether it still does not know.
    fn granted(&self, admission: &Admission) -> bool {
        let waits = matches!(self.stage, Stage::Waiting(..));
        waits
            && self
                .ticket
                .and_then(|ticket| admission.0.lock().slots.position(ticket))
                .is_none()
    }
}

struct World {
    admission: Admission,
    tasks: Vec<Task>,
    engines: usize,
}

impl World {
    fn new(engines: usize, wishes: &[(Wish, bool)]) -> Self {
        let task = |(wish, may_park): &(Wish, bool)| Task {
            wish: *wish,
            stage: Stage::Outside,
            ticket: None,
            woken: Arc::default(),
            may_park: *may_park,
        };
        Self {
            admission: Admission::new(engines),
            tasks: wishes.iter().map(task).collect(),
            engines,
        }
    }

    fn check(&self) {
        let holding = |task: &&Task| matches!(task.stage, Stage::Holding(_));
        let granted = |task: &&Task| task.granted(&self.admission);
        let with_slot = |task: &&Task| holding(task) || granted(task);
        let running = self.tasks.iter().filter(with_slot).count();
        let queued = self
            .tasks
            .iter()
            .filter(|task| matches!(task.stage, Stage::Waiting(..)))
            .count()
            - self.tasks.iter().filter(granted).count();
        assert_eq!(self.admission.total(), (running, queued));
        assert!(running <= self.engines);
        for task in &self.tasks {
            if let Stage::Waiting(_, polled) = task.stage
                && task.granted(&self.admission)
            {
                let told = !polled || task.woken.0.load(Ordering::SeqCst);
                assert!(told, "a task sleeps that has its slot");
            }
        }
        if self
            .tasks
            .iter()
            .all(|task| matches!(task.stage, Stage::Gone))
        {
            let state = self.admission.0.lock();
            assert!(state.waiting.is_empty() && state.slots.users().next().is_none());
        }
    }

    fn fingerprint(&self) -> Vec<u32> {
        let of_task = |task: &Task| {
            let stage = match &task.stage {
                Stage::Outside => 0,
                Stage::Waiting(_, polled) => 1 + u32::from(*polled),
                Stage::Holding(_) => 3,
                Stage::Parked(_) => 4,
                Stage::Gone => 5,
            };
            let place = task
                .ticket
                .and_then(|ticket| self.admission.0.lock().slots.position(ticket));
            let woken = task.woken.0.load(Ordering::SeqCst);
            let bits = u32::from(woken) << 1 | u32::from(task.may_park);
            [stage, place.unwrap_or(0), bits]
        };
        self.tasks.iter().flat_map(of_task).collect()
    }
}

/// Takes every step in every state that the tasks can reach. A world cannot be copied, so each is
/// made anew by the steps that lead to it.
fn explore(engines: usize, wishes: &[(Wish, bool)]) -> usize {
    let after = |steps: &[(usize, Step)]| {
        let mut world = World::new(engines, wishes);
        for (task, step) in steps {
            world.tasks[*task].take(&world.admission, *step);
        }
        world
    };
    let mut seen = HashMap::from([(after(&[]).fingerprint(), ())]);
    let mut next = VecDeque::from([Vec::new()]);
    while let Some(steps) = next.pop_front() {
        let world = after(&steps);
        for (index, task) in world.tasks.iter().enumerate() {
            for step in task.steps() {
                let mut steps = steps.clone();
                steps.push((index, step));
                let world = after(&steps);
                world.check();
                if seen.insert(world.fingerprint(), ()).is_none() {
                    next.push_back(steps);
                }
            }
        }
    }
    seen.len()
}

#[test]
fn whatever_the_order_of_a_users_tasks_nobody_sleeps_on_a_slot_and_all_come_back() {
    let tasks = [(wish(1, 1), true), (wish(1, 1), true), (wish(1, 2), false)];
    for engines in [1, 2] {
        let states = explore(engines, &tasks);
        assert!(states > 200, "only {states} states");
    }
}

#[test]
fn whatever_the_order_of_two_users_tasks_nobody_sleeps_on_a_slot_and_all_come_back() {
    let tasks = [(wish(1, 1), true), (wish(2, 1), true), (wish(2, 2), false)];
    let states = explore(1, &tasks);
    assert!(states > 200, "only {states} states");
}

/// What a holder of a slot counts up while it has it.
#[derive(Default)]
struct Held {
    all: AtomicUsize,
    of_user: [AtomicUsize; 3],
}

impl Held {
    async fn hold(&self, user: usize, engines: usize) {
        let counts = [(&self.all, engines), (&self.of_user[user], 2)];
        for (count, most) in counts {
            assert!(count.fetch_add(1, Ordering::SeqCst) < most);
        }
        tokio::task::yield_now().await;
        for (count, _) in counts {
            count.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_on_many_threads_never_have_more_slots_than_there_are() {
    const ENGINES: usize = 3;
    let (admission, held) = (Admission::new(ENGINES), Arc::new(Held::default()));
    let task = |number: usize| {
        let (admission, held) = (admission.clone(), Arc::clone(&held));
        async move {
            let user = number % 3;
            for round in 0..200 {
                let place = admission.enter(&wish(user as u128, (number + round) as u128 % 4));
                let mut granted = Box::pin(place.unwrap().granted());
                if (number + round).is_multiple_of(5) {
                    // Whoever goes away may just be getting its slot.
                    (&mut granted).now_or_never();
                    tokio::task::yield_now().await;
                    continue;
                }
                let permit = granted.await;
                held.hold(user, ENGINES).await;
                if round.is_multiple_of(3) {
                    let permit = permit.park().rejoin().granted().await;
                    held.hold(user, ENGINES).await;
                    drop(permit);
                }
            }
        }
    };
    let runtime = netra_context::Runtime::new();
    let kind = netra_context::runtime::TaskKind::Part;
    let tasks: Vec<_> = (0..24)
        .map(|number| runtime.spawn(kind, task(number)))
        .collect();
    let all = futures::future::join_all(tasks);
    let all = tokio::time::timeout(Duration::from_secs(30), all).await;
    let ended = all.expect("a task waits for a slot that nobody has");
    assert!(
        ended.into_iter().all(|task| task.unwrap().is_some()),
        "a task panicked"
    );
    let state = admission.0.lock();
    assert_eq!(state.slots.total(), slots::Count::default());
    assert!(state.waiting.is_empty());
}
