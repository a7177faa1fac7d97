//! Several nodes over one database: fences, taking runs, slots over all of them, and what one hears of another.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::id::{EventId, ThreadId, UserId};
use netra_protocol::run::{OnBusy, OnLimit, Run, RunStatus};
use netra_store::{
    Amount, Budgets, Changes, Config, Created, Entry, Error, Fanout, Hold, OverNodes,
    ReservationId, RunUpdate, Slot, StopWish, Store, Target, Writable,
};
use tokio::sync::watch;

use crate::fixture::Fixture;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node hears of others.
struct Heard(watch::Sender<Vec<(Option<UserId>, u64)>>);

impl Fanout for Heard {
    fn committed(&self, _: &[Arc<Entry>]) {}

    fn elsewhere(&self, user: UserId, through: u64) {
        self.0
            .send_modify(|heard| heard.push((Some(user), through)));
    }

    fn lost_track(&self) {
        self.0.send_modify(|heard| heard.push((None, 0)));
    }
}

/// Another node over a fixture's database.
struct Node {
    store: Store,
    heard: watch::Receiver<Vec<(Option<UserId>, u64)>>,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn beside(fixture: &Fixture) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(fixture.dir().join("files"), dir.path().join("files")).unwrap();
        let config = Config {
            dir: dir.path().to_owned(),
            audit_key: netra_store::AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let (sender, heard) = watch::channel(Vec::new());
        let server = fixture.server().unwrap().config();
        let fanout = Arc::new(Heard(sender));
        let store = Store::open_on(&fixture.runtime, config, &server, fanout).unwrap();
        store.join().await.unwrap();
        Self {
            store,
            heard,
            _dir: dir,
        }
    }

    /// Waits until this was heard.
    async fn hears(&mut self, wanted: impl Fn(&(Option<UserId>, u64)) -> bool) {
        let heard = self.heard.wait_for(|heard| heard.iter().any(&wanted));
        tokio::time::timeout(PATIENCE, heard)
            .await
            .unwrap()
            .unwrap();
    }
}

fn recovery(fixture: &Fixture) -> UserExecutionContext {
    UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Recovery)
}

/// A run that asks what the user has on all nodes.
async fn run_over_nodes(
    fixture: &Fixture,
    store: &Store,
    ctx: &UserExecutionContext,
    thread: Option<&Writable<Run>>,
    (on_limit, on_busy): (OnLimit, OnBusy),
) -> Result<Writable<Run>, Error> {
    let mut new = fixture.new_run();
    new.over_nodes = Some(OverNodes {
        allowed: 2,
        queue: 1,
        on_limit,
        on_busy,
        queued_id: fixture.runtime.new_id(EventId::from_parts),
    });
    let target = match thread {
        Some(run) => Target::Thread(store.thread(ctx, run.thread_id).for_write().await?),
        None => Target::New {
            id: fixture.runtime.new_id(ThreadId::from_parts),
            title: "t".into(),
        },
    };
    let created = store.run_create(ctx, target, new, None).await?;
    let Created { value, replayed } = created;
    assert!(!replayed);
    Ok(value)
}

const QUEUE: (OnLimit, OnBusy) = (OnLimit::Queue, OnBusy::Queue);

