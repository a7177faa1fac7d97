//! A run that waits for a person: it holds its thread and nothing else, and goes on or ends once.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::SeqCst;

use netra_context::UserExecutionContext;
use netra_context::runtime::{Clock, SystemClock};
use netra_model::scripted::{Answer, ScriptedModel, gate};
use netra_protocol::approval::{Approval, ApprovalState, Decision, ResolveApproval};
use netra_protocol::audit::AuditEntry;
use netra_protocol::event::EventKind;
use netra_protocol::id::{ApprovalId, RunId};
use netra_protocol::limits::Limits;
use netra_protocol::run::{OnBusy, Run, RunStatus, StartRun};
use netra_protocol::{ErrorCode, Timestamp};
use netra_store::Writable;
use serde_json::{Value, json};

use super::house::{Build, House, ask, failure_of, names};

/// Asks for the tool that asks a person, and answers with what it gave.
fn model() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new().tool_call("a", "consent", json!({"n": 1})),
        _ => Answer::new().text("done"),
    })
}

pub(super) fn yes() -> ResolveApproval {
    ResolveApproval {
        decision: Decision::Approve,
        note: None,
        arguments: None,
    }
}

fn no() -> ResolveApproval {
    ResolveApproval {
        decision: Decision::Deny,
        ..yes()
    }
}

/// A run that waits, and what it asks.
pub(super) async fn waiting(
    house: &House,
    ctx: &UserExecutionContext,
    request: StartRun,
) -> (Run, Writable<Approval>) {
    let run = house.start(ctx, request).await.unwrap().run;
    house.seen(ctx, run.id, "run_waiting").await;
    (run.clone(), asked(house, ctx, run.id).await)
}

async fn asked(house: &House, ctx: &UserExecutionContext, run: RunId) -> Writable<Approval> {
    let items = house.store.approvals(ctx, 100, None).await.unwrap().items;
    let asked = items.iter().find(|one| one.run_id == run).unwrap();
    house
        .store
        .approval(ctx, asked.id)
        .for_write()
        .await
        .unwrap()
}

/// The one record that the audit has of the answer.
async fn resolved(house: &House, ctx: &UserExecutionContext, id: ApprovalId) -> AuditEntry {
    let page = house.store.audit(ctx, 100, None).await.unwrap();
    let mut records = page.items.into_iter().filter(|entry| {
        (entry.action.as_str(), entry.object.as_str()) == ("approval.resolve", &id.to_string())
    });
    let record = records.next().expect("the answer is not in the audit");
    assert!(records.next().is_none(), "one answer, one record");
    record
}

async fn status(house: &House, ctx: &UserExecutionContext, run: RunId) -> RunStatus {
    house.store.run(ctx, run).for_read().await.unwrap().status
}

#[tokio::test]
async fn a_waiting_run_holds_no_slot_and_goes_on_when_it_is_answered() {
    let house = House::with_model(model());
    let one = Limits {
        concurrent_runs: 1,
        ..Limits::default()
    };
    let ctx = house.user_with(one).await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    assert_eq!(approval.arguments, json!({"n": 1}));
    house.quiet().await;
    assert_eq!(house.engine.load(), (0, 0), "the slot was not given back");
    // Another thread's run has the slot; one on the same thread waits for this one.
    let other = house.start(&ctx, ask("echo", "y")).await.unwrap().run;
    house.ended(&ctx, other.id).await;
    let behind = house.start_on(&ctx, run.thread_id, ask("echo", "z")).await;
    let behind = behind.unwrap().run;
    assert_eq!(status(&house, &ctx, behind.id).await, RunStatus::Queued);
    assert_eq!(status(&house, &ctx, run.id).await, RunStatus::Waiting);

    let answered = house.engine.answer(&ctx, &approval, yes()).await.unwrap();
    assert_eq!(answered.state, ApprovalState::Approved);
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.counts.consent.load(SeqCst), 1);
    let order = [
        "approval_requested",
        "run_waiting",
        "approval_resolved",
        "run_resumed",
        "tool_executing",
        "tool_completed",
    ];
    assert_eq!(names(&log)[2..8], order);
    assert_eq!(run.usage.model_calls, 2, "the model was asked again");
    house.ended(&ctx, behind.id).await;
    let again = house
        .engine
        .answer(&ctx, &approval, no())
        .await
        .unwrap_err();
    assert_eq!(again.code(), ErrorCode::ApprovalResolved);
    house.quiet().await;
}

