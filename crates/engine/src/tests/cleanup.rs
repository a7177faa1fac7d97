//! What is left of a run at its end, whatever ended it: nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{Limit, UserExecutionContext};
use netra_memory::Account;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::event::EventKind;
use netra_protocol::id::ThreadId;
use netra_protocol::limits::Limits;
use netra_protocol::run::{Run, RunStatus, StartRun};
use serde_json::json;

use super::house::{House, WORKER, ask};
use crate::Census;

/// By what a run ends that is in the middle of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Completes,
    Fails,
    Panics,
    Cancelled,
    TimedOut,
    Memory,
    Drained,
}

const ALL: [Cause; 7] = [
    Cause::Completes,
    Cause::Fails,
    Cause::Panics,
    Cause::Cancelled,
    Cause::TimedOut,
    Cause::Memory,
    Cause::Drained,
];

impl Cause {
    fn status(self) -> RunStatus {
        match self {
            Self::Completes => RunStatus::Completed,
            Self::Fails | Self::Panics | Self::Memory => RunStatus::Failed,
            Self::Cancelled => RunStatus::Cancelled,
            Self::TimedOut => RunStatus::TimedOut,
            Self::Drained => RunStatus::Running,
        }
    }

    fn limit(self) -> Option<Limit> {
        match self {
            Self::TimedOut => Some(Limit::RunTimeout),
            Self::Memory => Some(Limit::Memory),
            _ => None,
        }
    }
}

/// A model that calls a tool and then does as its run is called.
fn model(cause: Cause) -> ScriptedModel {
    ScriptedModel::from_fn("test", move |request| match request.messages.len() {
        1 => Answer::new().tool_call("c", "hold", json!({})),
        _ if cause == Cause::Fails => {
            Answer::refuse(netra_model::Error::NotConfigured("none".into()))
        }
        _ if cause == Cause::Panics => panic!("on purpose"),
        _ => Answer::new().text("done"),
    })
}

/// Ends the run by the cause, and gives what is stored of it then.
async fn end(house: &House, ctx: &UserExecutionContext, run: &Run, cause: Cause) -> Run {
    match cause {
        Cause::Completes | Cause::Fails | Cause::Panics => house.let_go(),
        Cause::Cancelled => house.cancel(ctx, run.id).await.unwrap(),
        // It does so by itself.
        Cause::TimedOut => {}
        Cause::Memory => {
            let bytes = house.engine.account(run.id).unwrap().add_external();
            bytes.set(100 << 20);
            let (run, _) = house.ended(ctx, run.id).await;
            return run;
        }
        Cause::Drained => {
            house.engine.drain(Duration::from_millis(20)).await;
            return house
                .store
                .run(ctx, run.id)
                .for_read()
                .await
                .unwrap()
                .into_inner();
        }
    }
    house.ended(ctx, run.id).await.0
}

/// Nothing that `engines` runs had is anywhere any more.
async fn nothing_is_left(house: &House, engines: u64, cause: &str) {
    house.quiet().await;
    let empty = Census {
        engines_allowed: 1_000,
        engines_created: engines,
        engines_cleaned: engines,
        ..Census::default()
    };
    assert_eq!(house.engine.census(), empty, "{cause}");
    let accounts = house.runtime.open_accounts();
    assert!(accounts.is_empty(), "{cause}: {accounts:?}");
    assert_eq!(*house.model.open_streams().borrow(), 0, "{cause}");
    assert_eq!(house.bridge.mailboxes(), 0, "{cause}");
}

#[tokio::test]
async fn whatever_ends_a_run_nothing_of_it_is_left() {
    for cause in ALL {
        let house = House::with_model(model(cause));
        let limits = Limits {
            memory_mib: 64,
            ..Limits::default()
        };
        let ctx = house.user_with(limits).await;
        let files = house.files();
        let request = StartRun {
            timeout_ms: (cause == Cause::TimedOut).then_some(400),
            ..ask("assistant", "x")
        };
        let run = house.start(&ctx, request).await.unwrap().run;
        house.held(1).await;
        let account: Weak<Account> = Arc::downgrade(&house.engine.account(run.id).unwrap());
        assert_eq!(house.engine.census().engines_active, 1);
        let run = end(&house, &ctx, &run, cause).await;
        assert_eq!(run.status, cause.status(), "{cause:?}");
        nothing_is_left(&house, 1, &format!("{cause:?}")).await;
        assert!(
            account.upgrade().is_none(),
            "{cause:?}: its account is open"
        );
        assert_eq!(house.files(), files, "{cause:?}");
        let hits = house.runtime.limits_hit(ctx.user_id().unwrap());
        let expected: Vec<_> = cause.limit().map(|limit| (limit, 1)).into_iter().collect();
        assert_eq!(hits, expected, "{cause:?}");
    }
}

