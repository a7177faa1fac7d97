//! The store from outside, over a real database. One suite for both: SQLite in a temporary folder, or PostgreSQL
//! where `NETRA_TEST_POSTGRES` names one (`cargo xtask test postgres`).

#![expect(clippy::unwrap_used, reason = "a test may fail this way")]

mod approval;
mod audit;
mod backend;
mod between;
mod budget;
mod content;
mod erased;
mod fixture;
mod identity;
mod kept;
mod log;
mod note;
mod on_postgres;
mod past;
mod rate;
mod schema;
mod secret;
mod usage;

use futures::future::join_all;
use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::Failure;
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::{ThreadId, UserId};
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::thread::{CreateThread, ForkThread};
use netra_store::{Changes, Created, Error, Idempotency, NewUser, Refreshed, RunUpdate, Target};

use fixture::Fixture;

#[tokio::test]
async fn numbers_are_gapless_per_user_and_fan_out_follows_commit_order() {
    let fixture = Fixture::new();
    let (alice, bob) = (fixture.user("alice").await, fixture.user("bob").await);
    let (a, b) = (fixture.run(&alice).await, fixture.run(&bob).await);
    let commits = (0..200).map(|n| {
        let (ctx, run) = if n % 3 == 0 { (&bob, &b) } else { (&alice, &a) };
        let events = vec![fixture.thought(run, "a"), fixture.thought(run, "b")];
        fixture.store.commit(ctx, run, Changes::default(), events)
    });
    for seqs in join_all(commits).await {
        let seqs = seqs.unwrap();
        assert_eq!(
            seqs[1],
            seqs[0] + 1,
            "the events of one commit stand together"
        );
    }
    let seen = fixture.seen.0.lock().clone();
    for ctx in [&alice, &bob] {
        let log = fixture.store.events(ctx, 0, 10_000).await.unwrap();
        let numbers: Vec<_> = log.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, (1..=log.len() as u64).collect::<Vec<_>>());
        let fanned: Vec<_> = seen
            .iter()
            .filter(|e| Some(e.user_id) == ctx.user_id())
            .map(|e| e.seq)
            .collect();
        assert_eq!(fanned, numbers);
    }
}

#[tokio::test]
async fn another_users_objects_are_like_absent_ones() {
    let fixture = Fixture::new();
    let (alice, bob) = (fixture.user("alice").await, fixture.user("bob").await);
    let run = fixture.run(&alice).await;
    let store = &fixture.store;
    assert!(matches!(
        store.run(&bob, run.id).for_read().await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        store.run(&bob, run.id).for_write().await,
        Err(Error::NotFound)
    ));
    assert!(matches!(
        store.thread(&bob, run.thread_id).for_write().await,
        Err(Error::NotFound)
    ));
    assert!(
        store
            .threads(&bob, None, 100, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(store.runs(&bob, 100, None).await.unwrap().items.is_empty());
    assert!(store.events(&bob, 0, 100).await.unwrap().is_empty());
    // A handle does not help somebody else either.
    let events = vec![fixture.thought(&run, "x")];
    let stolen = store.commit(&bob, &run, Changes::default(), events).await;
    assert!(matches!(stolen, Err(Error::NotFound)));
}

#[tokio::test]
async fn a_run_ends_exactly_once() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let (changes, event) = fixture.ending(&run);
    fixture
        .store
        .commit(&alice, &run, changes, vec![event])
        .await
        .unwrap();
    let (changes, event) = fixture.ending(&run);
    let again = fixture
        .store
        .commit(&alice, &run, changes, vec![event])
        .await;
    assert!(matches!(again, Err(Error::RunEnded)));
    let ended = fixture.store.run(&alice, run.id).for_read().await.unwrap();
    assert_eq!(ended.status, RunStatus::Completed);
    assert!(ended.ended_at.is_some() && ended.started_at.is_some());
    let log = fixture.store.events(&alice, 0, 10).await.unwrap();
    assert_eq!(log.len(), 1);
    let span = fixture.store.run_span(&alice, &ended).await.unwrap();
    assert_eq!(span.terminal_seq, Some(1));
    assert_eq!(fixture.store.usage(&alice).await.unwrap()[0].tool_calls, 3);
}

#[tokio::test]
async fn a_failed_commit_takes_no_number_and_leaves_nothing() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let huge = fixture.thought(&run, &"x".repeat(300 * 1024));
    let refused = fixture
        .store
        .commit(&alice, &run, Changes::default(), vec![huge])
        .await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    let events = vec![fixture.thought(&run, "fine")];
    let seqs = fixture
        .store
        .commit(&alice, &run, Changes::default(), events)
        .await
        .unwrap();
    assert_eq!(seqs, [1]);
}

