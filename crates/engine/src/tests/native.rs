//! Agents in Rust that do with their calls what Rust lets them do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use async_trait::async_trait;
use futures::future::{Either, join, select};
use netra_context::UserExecutionContext;
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::approval::Decision;
use netra_protocol::event::EventKind;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::{ErrorCode, Event};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::camera::to_the_end;
use super::house::{Build, House, ask, names};
use super::team::of_agents;
use crate::{Agent, AgentCall, AgentSpec, Stopped, Work};

type Working<'a> = Pin<Box<dyn Future<Output = Result<Value, Stopped>> + Send + 'a>>;
type Code = fn(Work<'_>, Arc<Notify>) -> Working<'_>;

/// An agent that does this.
struct Doing {
    name: &'static str,
    code: Code,
    /// With another one it is another agent.
    version: &'static str,
    /// Told by the test.
    now: Arc<Notify>,
}

#[async_trait]
impl Agent for Doing {
    fn name(&self) -> &str {
        self.name
    }

    fn spec(&self) -> AgentSpec {
        let tools = ["hold", "count", "once", "consent"];
        let sub_agents = match self.name {
            "boss" => vec!["helper".to_owned(), "worker".to_owned()],
            _ => vec!["worker".to_owned()],
        };
        AgentSpec {
            description: self.version.to_owned(),
            tools: tools.map(str::to_owned).to_vec(),
            sub_agents,
            ..AgentSpec::default()
        }
    }

    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
        (self.code)(work, Arc::clone(&self.now)).await
    }
}

/// A plan of a house with a boss and a helper of this code, and what tells them that it is time.
fn plan(
    model: ScriptedModel,
    boss: Code,
    helper: Code,
    version: &'static str,
) -> (Build, Arc<Notify>) {
    let now = Arc::new(Notify::new());
    let native = |name, code, version| {
        let now = Arc::clone(&now);
        Arc::new(Doing {
            name,
            code,
            version,
            now,
        }) as Arc<dyn Agent>
    };
    let build = Build {
        native: vec![native("boss", boss, "1"), native("helper", helper, version)],
        ..Build::new(model)
    };
    (build, now)
}

/// The house, whose helper does nothing.
fn house(boss: Code) -> (House, Arc<Notify>) {
    let (plan, now) = plan(holding(), boss, |_, _| Box::pin(async { done() }), "1");
    (House::build(plan), now)
}

/// A worker that holds a tool, and says so once it is let go.
fn holding() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new().tool_call("w", "hold", json!({})),
        _ => Answer::new().text("held"),
    })
}

fn done() -> Result<Value, Stopped> {
    Ok(json!({ "text": "done" }))
}

/// Begins this, and lets go of it when it is time.
async fn begin_and_drop(
    doing: impl Future<Output = Result<Value, Stopped>>,
    now: &Notify,
) -> Option<Result<Value, Stopped>> {
    match select(std::pin::pin!(doing), std::pin::pin!(now.notified())).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Runs the boss until a tool is held, tells that it is time, and gives the end of the run.
async fn held_and_told(code: Code) -> (House, UserExecutionContext, Run, Vec<Event>) {
    let (house, now) = house(code);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("boss", "go")).await.unwrap().run;
    house.held(1).await;
    now.notify_one();
    let (run, log) = house.ended(&ctx, run.id).await;
    house.quiet().await;
    (house, ctx, run, log)
}

fn failed_calls(log: &[Event]) -> Vec<ErrorCode> {
    let failed = |event: &Event| match &event.kind {
        EventKind::ToolCompleted { error, .. } => error.as_ref().map(|error| error.code),
        _ => None,
    };
    log.iter().filter_map(failed).collect()
}

#[tokio::test]
async fn a_tool_call_that_an_agent_in_rust_lets_go_of_is_closed_before_the_run_completes() {
    let (.., run, log) = held_and_told(|work, now| {
        Box::pin(async move {
            let held = begin_and_drop(work.tool("hold", json!({})), &now).await;
            assert!(held.is_none());
            work.tool("count", json!({"n": 1})).await?;
            done()
        })
    })
    .await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(failed_calls(&log), [ErrorCode::OutcomeUnknown]);
}

#[tokio::test]
async fn a_sub_agent_that_an_agent_in_rust_lets_go_of_is_closed_with_all_that_it_had_begun() {
    let (.., run, log) = held_and_told(|work, now| {
        Box::pin(async move {
            let held = begin_and_drop(work.agent("worker", json!("hold")), &now).await;
            assert!(held.is_none());
            done()
        })
    })
    .await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(failed_calls(&log), [ErrorCode::OutcomeUnknown]);
    assert_eq!(of_agents(&log, "agent_completed").len(), 2);
}

