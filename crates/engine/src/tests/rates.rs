//! How often a user's agents may call a tool: over all the user's runs, over a crash, and before a person is asked.

use std::sync::atomic::Ordering::SeqCst;

use futures::future::join_all;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::Event;
use netra_protocol::approval::{ApprovalState, Decision, ResolveApproval};
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use serde_json::json;

use super::house::{House, ask};

/// Calls the tool that the input names, and is done.
fn caller(tool: &'static str) -> ScriptedModel {
    ScriptedModel::from_fn("test", move |request| match request.messages.len() {
        1 => Answer::new().tool_call("c", tool, json!({"n": 1})),
        _ => Answer::new().text("done"),
    })
}

/// Layer and reason of the denial.
fn denied(log: &[Event]) -> Option<(String, String)> {
    log.iter().find_map(|event| match &event.kind {
        EventKind::ToolDenied { layer, reason, .. } => Some((layer.clone(), reason.clone())),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_runs_at_once_make_the_five_calls_that_the_rate_allows() {
    let house = House::with_model(caller("scarce"));
    let ten = Limits {
        concurrent_runs: 10,
        ..Limits::default()
    };
    let ctx = house.user_with(ten).await;
    let started = join_all((0..10).map(|_| house.start(&ctx, ask("assistant", "x")))).await;
    let mut refusals = Vec::new();
    for run in started {
        let (run, log) = house.ended(&ctx, run.unwrap().run.id).await;
        assert_eq!(run.status, RunStatus::Completed);
        let refusal = denied(&log);
        assert_eq!(run.usage.tool_calls, u64::from(refusal.is_none()));
        refusals.extend(refusal);
    }
    assert_eq!((house.counts.count.load(SeqCst), refusals.len()), (5, 5));
    for (layer, reason) in refusals {
        assert_eq!(layer, "rate");
        assert!(
            reason.contains("5/hour") && reason.contains("try again at"),
            "{reason}"
        );
    }
    // What one user has used up, another has.
    let other = house.user().await;
    let run = house
        .start(&other, ask("assistant", "x"))
        .await
        .unwrap()
        .run;
    let (_, log) = house.ended(&other, run.id).await;
    assert_eq!(denied(&log), None);
    house.quiet().await;
}

#[tokio::test]
async fn a_call_that_a_crash_has_cut_off_is_made_again_and_counted_once() {
    let house = House::with_model(caller("rare"));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(1).await;
    let next = house.restarted(caller("rare"));
    let ctx = next.user_again(&ctx).await;
    next.recover().await;
    next.held(1).await;
    next.let_go();
    let (run, log) = next.ended(&ctx, run.id).await;
    assert_eq!((run.status, denied(&log)), (RunStatus::Completed, None));
    // It was counted, though.
    let run = next.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = next.ended(&ctx, run.id).await;
    assert_eq!(denied(&log).unwrap().0, "rate");
    next.quiet().await;
}

#[tokio::test]
async fn an_approved_call_counts_when_it_begins_and_nobody_is_asked_beyond_the_rate() {
    let house = House::with_model(caller("rare_consent"));
    let ctx = house.user().await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        house.seen(&ctx, run.id, "run_waiting").await;
        asked.push(run.id);
    }
    let mut denials = Vec::new();
    for id in asked {
        let open = house.store.approvals(&ctx, 100, None).await.unwrap().items;
        let of_run = open
            .iter()
            .find(|one| one.run_id == id && one.state == ApprovalState::Pending);
        let approval = house.store.approval(&ctx, of_run.unwrap().id);
        let approval = approval.for_write().await.unwrap();
        let answer = ResolveApproval {
            decision: Decision::Approve,
            note: None,
            arguments: Some(json!({"n": 7})),
        };
        house.engine.answer(&ctx, &approval, answer).await.unwrap();
        let (_, log) = house.ended(&ctx, id).await;
        denials.push(denied(&log).map(|(layer, _)| layer));
    }
    assert_eq!(denials, [None, Some("rate".to_owned())]);
    assert_eq!(house.counts.consent.load(SeqCst), 1);
    // With no room left, nobody is asked.
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(denied(&log).unwrap().0, "rate");
    let asks = log
        .iter()
        .any(|event| event.kind.name() == "approval_requested");
    assert!(!asks);
    house.quiet().await;
}
