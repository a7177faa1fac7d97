//! A crash between any two commits of a run: each state that the store was ever in is taken up by
//! another server, and each gives the result that the run would have had.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use netra_context::UserExecutionContext;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::approval::Decision;
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use netra_protocol::usage::ToolUsage;
use netra_protocol::{ErrorCode, Event};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::camera::{
    Camera, Taken, copy, every_state_taken_up, photographed, taken_up, to_the_end,
};
use super::house::{Build, House, ask, names};

/// Two rounds of tools, with a call that must not be made twice, and an answer.
fn model() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| {
        let answer = match request.messages.len() {
            1 => Answer::new()
                .thinking("how many are there?")
                .text("I count. ")
                .tool_call("a", "count", json!({"n": 1}))
                .tool_call("b", "once", json!({"n": 2})),
            4 => Answer::new()
                .tool_call("c", "time_now", json!({}))
                .tool_call("d", "save_file", json!({"name": "n.md", "content": "two"})),
            _ => Answer::new().text("There are ").text("two."),
        };
        answer.usage(10, 5)
    })
}

/// The files that the log tells of.
fn artifacts(log: &[Event]) -> usize {
    let artifact = |event: &&Event| matches!(event.kind, EventKind::ArtifactCreated { .. });
    log.iter().filter(artifact).count()
}

/// Whether the call that must not be made twice was begun, and whether its end is known.
fn once_in(log: &[Event]) -> (bool, bool) {
    let begun = |event: &Event| matches!(&event.kind, EventKind::ToolExecuting { tool_name, .. } if tool_name == "once");
    let ended = |event: &Event| matches!(&event.kind, EventKind::ToolCompleted { tool_name, .. } if tool_name == "once");
    (log.iter().any(begun), log.iter().any(ended))
}