#[tokio::test]
async fn the_same_key_makes_one_run_even_when_asked_at_once() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let key = Idempotency {
        key: "k".into(),
        operation: "runs".into(),
        body_hash: [7; 32],
    };
    let start = || {
        let id = fixture.runtime.new_id(ThreadId::from_parts);
        let target = Target::New {
            id,
            title: String::new(),
        };
        fixture
            .store
            .run_create(&alice, target, fixture.new_run(), Some(&key))
    };
    let runs = join_all((0..8).map(|_| start())).await;
    let runs: Vec<Created<_>> = runs.into_iter().map(Result::unwrap).collect();
    assert_eq!(runs.iter().filter(|created| !created.replayed).count(), 1);
    assert!(
        runs.windows(2)
            .all(|pair| pair[0].value.id == pair[1].value.id)
    );
    assert_eq!(
        fixture
            .store
            .runs(&alice, 100, None)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let other = Idempotency {
        body_hash: [8; 32],
        ..key
    };
    let reused = fixture.store.replayed::<Run>(&alice, &other).await;
    assert!(matches!(reused, Err(Error::IdempotencyKeyReused)));
}

#[tokio::test]
async fn a_refresh_token_seen_twice_revokes_its_session() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let ctx = fixture.background();
    let later = fixture.runtime.now().plus_millis(60_000);
    let user = alice.user_id().unwrap();
    let session = fixture
        .store
        .session_create(&ctx, user, [1; 32], later)
        .await
        .unwrap();
    let rotate = |old, new| fixture.store.session_refresh(&ctx, old, new, later);
    assert!(matches!(
        rotate([1; 32], [2; 32]).await.unwrap(),
        Refreshed::Rotated { .. }
    ));
    assert!(
        matches!(rotate([1; 32], [3; 32]).await.unwrap(), Refreshed::Reused(s) if s == session)
    );
    assert!(matches!(
        rotate([2; 32], [4; 32]).await.unwrap(),
        Refreshed::Unknown
    ));
    assert!(!fixture.store.session_alive(&ctx, session).await.unwrap());
}

#[tokio::test]
async fn pages_join_without_gap_or_repetition() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    for n in 0..7 {
        let body = CreateThread {
            title: Some(format!("thread {n} 100%")),
            metadata: None,
        };
        fixture
            .store
            .thread_create(&alice, body, None)
            .await
            .unwrap();
    }
    let mut titles = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = fixture
            .store
            .threads(&alice, None, 3, cursor.as_deref())
            .await
            .unwrap();
        titles.extend(page.items.into_iter().map(|thread| thread.title));
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(
        titles,
        (0..7)
            .rev()
            .map(|n| format!("thread {n} 100%"))
            .collect::<Vec<_>>()
    );
    let find = async |q: &str| {
        fixture
            .store
            .threads(&alice, Some(q), 100, None)
            .await
            .unwrap()
            .items
            .len()
    };
    assert_eq!(find("THREAD 3").await, 1);
    assert_eq!(find("100%").await, 7);
    assert_eq!(
        find("1_0").await,
        0,
        "the wildcards of LIKE are letters to a user"
    );
    let bad = fixture.store.threads(&alice, None, 3, Some("zz")).await;
    assert!(matches!(bad, Err(Error::InvalidCursor)));
}

#[tokio::test]
async fn threads_are_found_by_what_was_said_forked_and_deleted_whole() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let store = &fixture.store;
    assert_eq!(
        store
            .threads(&alice, Some("HELL"), 9, None)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let thread = store
        .thread(&alice, run.thread_id)
        .for_write()
        .await
        .unwrap();
    assert_eq!(thread.active_run_id, Some(run.id));
    assert!(matches!(
        store.thread_delete(&alice, thread.clone()).await,
        Err(Error::ThreadBusy)
    ));
    let (changes, event) = fixture.ending(&run);
    store
        .commit(&alice, &run, changes, vec![event])
        .await
        .unwrap();
    let body = ForkThread::default();
    let fork = store
        .thread_fork(&alice, thread.as_readable(), body, None)
        .await
        .unwrap()
        .value;
    store.thread_delete(&alice, thread).await.unwrap();
    assert!(store.events(&alice, 0, 9).await.unwrap().is_empty());
    assert_eq!(
        store.latest_seq(&alice).await.unwrap(),
        1,
        "numbers are never given twice"
    );
    let fork = store.thread(&alice, fork.id).for_read().await.unwrap();
    let messages = store.messages(&alice, &fork, 10, None).await.unwrap();
    assert_eq!(messages.items.len(), 1);
    assert_eq!(messages.as_of.unwrap().seq, 1);
}