#[tokio::test]
async fn runs_that_were_answered_wait_for_a_slot_of_their_user_in_the_order_of_the_answers() {
    let (gate, opener) = gate();
    let model = ScriptedModel::from_fn("test", move |request| {
        let asked = format!("{:?}", request.messages);
        match (asked.contains("busy"), request.messages.len()) {
            (true, _) => Answer::new().wait(gate.clone()).text("ok"),
            (_, 1) => Answer::new().tool_call("a", "consent", json!({"n": 1})),
            _ => Answer::new().text("done"),
        }
    });
    let house = House::with_model(model);
    // Not what others have.
    let one = Limits {
        concurrent_runs: 1,
        ..Limits::default()
    };
    let ctx = house.user_with(one).await;
    let (first, first_asks) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let (second, second_asks) = waiting(&house, &ctx, ask("assistant", "y")).await;
    let busy = house.start(&ctx, ask("assistant", "busy")).await;
    let busy = busy.unwrap().run;
    for approval in [&second_asks, &first_asks] {
        house.engine.answer(&ctx, approval, yes()).await.unwrap();
    }
    for run in [first.id, second.id] {
        house.seen(&ctx, run, "run_queued").await;
    }
    opener.open();
    house.ended(&ctx, busy.id).await;
    let (earlier, _) = house.ended(&ctx, second.id).await;
    let (later, _) = house.ended(&ctx, first.id).await;
    assert!(earlier.ended_at < later.ended_at, "the second was first");
}

#[tokio::test]
async fn an_answer_no_is_told_to_the_agent_and_other_arguments_are_used() {
    let house = House::with_model(model());
    let ctx = house.user().await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let answer = ResolveApproval {
        note: Some("not today".into()),
        ..no()
    };
    house.engine.answer(&ctx, &approval, answer).await.unwrap();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    let denied = log.iter().find_map(|event| match &event.kind {
        EventKind::ToolDenied { layer, reason, .. } => Some((layer.as_str(), reason.as_str())),
        _ => None,
    });
    assert_eq!(denied, Some(("approval", "not today")));
    let told = serde_json::to_string(&house.model.requests().last().unwrap().messages).unwrap();
    assert!(told.contains("not today"), "{told}");
    assert_eq!(house.counts.consent.load(SeqCst), 0);
    let user = ctx.user_id().unwrap().to_string();
    let record = resolved(&house, &ctx, approval.id).await;
    assert_eq!((&record.actor, record.outcome.as_str()), (&user, "denied"));
    assert_eq!(
        record.details,
        json!({"tool_name": "consent", "by": user, "edited": false, "note": "not today"})
    );

    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let with = |arguments: Value| ResolveApproval {
        arguments: Some(arguments),
        ..yes()
    };
    let misfit = house
        .engine
        .answer(&ctx, &approval, with(json!({"n": "x"})))
        .await;
    assert_eq!(misfit.unwrap_err().code(), ErrorCode::InvalidInput);
    assert_eq!(status(&house, &ctx, run.id).await, RunStatus::Waiting);
    house
        .engine
        .answer(&ctx, &approval, with(json!({"n": 7})))
        .await
        .unwrap();
    let (_, log) = house.ended(&ctx, run.id).await;
    let used = log.iter().find_map(|event| match &event.kind {
        EventKind::ToolExecuting { arguments, .. } => Some(arguments.clone()),
        _ => None,
    });
    assert_eq!(used, Some(json!({"n": 7})));
    let record = resolved(&house, &ctx, approval.id).await;
    assert_eq!(
        (&record.actor, record.outcome.as_str()),
        (&user, "approved")
    );
    assert_eq!(
        record.details,
        json!({"tool_name": "consent", "by": user, "edited": true})
    );
}