#[tokio::test]
async fn whoever_held_a_run_that_was_taken_writes_nothing_more_into_it() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let alice = fixture.user("alice").await;
    let held = fixture.run(&alice).await;
    let call = ReservationId::new(&fixture.runtime);
    let reserve = |run: Writable<Run>, id| {
        let store = fixture.store.clone();
        let alice = &alice;
        async move {
            let amount = Amount::default();
            store
                .reserve(alice, &run, id, Budgets::default(), amount)
                .await
        }
    };
    reserve(held.clone(), call).await.unwrap();
    let other = Node::beside(&fixture).await;
    let recovery = recovery(&fixture);
    let (user, id) = (held.owner(), held.id);
    assert!(
        other
            .store
            .run_take(&recovery, user, id)
            .await
            .unwrap()
            .is_none(),
        "its node is alive"
    );
    // The node is seen no more, and does not know.
    fixture.store.leave().await.unwrap();
    let taken = other
        .store
        .run_take(&recovery, user, id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (taken.run.fence, taken.run.status),
        (held.fence() + 1, RunStatus::Running)
    );
    assert!(taken.last_alive.is_some() && taken.stop.is_none());
    assert_eq!(
        fixture.counted("reservations"),
        0,
        "what nobody settles counts in full"
    );

    let (changes, end) = fixture.ending(&held);
    for (changes, events) in [
        (
            Changes::default(),
            vec![fixture.thought(&held, "still here")],
        ),
        (changes, vec![end]),
    ] {
        let written = fixture.store.commit(&alice, &held, changes, events).await;
        assert!(matches!(written, Err(Error::Fenced)), "{written:?}");
    }
    let refused = reserve(held.clone(), ReservationId::new(&fixture.runtime)).await;
    assert!(matches!(refused, Err(Error::Fenced)));
    let refused = fixture.store.run_begin(&alice, &held, 5).await;
    assert!(matches!(refused, Err(Error::Fenced)));
    assert_eq!(fixture.store.latest_seq(&alice).await.unwrap(), 0);

    // Looked up anew it is another's all the same.
    let anew = fixture.store.run(&alice, id).for_write().await.unwrap();
    let refused = fixture.store.run_begin(&alice, &anew, 5).await;
    assert!(matches!(refused, Err(Error::Fenced)));
    let of_other = other.store.run(&alice, id).for_write().await.unwrap();
    assert_eq!(
        other.store.run_begin(&alice, &of_other, 5).await.unwrap(),
        Slot::Given
    );
    let (changes, end) = fixture.ending(&of_other);
    other
        .store
        .commit(&alice, &of_other, changes, vec![end])
        .await
        .unwrap();
    let late = fixture
        .store
        .commit(&alice, &held, Changes::default(), Vec::new())
        .await;
    assert!(matches!(late, Err(Error::RunEnded)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_held_is_taken_once_and_user_by_user() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let (alice, bob) = (fixture.user("alice").await, fixture.user("bob").await);
    let mut runs = Vec::new();
    for ctx in [&alice, &alice, &alice, &bob, &bob] {
        runs.push(fixture.run(ctx).await);
    }
    let (one, two) = (Node::beside(&fixture).await, Node::beside(&fixture).await);
    let recovery = recovery(&fixture);
    assert!(
        one.store
            .runs_abandoned(&recovery)
            .await
            .unwrap()
            .is_empty()
    );
    fixture.store.leave().await.unwrap();
    let abandoned = one.store.runs_abandoned(&recovery).await.unwrap();
    let order: Vec<_> = abandoned.iter().map(|(user, _)| *user).collect();
    let (a, b) = (alice.user_id().unwrap(), bob.user_id().unwrap());
    assert_eq!(order, [a, b, a, b, a]);
    let all = abandoned.iter().flat_map(|(user, run)| {
        [&one, &two].map(|node| node.store.run_take(&recovery, *user, *run))
    });
    let taken = join_all(all).await;
    let taken = taken
        .into_iter()
        .filter(|taken| taken.as_ref().unwrap().is_some());
    assert_eq!(taken.count(), runs.len());
    let mut held = 0;
    for node in [&one, &two] {
        held += node.store.runs_held(&recovery).await.unwrap().len();
    }
    assert_eq!(held, runs.len());
    let refused = one.store.runs_abandoned(&alice).await;
    assert!(matches!(refused, Err(Error::Forbidden)));
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_is_held_by_its_node_and_taken_by_nobody() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let other = Node::beside(&fixture).await;
    let (alice, recovery) = (fixture.user("alice").await, recovery(&fixture));
    let run = run_over_nodes(&fixture, &fixture.store, &alice, None, QUEUE)
        .await
        .unwrap();
    let waits = Changes {
        run: Some(RunUpdate {
            hold: Some(Hold::Released),
            ..RunUpdate::to(RunStatus::Waiting)
        }),
        ..Changes::default()
    };
    let committed = fixture.store.commit(&alice, &run, waits, Vec::new()).await;
    committed.unwrap();
    let held = fixture.store.runs_held(&recovery).await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].run_id, held[0].status),
        (run.id, RunStatus::Waiting)
    );
    let unfinished = fixture.store.run_unfinished(&recovery, run.owner(), run.id);
    assert!(unfinished.await.unwrap().is_some());
    for store in [&fixture.store, &other.store] {
        assert!(store.runs_abandoned(&recovery).await.unwrap().is_empty());
        let taken = store.run_take(&recovery, run.owner(), run.id).await;
        assert!(taken.unwrap().is_none());
    }
    // What stands behind it has its place, whichever node is asked.
    let behind = run_over_nodes(&fixture, &other.store, &alice, Some(&run), QUEUE)
        .await
        .unwrap();
    assert_eq!(
        (behind.status, behind.queue_position),
        (RunStatus::Queued, Some(1))
    );
    let seen = fixture.store.run(&alice, behind.id).for_read().await;
    assert_eq!(seen.unwrap().queue_position, Some(1));
}

