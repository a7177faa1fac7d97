//! Which tool calls count: those that have begun, each time, before and after a crash, and no other.

use std::sync::atomic::Ordering::SeqCst;

use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::approval::Decision;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use serde_json::json;

use super::camera::to_the_end;
use super::house::{Build, House, ask};

fn one() -> Limits {
    Limits {
        tool_calls: 1,
        ..Limits::default()
    }
}

/// It counted as one that was made: the next one ended the run.
#[tokio::test]
async fn a_call_that_a_person_has_denied_leaves_the_run_its_calls() {
    let house = House::with_model(ScriptedModel::from_fn("test", |request| {
        match request.messages.len() {
            1 => Answer::new().tool_call("a", "consent", json!({"n": 1})),
            3 => Answer::new().tool_call("b", "count", json!({"n": 2})),
            _ => Answer::new().text("done"),
        }
    }));
    let ctx = house.user_with(one()).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _, asked) = to_the_end(&house, &ctx, run.id, Decision::Deny).await;
    assert_eq!(
        (run.status, asked),
        (RunStatus::Completed, 1),
        "{:?}",
        run.error
    );
    assert_eq!(run.usage.tool_calls, 1);
    assert_eq!(house.counts.count.load(SeqCst), 1);
    house.quiet().await;
}

/// What two crashes have cut off was counted as one, and was refused where the run had no further call.
#[tokio::test]
async fn a_call_that_is_made_again_after_each_crash_counts_each_time_and_is_not_refused() {
    let model = || {
        ScriptedModel::from_fn("test", |request| match request.messages.len() {
            1 => Answer::new().tool_call("a", "hold", json!({})),
            _ => Answer::new().text("done"),
        })
    };
    let mut house = House::build(Build {
        limits: one(),
        ..Build::new(model())
    });
    let mut ctx = house.user_with(one()).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(1).await;
    for _ in 0..2 {
        house = house.restarted_within(model(), one());
        ctx = house.user_again_with(&ctx, one()).await;
        house.recover().await;
        house.held(1).await;
    }
    house.let_go();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(
        (run.status, run.attempt),
        (RunStatus::Completed, 3),
        "{:?}",
        run.error
    );
    let begun = log.iter();
    let begun = begun.filter(|event| event.kind.name() == "tool_executing");
    assert_eq!((begun.count(), run.usage.tool_calls), (3, 3));
    house.quiet().await;
}