#[tokio::test]
async fn arguments_that_a_person_has_edited_pass_the_policy_too() {
    let house = House::with_model(model());
    let ctx = house.user().await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let edited = ResolveApproval {
        arguments: Some(json!({"n": 13})),
        ..yes()
    };
    house.engine.answer(&ctx, &approval, edited).await.unwrap();
    let (_, log) = house.ended(&ctx, run.id).await;
    let denied = log.iter().find_map(|event| match &event.kind {
        EventKind::ToolDenied { layer, reason, .. } => Some((layer.as_str(), reason.as_str())),
        _ => None,
    });
    assert_eq!(denied, Some(("policy", "13 brings bad luck")));
    assert_eq!(house.counts.consent.load(SeqCst), 0);
}

#[tokio::test]
async fn a_waiting_run_that_is_cancelled_or_replaced_ends_and_asks_nobody_any_more() {
    let house = House::with_model(model());
    let ctx = house.user().await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    house.cancel(&ctx, run.id).await.unwrap();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(
        names(&log)[3..],
        [
            "run_waiting",
            "approval_resolved",
            "agent_completed",
            "run_cancelled"
        ]
    );
    let EventKind::ApprovalResolved { by, .. } = &log[4].kind else {
        panic!()
    };
    assert_eq!(by.0, "cancel");
    let record = resolved(&house, &ctx, approval.id).await;
    assert_eq!(record.outcome, "denied");
    assert_eq!(
        record.details,
        json!({"tool_name": "consent", "by": "cancel", "edited": false})
    );
    let late = house
        .engine
        .answer(&ctx, &approval, yes())
        .await
        .unwrap_err();
    assert_eq!(late.code(), ErrorCode::ApprovalResolved);

    let (run, _) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let interrupt = StartRun {
        on_busy: OnBusy::Interrupt,
        ..ask("echo", "y")
    };
    let next = house
        .start_on(&ctx, run.thread_id, interrupt)
        .await
        .unwrap()
        .run;
    let (next, _) = house.ended(&ctx, next.id).await;
    assert_eq!(next.status, RunStatus::Completed);
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::Cancelled);
    house.quiet().await;
    assert_eq!(house.engine.load(), (0, 0));
}