fn ends(log: &[Event]) -> usize {
    log.iter().filter(|event| event.kind.is_terminal()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_commits_changes_no_result_and_repeats_no_step() {
    let (ctx, whole, shots) = photographed(model, ask("assistant", "how many?")).await;
    assert!(shots.len() > 10, "{} states", shots.len());
    let mut unknown = 0;
    for (index, shot) in shots.iter().enumerate() {
        let Some(taken) = taken_up(model, shot, &ctx, whole.id, Decision::Approve).await else {
            assert_eq!(index, shots.len() - 1, "only the last state has no run");
            continue;
        };
        let at = format!("state {index}:\n{}", names(&taken.log).join("\n"));
        assert_eq!(taken.run.status, RunStatus::Completed, "{at}");
        assert_eq!(taken.run.result, whole.result, "{at}");
        assert_eq!(ends(&taken.log), 1, "{at}");
        assert!((1..=2).contains(&taken.messages), "{at}");
        // What was there is still there, byte for byte, and what comes after goes on from it.
        assert_eq!(taken.log[..taken.found.len()], taken.found[..], "{at}");
        assert_eq!((artifacts(&taken.log), taken.files), (1, 1), "{at}");
        let (begun, known) = once_in(&taken.found);
        let is_unknown = begun && !known;
        unknown += usize::from(is_unknown);
        assert_eq!(taken.asked, usize::from(is_unknown), "{at}");
        assert_eq!(taken.once, usize::from(!known), "{at}");
        assert_eq!(taken.run.attempt, 2, "{at}");
        assert_eq!(taken.run.usage.model_calls, whole.usage.model_calls, "{at}");
        assert_eq!(
            taken.run.usage.input_tokens, whole.usage.input_tokens,
            "{at}"
        );
    }
    assert!(unknown > 0, "no state had the call begun and not ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_unknown_outcome_that_a_person_denies_is_not_made_again() {
    let (ctx, whole, shots) = photographed(model, ask("assistant", "how many?")).await;
    let mut denied = 0;
    for shot in &shots {
        let Some(taken) = taken_up(model, shot, &ctx, whole.id, Decision::Deny).await else {
            continue;
        };
        if taken.asked == 0 {
            continue;
        }
        denied += 1;
        is_counted_once(&taken, "denied");
        assert_eq!(taken.once, 0);
        assert_eq!(taken.run.status, RunStatus::Completed);
        let layer = taken.log.iter().find_map(|event| match &event.kind {
            EventKind::ToolDenied { layer, .. } => Some(layer.as_str()),
            _ => None,
        });
        assert_eq!(layer, Some("approval"));
    }
    assert!(denied > 0);
}

/// What the log says that calls of tools used, and how many of them ended or were refused.
fn used_in(log: &[Event]) -> (Vec<ToolUsage>, usize) {
    let mut used = BTreeMap::<&str, ToolUsage>::new();
    let mut ends = 0;
    for event in log {
        let (EventKind::ToolCompleted { tool_name, .. } | EventKind::ToolDenied { tool_name, .. }) =
            &event.kind
        else {
            continue;
        };
        ends += 1;
        let of_tool = used.entry(tool_name).or_insert_with(|| ToolUsage {
            tool: tool_name.clone(),
            calls: 0,
            failed: 0,
            denied: 0,
            duration_ms: 0,
            result_bytes: 0,
        });
        match &event.kind {
            EventKind::ToolCompleted {
                success,
                duration_ms,
                result_bytes,
                error,
                ..
            } => {
                of_tool.calls += 1;
                of_tool.failed += u64::from(!success);
                // How long one took that a crash cut off nobody knows.
                let cut_off =
                    matches!(error, Some(error) if error.code == ErrorCode::OutcomeUnknown);
                of_tool.duration_ms += if cut_off { 0 } else { *duration_ms };
                of_tool.result_bytes += result_bytes;
            }
            _ => of_tool.denied += 1,
        }
    }
    (used.into_values().collect(), ends)
}

/// Each call has one audit record, and is counted as what its one end says.
fn is_counted_once(taken: &Taken, at: &str) {
    let (used, ends) = used_in(&taken.log);
    let mut counted = taken.used.clone();
    counted.sort_by(|one, other| one.tool.cmp(&other.tool));
    assert_eq!((counted, taken.audited), (used, ends), "{at}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_counted_once_wherever_a_crash_cut_its_run_off() {
    let mut cut_off = 0;
    let asked = ask("assistant", "how many?");
    let whole = every_state_taken_up(model, asked, |taken, at| {
        is_counted_once(taken, at);
        let open = named(&taken.found, "tool_executing") - named(&taken.found, "tool_completed");
        let calls: u64 = taken.used.iter().map(|tool| tool.calls).sum();
        // One that was cut off has ended, and is made again as another one.
        assert_eq!(calls, 4 + open as u64, "{at}");
        cut_off += open;
    })
    .await;
    assert_eq!(whole.usage.tool_calls, 4);
    assert!(
        cut_off > 0,
        "no state had a call that was begun and not ended"
    );
}

fn named(log: &[Event], name: &str) -> usize {
    let named = log.iter().filter(|event| event.kind.name() == name);
    named.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_text_is_written_on_where_it_stopped_and_not_anew() {
    let text = "What was written stays written. ".repeat(3_000);
    let (ctx, whole, shots) = photographed(model, ask("echo", json!({"text": text}))).await;
    let mut halves = 0;
    for shot in &shots {
        let Some(taken) = taken_up(model, shot, &ctx, whole.id, Decision::Deny).await else {
            continue;
        };
        assert_eq!(taken.run.result, whole.result);
        let messages: Vec<Value> = taken
            .log
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::MessageCompleted { message_id, .. } => Some(json!(message_id)),
                _ => None,
            })
            .collect();
        assert_eq!(messages.len(), 1, "one message, whenever it was cut off");
        halves += usize::from(taken.found.iter().any(|event| event.kind.is_delta()));
    }
    assert!(halves > 0, "no state had half of the text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_server_is_killed_in_each_attempt_ends_with_attempts_exhausted() {
    let (ctx, whole, shots) = photographed(model, ask("assistant", "how many?")).await;
    let mut dir = Arc::clone(&shots[1]);
    for attempt in 2.. {
        let camera = Arc::new(Camera {
            dir: dir.path().to_owned(),
            on: AtomicBool::new(true),
            shots: Mutex::default(),
        });
        let house = House::build(Build {
            dir: Arc::clone(&dir),
            witness: Some(camera.clone()),
            ..Build::new(model())
        });
        let ctx = house.user_again(&ctx).await;
        house.recover().await;
        let (run, log, _) = to_the_end(&house, &ctx, whole.id, Decision::Approve).await;
        house.quiet().await;
        if attempt > 3 {
            assert_eq!(run.status, RunStatus::Failed);
            assert_eq!(run.error.unwrap().code, ErrorCode::AttemptsExhausted);
            assert_eq!(names(&log).last(), Some(&"run_failed"));
            return;
        }
        assert_eq!(run.attempt, attempt);
        // Killed again right after it had gone on.
        let shots = std::mem::take(&mut *camera.shots.lock());
        let mut resumed = None;
        for shot in shots {
            if resumed.is_none() && is_resumed(&shot, &ctx, attempt).await {
                resumed = Some(shot);
            }
        }
        dir = resumed.expect("a state in which it had gone on");
    }
}

/// Whether the run of this folder has gone on in this attempt and has not ended.
async fn is_resumed(shot: &TempDir, ctx: &UserExecutionContext, attempt: u32) -> bool {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    copy(shot.path(), dir.path());
    let house = House::build(Build {
        dir,
        ..Build::new(model())
    });
    let runs = house
        .store
        .runs(&house.user_again(ctx).await, 10, None)
        .await;
    let found = runs.unwrap().items;
    found
        .iter()
        .any(|run| run.status == RunStatus::Running && run.attempt == attempt)
}
