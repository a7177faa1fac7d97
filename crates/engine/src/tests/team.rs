//! Model agents that call others.

use std::sync::atomic::Ordering::SeqCst;

use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{ChatRequest, Error as ModelError, Message as Said};
use netra_protocol::approval::{ApprovalState, Decision, ResolveApproval};
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use netra_protocol::{ErrorCode, Event};
use serde_json::{Value, json};

use super::camera::every_state_taken_up;
use super::house::{House, ask, failure_of, names, names_without_deltas};

/// Whose request it is.
pub(super) fn who(request: &ChatRequest) -> &str {
    let system = request.system.as_deref().unwrap();
    let name = system.strip_prefix("You are ").unwrap();
    name.split('.').next().unwrap()
}

pub(super) fn last(request: &ChatRequest) -> String {
    match request.messages.last().unwrap() {
        Said::User { text, .. } => text.clone(),
        Said::ToolResult { content, .. } => content.clone(),
        other @ Said::Assistant { .. } => panic!("{other:?}"),
    }
}

/// What a model was told of its calls, in their order.
pub(super) fn told(request: &ChatRequest) -> Vec<Value> {
    let result = |said: &Said| match said {
        Said::ToolResult { content, .. } => Some(serde_json::from_str(content).unwrap()),
        _ => None,
    };
    request.messages.iter().filter_map(result).collect()
}

/// A lead that makes these calls and then answers, and others that answer as they are told to.
pub(super) fn lead(
    calls: &'static [(&'static str, &'static str)],
    others: fn(&str, &ChatRequest) -> Answer,
) -> ScriptedModel {
    ScriptedModel::from_fn("test", move |request| {
        let answer =
            match (who(request), request.messages.len()) {
                ("lead", 1) => calls.iter().enumerate().fold(
                    Answer::new(),
                    |answer, (n, (name, arguments))| {
                        let arguments = serde_json::from_str(arguments).unwrap();
                        answer.tool_call(&format!("c{n}"), name, arguments)
                    },
                ),
                ("lead", _) => Answer::new().text("all done"),
                (other, _) => others(other, request),
            };
        answer.usage(10, 5)
    })
}

pub(super) fn of_agents<'a>(log: &'a [Event], name: &str) -> Vec<&'a Event> {
    log.iter()
        .filter(|event| event.kind.name() == name)
        .collect()
}