#[tokio::test]
async fn a_file_is_there_whole_or_not_at_all() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let store = &fixture.store;
    let begin = |limit| store.file_begin(&alice, "a.csv".into(), "text/csv".into(), None, limit);
    let mut writer = begin(4).await.unwrap();
    writer.write(b"1234").await.unwrap();
    assert!(matches!(
        writer.write(b"5").await,
        Err(Error::TooLarge { limit_bytes: 4 })
    ));
    drop(writer);
    let mut writer = begin(100).await.unwrap();
    writer.write(b"abc").await.unwrap();
    let file = writer.finish(None).await.unwrap().value;
    assert_eq!(
        file.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let handle = store.file(&alice, file.id).for_write().await.unwrap();
    let path = store.file_path(handle.as_readable());
    assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    assert_eq!(fixture.contents(), 1);
    store.file_delete(&alice, handle).await.unwrap();
    assert_eq!(fixture.contents(), 0);
}

#[tokio::test]
async fn only_one_can_set_the_server_up() {
    let fixture = Fixture::new();
    let ctx = fixture.background();
    fixture.user("local").await;
    assert!(fixture.store.needs_setup(&ctx).await.unwrap());
    let admin = |name: &str| NewUser {
        name: name.into(),
        role: Role::Admin,
        plan: Plan::Free,
        password_hash: Some("hash".into()),
    };
    fixture
        .store
        .user_create_first(&ctx, admin("first"))
        .await
        .unwrap();
    assert!(!fixture.store.needs_setup(&ctx).await.unwrap());
    let second = fixture.store.user_create_first(&ctx, admin("second")).await;
    assert!(matches!(second, Err(Error::Conflict(_))));
    let taken = fixture.store.user_create(&ctx, admin("FIRST")).await;
    assert!(matches!(taken, Err(Error::NameTaken)));
}

#[tokio::test]
async fn recovery_finds_what_has_not_ended_and_nobody_else_may_ask() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let run = fixture.run(&alice).await;
    let ctx = UserExecutionContext::for_background(&fixture.runtime, BackgroundKind::Recovery);
    let found = fixture.store.runs_unfinished(&ctx).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].owner.id, found[0].run_id),
        (alice.user_id().unwrap(), run.id)
    );
    assert!(matches!(
        fixture.store.runs_unfinished(&alice).await,
        Err(Error::Forbidden)
    ));
    let update = RunUpdate {
        error: Some(Failure::new(
            netra_protocol::ErrorCode::Interrupted,
            "stopped",
        )),
        ..RunUpdate::to(RunStatus::Failed)
    };
    let changes = Changes {
        run: Some(update),
        ..Changes::default()
    };
    fixture
        .store
        .commit(&alice, &run, changes, Vec::new())
        .await
        .unwrap();
    assert!(
        fixture
            .store
            .runs_unfinished(&ctx)
            .await
            .unwrap()
            .is_empty()
    );
    let _: UserId = run.owner();
}

#[tokio::test]
async fn a_run_on_a_thread_that_is_deleted_at_the_same_moment_is_refused() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let body = CreateThread::default();
    let id = fixture
        .store
        .thread_create(&alice, body, None)
        .await
        .unwrap()
        .value
        .id;
    let thread = fixture.store.thread(&alice, id).for_write().await.unwrap();
    fixture
        .store
        .thread_delete(&alice, thread.clone())
        .await
        .unwrap();
    let target = Target::Thread(thread.clone());
    let run = fixture
        .store
        .run_create(&alice, target, fixture.new_run(), None)
        .await;
    assert!(matches!(run, Err(Error::NotFound)));
    let fork = fixture
        .store
        .thread_fork(&alice, thread.as_readable(), ForkThread::default(), None);
    assert!(matches!(fork.await, Err(Error::NotFound)));
    assert!(
        fixture
            .store
            .runs(&alice, 10, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