#[tokio::test]
async fn a_node_with_other_keys_or_another_folder_of_files_does_not_start_and_says_what_to_do() {
    let fixture = Fixture::on_postgres();
    let server = fixture.server().unwrap().config();
    let open = |dir: &std::path::Path, key| {
        let config = Config {
            dir: dir.to_owned(),
            audit_key: netra_store::AuditKey::new([key; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        Store::open_on(&fixture.runtime, config, &server, fixture.seen.clone())
    };
    let refused = |opened: Result<Store, Error>, words: &str| match opened {
        Err(Error::OtherInstallation(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    };
    refused(
        open(fixture.dir(), 8),
        "copy the files `keys` and `secret-keys`",
    );
    let other = tempfile::tempdir().unwrap();
    refused(open(other.path(), 7), "mount the same folder");
    // What another installation had is not taken over either.
    std::fs::write(other.path().join("files/.installation"), "0123").unwrap();
    refused(open(other.path(), 7), "mount the same folder");
    // A copy has the name of what it is a copy of.
    let name = std::fs::read(fixture.dir().join("files/.installation")).unwrap();
    std::fs::write(other.path().join("files/.installation"), name).unwrap();
    open(other.path(), 7).unwrap();
}

#[tokio::test]
async fn slots_and_threads_are_counted_over_all_nodes() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let other = Node::beside(&fixture).await;
    let (here, there) = (&fixture.store, &other.store);
    let alice = fixture.user("alice").await;
    let first = run_over_nodes(&fixture, here, &alice, None, QUEUE)
        .await
        .unwrap();
    let reject = (OnLimit::Queue, OnBusy::Reject);
    let refused = run_over_nodes(&fixture, there, &alice, Some(&first), reject).await;
    assert!(matches!(refused, Err(Error::ThreadBusy)));
    let second = run_over_nodes(&fixture, there, &alice, None, QUEUE)
        .await
        .unwrap();
    assert_eq!(
        (first.status, second.status),
        (RunStatus::Running, RunStatus::Running)
    );
    let reject = (OnLimit::Reject, OnBusy::Queue);
    let refused = run_over_nodes(&fixture, there, &alice, None, reject).await;
    assert!(matches!(refused, Err(Error::SlotsExhausted)));
    let third = run_over_nodes(&fixture, there, &alice, None, QUEUE)
        .await
        .unwrap();
    assert_eq!(third.status, RunStatus::Queued);
    let refused = run_over_nodes(&fixture, here, &alice, None, QUEUE).await;
    assert!(matches!(refused, Err(Error::QueueFull)));
    assert_eq!(
        there.run_begin(&alice, &third, 2).await.unwrap(),
        Slot::Busy
    );
    let (changes, end) = fixture.ending(&first);
    here.commit(&alice, &first, changes, vec![end])
        .await
        .unwrap();
    assert_eq!(
        there.run_begin(&alice, &third, 2).await.unwrap(),
        Slot::Given
    );
    // Whoever takes the thread tells the node that has it.
    let interrupt = (OnLimit::Reject, OnBusy::Interrupt);
    let fourth = run_over_nodes(&fixture, here, &alice, Some(&second), interrupt)
        .await
        .unwrap();
    assert_eq!(fourth.status, RunStatus::Queued);
    let held = there.runs_held(&recovery(&fixture)).await.unwrap();
    let told = held.iter().find(|run| run.run_id == second.id).unwrap();
    assert_eq!(told.stop, Some(StopWish::Replaced));
    assert_eq!(
        here.run_begin(&alice, &fourth, 5).await.unwrap(),
        Slot::Busy,
        "its thread"
    );
}

#[tokio::test]
async fn a_cancel_reaches_the_node_that_has_the_run() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let other = Node::beside(&fixture).await;
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let mut news = fixture.store.news();
    news.borrow_and_update();
    let told = other
        .store
        .run_stop(&alice, &run, StopWish::Cancelled)
        .await;
    assert!(told.unwrap());
    tokio::time::timeout(PATIENCE, news.changed())
        .await
        .unwrap()
        .unwrap();
    let held = fixture.store.runs_held(&recovery(&fixture)).await.unwrap();
    assert_eq!(held[0].stop, Some(StopWish::Cancelled));
    assert!(
        !fixture
            .store
            .run_stop(&alice, &run, StopWish::Cancelled)
            .await
            .unwrap(),
        "it is here"
    );
}

#[tokio::test]
async fn a_node_hears_what_another_commits() {
    let fixture = Fixture::on_postgres();
    fixture.store.join().await.unwrap();
    let mut other = Node::beside(&fixture).await;
    other.hears(|(user, _)| user.is_none()).await;
    let (alice, bob) = (fixture.user("alice").await, fixture.user("bob").await);
    let own = other.store.clone();
    let of_bob = fixture.run(&bob).await;
    let thought = fixture.thought(&of_bob, "mine");
    own.commit(&bob, &of_bob, Changes::default(), vec![thought])
        .await
        .unwrap();
    let run = fixture.run(&alice).await;
    for text in ["a", "b"] {
        let events = vec![fixture.thought(&run, text)];
        fixture
            .store
            .commit(&alice, &run, Changes::default(), events)
            .await
            .unwrap();
    }
    let alice = alice.user_id();
    other.hears(|heard| *heard == (alice, 2)).await;
}