#[tokio::test]
async fn a_sub_agent_is_a_tool_of_its_model() {
    let house = House::with_model(lead(
        &[("agent_worker", r#"{"text": "count them"}"#)],
        |_, request| match request.messages.len() {
            1 => Answer::new()
                .text("I look. ")
                .tool_call("w", "count", json!({"n": 7})),
            _ => Answer::new().text(format!("found {}", last(request))),
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "all done"})));
    let expected = [
        "run_started",
        "agent_started",
        "agent_started",
        "tool_executing",
        "tool_completed",
        "agent_completed",
        "message_completed",
        "agent_completed",
        "run_completed",
    ];
    assert_eq!(names_without_deltas(&log), expected);
    let EventKind::AgentStarted {
        agent,
        parent_step,
        task,
    } = &log[2].kind
    else {
        panic!()
    };
    assert_eq!(
        (agent.as_str(), *parent_step, task.as_str()),
        ("worker", Some(1), "count them")
    );
    // Each round of a model is a step, whoever's it is.
    let steps: Vec<_> = log[2..6].iter().map(|event| event.step).collect();
    assert_eq!(steps, [Some(2), Some(2), Some(2), Some(2)]);
    let requests = house.model.requests();
    let tool = |name: &str| {
        let tools = requests[0].tools.iter();
        tools
            .clone()
            .find(|tool| tool.name == name)
            .unwrap()
            .clone()
    };
    assert_eq!(tool("agent_worker").description, "As worker");
    assert_eq!(tool("agent_clerk").input_schema["type"], "object");
    let worker = requests.iter().find(|request| who(request) == "worker");
    assert_eq!(worker.unwrap().messages, [Said::user("count them")]);
    assert_eq!(
        told(requests.last().unwrap()),
        [json!({"text": "found {\"n\":7}"})]
    );
    assert_eq!((run.usage.model_calls, run.usage.tool_calls), (4, 1));
    house.quiet().await;
}

#[tokio::test]
async fn a_sub_agent_may_do_less_than_who_calls_it() {
    let house = House::with_model(lead(
        &[("rights", "{}"), ("agent_worker", r#"{"text": "x"}"#)],
        |_, request| match request.messages.len() {
            1 => Answer::new().tool_call("w", "rights", json!({})),
            _ => Answer::new().text(last(request)),
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    house.ended(&ctx, run.id).await;
    let told = told(house.model.requests().last().unwrap());
    assert_eq!(
        told[0],
        json!(["read", "run", "files", "account", "approve"])
    );
    assert_eq!(told[1], json!({"text": "[\"read\",\"run\",\"files\"]"}));
    house.quiet().await;
}

#[tokio::test]
async fn several_sub_agents_work_at_once_and_answer_in_order() {
    let house = House::with_model(lead(
        &[
            ("agent_worker", r#"{"text": "one"}"#),
            ("agent_worker", r#"{"text": "two"}"#),
            ("hold", "{}"),
        ],
        |_, request| match request.messages.len() {
            1 => Answer::new().tool_call("w", "hold", json!({})),
            _ => match &request.messages[0] {
                Said::User { text, .. } => Answer::new().text(text.clone()),
                other => panic!("{other:?}"),
            },
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    house.held(3).await;
    house.let_go();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    let started: Vec<_> = of_agents(&log, "agent_started")
        .iter()
        .map(|event| event.step)
        .collect();
    assert_eq!(
        started,
        [Some(1), Some(2), Some(3)],
        "each has its own step"
    );
    let results = told(house.model.requests().last().unwrap());
    assert_eq!(
        results,
        [
            json!({"text": "one"}),
            json!({"text": "two"}),
            json!("let go")
        ]
    );
    house.quiet().await;
}

#[tokio::test]
async fn what_changes_something_is_one_after_the_other_whoever_calls_it() {
    let house = House::with_model(lead(
        &[
            ("agent_worker", r#"{"text": "one"}"#),
            ("agent_worker", r#"{"text": "two"}"#),
            ("agent_worker", r#"{"text": "three"}"#),
        ],
        |_, request| match request.messages.len() {
            1 => Answer::new().tool_call("w", "once", json!({"n": 1})),
            _ => Answer::new().text("ok"),
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    let mut calls = log
        .iter()
        .map(|event| event.kind.name())
        .filter(|name| name.starts_with("tool_"));
    for _ in 0..3 {
        assert_eq!(calls.next(), Some("tool_executing"));
        assert_eq!(calls.next(), Some("tool_completed"));
    }
    assert_eq!(house.counts.once.load(SeqCst), 3);
    house.quiet().await;
}

#[tokio::test]
async fn a_sub_agent_that_fails_is_an_answer_for_the_model() {
    for (call, code, words) in [
        (("agent_clerk", r#"{"n": 1}"#), "output_invalid", "required"),
        (("agent_clerk", r#"{"n": "x"}"#), "invalid_input", "/n"),
        (
            ("agent_worker", r#"{"text": "x"}"#),
            "model_unavailable",
            "took longer",
        ),
        (
            ("agent_broken", r#"{"text": "x"}"#),
            "agent_failed",
            "not ready",
        ),
        (
            ("agent_nobody", r#"{"text": "x"}"#),
            "tool_denied",
            "no tool",
        ),
    ] {
        let calls: &'static [_] = Box::leak(Box::new([call]));
        let house = House::with_model(lead(calls, |who, _| match who {
            "clerk" => Answer::new().text("{\"total\": 3}"),
            _ => Answer::refuse(ModelError::Timeout {
                provider: "p".into(),
                limit_ms: 1,
            }),
        }));
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
        let (run, _) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Completed, "{call:?}");
        let told = &told(house.model.requests().last().unwrap())[0]["error"];
        assert_eq!(told["code"], code, "{told}");
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
        house.quiet().await;
    }
}

#[tokio::test]
async fn the_limits_of_the_run_hold_for_its_sub_agents() {
    let deeper = || {
        ScriptedModel::from_fn("test", |_| {
            Answer::new().tool_call("c", "agent_lead", json!({"text": "deeper"}))
        })
    };
    for (limits, code, agents) in [
        (
            Limits {
                depth: 2,
                ..Limits::default()
            },
            ErrorCode::DepthLimitExceeded,
            3,
        ),
        (
            Limits {
                steps: 4,
                ..Limits::default()
            },
            ErrorCode::StepLimitExceeded,
            4,
        ),
    ] {
        let house = House::with_model(deeper());
        let ctx = house.user_with(limits).await;
        let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
        let (_, log) = house.ended(&ctx, run.id).await;
        assert_eq!(failure_of(&log).code, code);
        assert_eq!(of_agents(&log, "agent_started").len(), agents);
        assert_eq!(of_agents(&log, "agent_completed").len(), agents);
        house.quiet().await;
    }
}

#[tokio::test]
async fn a_limit_that_one_passes_ends_those_beside_it_in_order() {
    let house = House::with_model(lead(
        &[
            ("agent_worker", r#"{"text": "hold"}"#),
            ("agent_worker", r#"{"text": "count"}"#),
        ],
        |_, request| {
            let tool = match &request.messages[0] {
                Said::User { text, .. } if text == "hold" => "hold",
                _ => "count",
            };
            Answer::new().tool_call("w", tool, json!({}))
        },
    ));
    let ctx = house
        .user_with(Limits {
            tool_calls: 5,
            ..Limits::default()
        })
        .await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    assert_eq!(failure_of(&log).code, ErrorCode::ToolCallLimitExceeded);
    house.quiet().await;
}

fn yes() -> ResolveApproval {
    ResolveApproval {
        decision: Decision::Approve,
        note: None,
        arguments: None,
    }
}

#[tokio::test]
async fn a_question_waits_for_those_at_work_and_cuts_nothing_off() {
    let house = House::with_model(lead(
        &[
            ("agent_worker", r#"{"text": "consent"}"#),
            ("agent_worker", r#"{"text": "hold"}"#),
            ("agent_worker", r#"{"text": "consent"}"#),
        ],
        |_, request| match (&request.messages[0], request.messages.len()) {
            (Said::User { text, .. }, 1) => Answer::new().tool_call("w", text, json!({"n": 1})),
            _ => Answer::new().text("ok"),
        },
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lead", "go")).await.unwrap().run;
    house.held(1).await;
    house.let_go();
    house.seen(&ctx, run.id, "run_waiting").await;
    house.quiet().await;
    let open = house.store.approvals(&ctx, 10, None).await.unwrap().items;
    assert_eq!(open.len(), 2, "both are asked at once");
    for one in open {
        assert_eq!(one.state, ApprovalState::Pending);
        let approval = house.store.approval(&ctx, one.id).for_write().await;
        let answered = house.engine.answer(&ctx, &approval.unwrap(), yes()).await;
        answered.unwrap();
    }
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(of_agents(&log, "run_waiting").len(), 1);
    assert_eq!(
        of_agents(&log, "agent_started").len(),
        4,
        "{:?}",
        names(&log)
    );
    assert_eq!(
        of_agents(&log, "tool_executing").len(),
        3,
        "{:?}",
        names(&log)
    );
    assert_eq!(house.counts.consent.load(SeqCst), 2);
    house.quiet().await;
}

/// Two workers at once, one of them with a call that must not be made twice, and then a handoff.
fn team() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| {
        let answer = match (who(request), request.messages.len()) {
            ("lead", 1) => Answer::new()
                .text("I ask around. ")
                .tool_call("a", "agent_worker", json!({"text": "count"}))
                .tool_call("b", "agent_worker", json!({"text": "once"})),
            ("lead", _) => Answer::new().tool_call("h", "handoff_billing", json!({"message": "2"})),
            ("worker", 1) => Answer::new().tool_call("w", &last(request), json!({"n": 1})),
            ("worker", _) => Answer::new().text(last(request)),
            _ => Answer::new().text("There are ").text("two."),
        };
        answer.usage(10, 5)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_commits_of_a_team_changes_no_result() {
    let mut side_by_side = 0;
    let whole = every_state_taken_up(team, ask("lead", "how many?"), |taken, at| {
        assert_eq!(of_agents(&taken.log, "agent_started").len(), 4, "{at}");
        let open = of_agents(&taken.found, "agent_started").len()
            - of_agents(&taken.found, "agent_completed").len();
        side_by_side += usize::from(open == 3);
    })
    .await;
    assert_eq!(whole.result, Some(json!({"text": "There are two."})));
    assert!(side_by_side > 0, "no state had both workers at work");
}
