//! What a server takes up that an earlier one left: who may, with which agent, for how long.

use netra_context::{BackgroundKind, Right, Rights, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::error::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, RunId, ThreadId};
use netra_protocol::run::{Run, RunStatus};
use netra_store::{AgentVersion, Hold, NewRun, RunUpdate, Target, Writable};
use serde_json::{Map, json};

use super::house::{House, ask, failure_of, names};

/// A run that was stored and that no engine has.
async fn left_behind(
    house: &House,
    ctx: &UserExecutionContext,
    change: impl FnOnce(&mut NewRun),
) -> Writable<Run> {
    let runtime = &house.runtime;
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "left behind".into(),
    };
    let mut new = NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "echo".into(),
        agent_hash: house.engine.agents().get("echo").unwrap().hash.clone(),
        input: json!("x"),
        files: Vec::new(),
        metadata: Map::new(),
        timeout_ms: 60_000,
        deadline: runtime.now().plus_millis(60_000),
        input_message_id: runtime.new_id(MessageId::from_parts),
        started: false,
        over_nodes: None,
        events: Vec::new(),
    };
    change(&mut new);
    let created = house.store.run_create(ctx, target, new, None).await;
    created.unwrap().value
}

#[tokio::test]
async fn a_run_that_had_not_begun_begins_and_the_thread_is_free_after_it() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = left_behind(&house, &ctx, |_| ()).await;
    assert_eq!(house.recover().await, 1);
    let (ended, log) = house.ended(&ctx, run.id).await;
    assert_eq!((ended.status, ended.attempt), (RunStatus::Completed, 1));
    assert_eq!(names(&log)[0], "run_started", "nothing was resumed");
    let next = house.start_on(&ctx, run.thread_id, ask("echo", "y")).await;
    let next = next.unwrap().run;
    let (next, _) = house.ended(&ctx, next.id).await;
    assert_eq!(next.status, RunStatus::Completed);
    assert_eq!(house.recover().await, 0);
}

#[tokio::test]
async fn a_run_whose_agent_is_gone_ends_interrupted() {
    let house = House::plain();
    let ctx = house.user().await;
    let gone = |new: &mut NewRun| new.agent_hash = "no agent has it".into();
    let run = left_behind(&house, &ctx, gone).await;
    house.recover().await;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::Interrupted);
    assert_eq!(names(&log), ["run_failed"]);
}

#[tokio::test]
async fn a_run_goes_on_with_the_version_of_its_agent_that_it_began_with() {
    let house = House::answering([Answer::new().text("as then")]);
    let ctx = house.user().await;
    house.recover().await;
    let now = house.engine.agents().get("assistant").unwrap();
    let mut files = now.files.clone();
    files.insert("instructions.md".into(), "Be as you were.".into());
    let then = AgentVersion {
        hash: "then".into(),
        name: "assistant".into(),
        files,
    };
    let recovery = UserExecutionContext::for_background(&house.runtime, BackgroundKind::Recovery);
    let kept = house.store.agent_versions_keep(&recovery, vec![then]).await;
    kept.unwrap();
    let pinned = |new: &mut NewRun| {
        new.agent = "assistant".into();
        new.agent_hash = "then".into();
    };
    let run = left_behind(&house, &ctx, pinned).await;
    house.recover().await;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "as then"})));
    let asked = house.model.requests();
    assert_eq!(asked[0].system.as_deref(), Some("Be as you were."));
}

#[tokio::test]
async fn a_run_keeps_what_its_credentials_allowed() {
    let house = House::plain();
    let ctx = house.user().await;
    let rights = Rights::NONE.with(Right::Run);
    let key = ctx.child("key").narrowed(rights);
    let run = left_behind(&house, &key, |_| ()).await;
    let input = house
        .store
        .run_input(&ctx, run.as_readable())
        .await
        .unwrap();
    assert_eq!(input.rights, rights, "not those of the user's role");
}

#[tokio::test]
async fn time_in_which_no_server_held_a_run_does_not_count() {
    let house = House::with_model(ScriptedModel::from_fn("test", |_| Answer::new().hang()));
    let ctx = house.user().await;
    let now = house.runtime.now();
    // Its deadline passed an hour ago, but it was let go a second before.
    let old = |new: &mut NewRun| {
        new.agent = "assistant".into();
        new.agent_hash = house.engine.agents().get("assistant").unwrap().hash.clone();
        new.deadline = now.plus_millis(1_000);
    };
    let run = left_behind(&house, &ctx, old).await;
    let release = netra_store::Changes {
        run: Some(RunUpdate {
            hold: Some(Hold::Released),
            deadline: Some(house.runtime.now().plus_millis(30_000)),
            ..RunUpdate::default()
        }),
        ..netra_store::Changes::default()
    };
    house
        .store
        .commit(&ctx, &run, release, Vec::new())
        .await
        .unwrap();
    house.recover().await;
    house.seen(&ctx, run.id, "run_started").await;
    let log = house.log(&ctx, run.id).await;
    let EventKind::RunStarted { deadline, .. } = &log[0].kind else {
        panic!("{:?}", names(&log));
    };
    let left = deadline.millis_since(house.runtime.now());
    assert!((20_000..=30_000).contains(&left), "{left} ms are left");
    house.cancel(&ctx, run.id).await.unwrap();
    house.ended(&ctx, run.id).await;
}

#[tokio::test]
async fn a_run_that_no_engine_has_can_still_be_cancelled() {
    let house = House::plain();
    let ctx = house.user().await;
    let run = left_behind(&house, &ctx, |_| ()).await;
    house.engine.cancel(&ctx, &run).await.unwrap();
    assert_eq!(
        house.ended(&ctx, run.id).await.0.status,
        RunStatus::Cancelled
    );
    let again = house.engine.cancel(&ctx, &run).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::RunEnded);
}