#[tokio::test]
async fn a_start_that_fails_in_the_store_gives_its_slot_back() {
    let house = House::plain();
    let limits = Limits {
        concurrent_runs: 1,
        ..Limits::default()
    };
    let ctx = house.user_with(limits).await;
    let first = house.start(&ctx, ask("echo", "1")).await.unwrap().run;
    house.ended(&ctx, first.id).await;
    house.quiet().await;
    // The thread is gone between the look-up and the start.
    let thread = house
        .store
        .thread(&ctx, first.thread_id)
        .for_write()
        .await
        .unwrap();
    let gone = house
        .store
        .thread(&ctx, first.thread_id)
        .for_write()
        .await
        .unwrap();
    house.store.thread_delete(&ctx, gone).await.unwrap();
    let refused = house
        .engine
        .start(&ctx, Some(thread), ask("echo", "2"), None)
        .await;
    assert!(refused.is_err());
    nothing_is_left(&house, 1, "a failed start").await;
    let next = house.start(&ctx, ask("echo", "3")).await.unwrap().run;
    assert_eq!(next.status, RunStatus::Running, "the slot is free");
    house.ended(&ctx, next.id).await;
}

#[tokio::test]
async fn time_in_the_queue_counts_for_the_deadline_of_a_run_that_begins_after_it() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let limits = Limits {
        concurrent_runs: 1,
        ..Limits::default()
    };
    let ctx = house.user_with(limits).await;
    let first = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    house.seen(&ctx, first.id, "agent_started").await;
    let asked = house.runtime.now();
    let second = StartRun {
        timeout_ms: Some(1_000),
        ..ask("assistant", "2")
    };
    let second = house.start(&ctx, second).await.unwrap().run;
    let accepted = second.deadline.unwrap();
    house.seen(&ctx, second.id, "run_queued").await;
    house.cancel(&ctx, first.id).await.unwrap();
    let (run, log) = house.ended(&ctx, second.id).await;
    let begun = log.iter().find_map(|event| match &event.kind {
        EventKind::RunStarted { deadline, .. } => Some(*deadline),
        _ => None,
    });
    assert_eq!(begun, Some(accepted), "waiting has moved the deadline");
    assert_eq!(run.status, RunStatus::TimedOut);
    let ended = run.ended_at.unwrap();
    assert!(ended >= asked.plus_millis(1_000));
    // Had it got its whole time anew when it began, it would have ended much later.
    let late = ended.millis_since(accepted);
    assert!(late < 900, "{late} ms after its deadline");
    house.quiet().await;
}

#[tokio::test]
async fn limits_that_refuse_a_run_are_counted_for_its_user() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let limits = Limits {
        concurrent_runs: 1,
        queued_runs: 0,
        ..Limits::default()
    };
    let (ctx, other) = (house.user_with(limits).await, house.user().await);
    let run = house.start(&ctx, ask("assistant", "1")).await.unwrap().run;
    house.start(&ctx, ask("echo", "2")).await.unwrap_err();
    let hits = |ctx: &UserExecutionContext| house.runtime.limits_hit(ctx.user_id().unwrap());
    assert_eq!(hits(&ctx), [(Limit::QueuedRuns, 1)]);
    assert!(hits(&other).is_empty());
    let census = house.engine.census();
    let holdings = census.users[&ctx.user_id().unwrap()];
    assert_eq!((holdings.running, holdings.queued), (1, 0));
    assert_eq!(census.users.len(), 1);
    house.cancel(&ctx, run.id).await.unwrap();
    house.ended(&ctx, run.id).await;
    house.quiet().await;
}

/// That they are 0 says something only where they are not when something is lost.
#[tokio::test]
async fn what_is_lost_is_seen_by_the_counter_that_is_there_for_it() {
    let house = House::plain();
    let ctx = house.user().await;
    let (shared, census) = (&house.engine.0, || house.engine.census());
    assert_eq!(census().engines_lost(), 0);
    let engine = shared.engines.begin();
    assert_eq!(census().engines_lost(), 1);
    drop(engine);

    let thread = house.runtime.new_id(ThreadId::from_parts);
    let parked = shared
        .admission
        .enter_parked(ctx.user_id().unwrap(), thread, 5);
    assert_eq!(census().seats_without_run, 1);
    // A place in the queue, or a slot.
    let place = parked.rejoin();
    assert_eq!(census().seats_without_run, 1);
    drop(place);

    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let task = house.runtime.spawn(TaskKind::Run, ended);
    assert_eq!(census().tasks_without_run, 1);
    end.send(()).unwrap();
    task.await.unwrap();

    put_worker(&house);
    let source = netra_worker::Source {
        name: "lost.py".into(),
        code: "x".into(),
        inputs: serde_json::Map::new(),
        functions: Vec::new(),
        keeps: None,
    };
    let limits = netra_worker::Limits::default();
    let script = shared.infra.scripts.start(&ctx, source, limits);
    let script = script.await.unwrap();
    assert_eq!(census().workers_without_run, 1);
    drop(script);
    while census().workers_without_run > 0 {
        tokio::task::yield_now().await;
    }
    house.quiet().await;
}

/// A worker that says nothing and stays.
fn put_worker(house: &House) {
    use std::os::unix::fs::PermissionsExt as _;
    let worker = house.dir.path().join(WORKER);
    std::fs::write(&worker, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();
}
