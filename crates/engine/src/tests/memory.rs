//! The memory limit of a user: the largest run ends, and nothing else is touched.

use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;

use super::house::{House, ask, failure_of, names};
use crate::engine::SAMPLE_EVERY;

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn the_largest_run_ends_and_the_others_go_on() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house
        .user_with(Limits {
            memory_mib: 64,
            ..Limits::default()
        })
        .await;
    let other = house.user().await;
    let small = house
        .start(&ctx, ask("assistant", "small"))
        .await
        .unwrap()
        .run;
    let large = house
        .start(&ctx, ask("assistant", "large"))
        .await
        .unwrap()
        .run;
    let theirs = house
        .start(&other, ask("assistant", "theirs"))
        .await
        .unwrap()
        .run;
    let mut streams = house.model.open_streams();
    streams.wait_for(|open| *open == 3).await.unwrap();
    let holds = |id, mib: u64| {
        let bytes = house.engine.account(id).unwrap().add_external();
        bytes.set(mib * MIB);
        bytes
    };
    let _small = holds(small.id, 10);
    let _theirs = holds(theirs.id, 500);
    let _large = holds(large.id, 60);
    let (run, log) = house.ended(&ctx, large.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    let failure = failure_of(&log);
    assert_eq!(failure.code, ErrorCode::MemoryLimitExceeded);
    assert_eq!(failure.details.as_ref().unwrap()["limit_bytes"], 64 * MIB);
    for (ctx, id) in [(&ctx, small.id), (&other, theirs.id)] {
        assert!(
            !house
                .log(ctx, id)
                .await
                .iter()
                .any(|event| event.kind.is_terminal())
        );
        house.cancel(ctx, id).await.unwrap();
        house.ended(ctx, id).await;
    }
    house.quiet().await;
}

#[tokio::test]
async fn the_user_is_warned_before() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house
        .user_with(Limits {
            memory_mib: 100,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house
        .model
        .open_streams()
        .wait_for(|open| *open == 1)
        .await
        .unwrap();
    let bytes = house.engine.account(run.id).unwrap().add_external();
    bytes.set(79 * MIB);
    // It is looked at several times, and nobody is told.
    tokio::time::pause();
    for _ in 0..4 {
        tokio::time::advance(SAMPLE_EVERY).await;
    }
    tokio::time::resume();
    bytes.set(81 * MIB);
    house.seen(&ctx, run.id, "limit_warning").await;
    house.cancel(&ctx, run.id).await.unwrap();
    let (_, log) = house.ended(&ctx, run.id).await;
    let warnings = names(&log)
        .iter()
        .filter(|name| **name == "limit_warning")
        .count();
    assert_eq!(warnings, 1);
    let warning = log
        .iter()
        .find(|event| event.kind.name() == "limit_warning")
        .unwrap();
    let EventKind::LimitWarning {
        limit,
        allowed,
        used,
    } = &warning.kind
    else {
        panic!()
    };
    assert_eq!((limit.as_str(), *allowed), ("memory_mib", 100.0));
    assert!((81.0..82.0).contains(used), "told at {used} %");
    house.quiet().await;
}