#[tokio::test]
async fn what_nobody_answers_in_time_is_denied_by_expiry() {
    let house = House::with_model(model());
    let soon = Limits {
        approval_ttl_ms: 30,
        ..Limits::default()
    };
    let ctx = house.user_with(soon).await;
    house.engine.keep_watch();
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    let by = log.iter().find_map(|event| match &event.kind {
        EventKind::ApprovalResolved { by, decision, .. } => Some((by.0.as_str(), *decision)),
        _ => None,
    });
    assert_eq!(by, Some(("expiry", Decision::Deny)));
    let denied = log.iter().find_map(|event| match &event.kind {
        EventKind::ToolDenied { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    let denied = denied.unwrap();
    assert!(denied.contains("nobody answered in time"), "{denied}");
    let asked = asked(&house, &ctx, run.id).await;
    let record = resolved(&house, &ctx, asked.id).await;
    assert_eq!(
        (record.actor.as_str(), record.outcome.as_str()),
        ("recovery", "denied")
    );
    assert_eq!(record.details["by"], "expiry");
    assert_eq!(house.counts.consent.load(SeqCst), 0);
}

#[tokio::test]
async fn a_waiting_run_waits_on_after_a_restart_and_goes_on_with_its_answer() {
    let house = House::with_model(model());
    let ctx = house.user().await;
    let (run, _) = waiting(&house, &ctx, ask("assistant", "x")).await;
    house.quiet().await;
    let next = house.restarted(model());
    let ctx = next.user_again(&ctx).await;
    assert_eq!(next.recover().await, 1);
    assert_eq!(status(&next, &ctx, run.id).await, RunStatus::Waiting);
    let behind = next.start_on(&ctx, run.thread_id, ask("echo", "z")).await;
    assert_eq!(
        behind.unwrap().run.status,
        RunStatus::Queued,
        "its thread is its own"
    );
    let approval = asked(&next, &ctx, run.id).await;
    next.engine.answer(&ctx, &approval, yes()).await.unwrap();
    let (run, _) = next.ended(&ctx, run.id).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(next.counts.consent.load(SeqCst), 1);
    next.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_cancels_that_come_while_a_run_parks_are_not_lost() {
    let house = Arc::new(House::with_model(model()));
    let ctx = house.user().await;
    for round in 0..40 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        // As soon as the question is in the log: the engine may still be on its way out.
        house.seen(&ctx, run.id, "approval_requested").await;
        let approval = asked(&house, &ctx, run.id).await;
        let answered = async {
            // A cancel may have been first.
            house.engine.answer(&ctx, &approval, yes()).await.is_ok()
        };
        let cancelled = async { round % 2 == 1 && house.cancel(&ctx, run.id).await.is_ok() };
        let (answered, cancelled) = tokio::join!(answered, cancelled);
        let (run, _) = house.ended(&ctx, run.id).await;
        let done = run.status == RunStatus::Completed;
        assert!(
            done && answered || run.status == RunStatus::Cancelled && cancelled,
            "{run:?}"
        );
        // Its thread is free again.
        let next = house.start_on(&ctx, run.thread_id, ask("echo", "y")).await;
        house.ended(&ctx, next.unwrap().run.id).await;
    }
    house.quiet().await;
    assert_eq!(house.engine.load(), (0, 0));
}

#[tokio::test]
async fn another_user_neither_sees_nor_answers_it() {
    let house = House::with_model(model());
    let (ctx, stranger) = (house.user().await, house.user().await);
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    let page = house.store.approvals(&stranger, 100, None).await.unwrap();
    assert!(page.items.is_empty());
    let seen = house
        .store
        .approval(&stranger, approval.id)
        .for_read()
        .await;
    assert_eq!(seen.unwrap_err().code(), ErrorCode::NotFound);
    let answered = house.engine.answer(&stranger, &approval, yes()).await;
    assert_eq!(answered.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(status(&house, &ctx, run.id).await, RunStatus::Waiting);
}

const HOUR_MS: u32 = 3_600_000;

/// The machine's clock, moved ahead by a test, in milliseconds.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0.load(SeqCst))
    }
}

#[tokio::test]
async fn time_in_which_a_run_waits_does_not_count_for_its_deadline() {
    let ahead = Ahead::default();
    let house = House::build(Build {
        clock: Box::new(ahead.clone()),
        ..Build::new(model())
    });
    let ctx = house.user().await;
    let short = StartRun {
        timeout_ms: Some(2_000),
        ..ask("assistant", "x")
    };
    let (run, approval) = waiting(&house, &ctx, short).await;
    let before = house.store.run(&ctx, run.id).for_read().await.unwrap();
    ahead.0.store(i64::from(HOUR_MS), SeqCst);
    house.engine.answer(&ctx, &approval, yes()).await.unwrap();
    let (_, log) = house.ended(&ctx, run.id).await;
    let at = |name: &str| {
        log.iter()
            .find(|event| event.kind.name() == name)
            .unwrap()
            .ts
    };
    let waited = at("run_resumed").millis_since(at("run_waiting"));
    let resumed = log.iter().find_map(|event| match &event.kind {
        EventKind::RunResumed { deadline, .. } => Some(*deadline),
        _ => None,
    });
    let moved = resumed.unwrap().millis_since(before.deadline.unwrap());
    // What lies between the two events and the times that are reckoned with is the machine's.
    assert!(
        waited >= u64::from(HOUR_MS) && moved.abs_diff(waited) < 1_000,
        "moved by {moved} ms, waited for {waited} ms"
    );
}