#[tokio::test]
async fn calls_that_an_agent_in_rust_lets_go_of_keep_nobody_from_asking_a_person() {
    let code: Code = |work, now| {
        Box::pin(async move {
            let call = |name: &str| AgentCall::Tool {
                name: name.to_owned(),
                arguments: serde_json::Map::new(),
            };
            let all = vec![call("hold"), call("hold"), call("count")];
            let held = async { work.together(all).await.map(|_| Value::Null) };
            // In a later attempt they are known to have failed.
            begin_and_drop(held, &now).await;
            work.tool("consent", json!({"n": 1})).await?;
            done()
        })
    };
    let (house, now) = house(code);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("boss", "go")).await.unwrap().run;
    house.held(2).await;
    now.notify_one();
    house.seen(&ctx, run.id, "run_waiting").await;
    now.notify_one();
    let (run, log, asked) = to_the_end(&house, &ctx, run.id, Decision::Approve).await;
    assert_eq!(
        (run.status, asked),
        (RunStatus::Completed, 1),
        "{:?}",
        run.error
    );
    assert_eq!(house.counts.consent.load(SeqCst), 1);
    assert!(
        of_agents(&log, "tool_executing").len() >= 3,
        "{:?}",
        names(&log)
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_question_beside_a_joined_call_of_an_agent_in_rust_waits_until_that_is_done() {
    let code: Code = |work, _| {
        Box::pin(async move {
            let (held, said) = join(
                work.tool("hold", json!({})),
                work.tool("consent", json!({"n": 1})),
            )
            .await;
            Ok(json!({ "said": said?["n"], "held": held? }))
        })
    };
    let (house, _) = house(code);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("boss", "go")).await.unwrap().run;
    house.held(1).await;
    assert!(
        !names(&house.log(&ctx, run.id).await).contains(&"run_waiting"),
        "a call is at work"
    );
    house.let_go();
    let (run, log, asked) = to_the_end(&house, &ctx, run.id, Decision::Approve).await;
    assert_eq!(run.result, Some(json!({"said": 1, "held": "let go"})));
    assert_eq!((asked, run.attempt), (1, 1));
    // Neither was made twice.
    assert_eq!(of_agents(&log, "tool_executing").len(), 2);
    house.quiet().await;
}

#[tokio::test]
async fn a_run_waits_for_a_person_whatever_its_agent_in_rust_makes_of_that() {
    let code: Code = |work, _| {
        Box::pin(async move {
            let said = work.tool("consent", json!({"n": 1})).await;
            let then = work.tool("count", json!({"n": 2})).await;
            Ok(json!({ "text": format!("{} {}", said.is_ok(), then.is_ok()) }))
        })
    };
    let (house, _) = house(code);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("boss", "go")).await.unwrap().run;
    house.seen(&ctx, run.id, "run_waiting").await;
    house.quiet().await;
    assert_eq!(house.counts.count.load(SeqCst), 0, "the run waits");
    let (run, ..) = to_the_end(&house, &ctx, run.id, Decision::Approve).await;
    assert_eq!(run.result, Some(json!({"text": "true true"})));
    house.quiet().await;
}

#[tokio::test]
async fn a_limit_of_the_run_ends_it_whatever_its_agent_in_rust_makes_of_that() {
    let code: Code = |work, _| {
        Box::pin(async move {
            for n in 0..60 {
                work.tool("count", json!({ "n": n })).await.ok();
            }
            done()
        })
    };
    let (house, _) = house(code);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("boss", "go")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(
        run.error.map(|error| error.code),
        Some(ErrorCode::StepLimitExceeded)
    );
    house.quiet().await;
}

const ASKS_HELPER: Code = |work, _| {
    Box::pin(async move {
        let helped = work.agent("helper", json!("go")).await;
        let code = match &helped {
            Err(stopped) => stopped.failure().map(|failure| failure.code),
            Ok(_) => None,
        };
        match code {
            None => helped,
            Some(code) => Ok(json!({ "text": code })),
        }
    })
};
const ASKS_WORKER: Code =
    |work, _| Box::pin(async move { work.agent("worker", json!("go")).await });

#[tokio::test]
async fn a_sub_agent_whose_version_is_gone_after_a_restart_is_closed_in_the_log_of_the_run_that_completes()
 {
    let (first, _) = plan(holding(), ASKS_HELPER, ASKS_WORKER, "1");
    let before = House::build(first);
    let ctx = before.user().await;
    before.recover().await;
    let run = before.start(&ctx, ask("boss", "go")).await.unwrap().run;
    before.held(1).await;
    let cut_off = before.copied();
    before.let_go();
    before.ended(&ctx, run.id).await;

    let (second, _) = plan(holding(), ASKS_HELPER, ASKS_WORKER, "2");
    let house = House::build(Build {
        dir: cut_off,
        ..second
    });
    let ctx = house.user_again(&ctx).await;
    assert_eq!(house.recover().await, 1);
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"text": "agent_failed"})));
    let ended = |event: &Event| match &event.kind {
        EventKind::AgentCompleted { agent, success, .. } => Some((agent.clone(), *success)),
        _ => None,
    };
    let ended: Vec<(String, bool)> = log.iter().filter_map(ended).collect();
    let expected = [("worker", false), ("helper", false), ("boss", true)];
    assert_eq!(
        ended,
        expected.map(|(agent, good)| (agent.to_owned(), good))
    );
    house.quiet().await;
}
