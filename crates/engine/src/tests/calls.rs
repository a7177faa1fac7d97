//! Which model answers, what the user is told of it, what is kept, and what a later attempt finds.

use std::sync::atomic::{AtomicUsize, Ordering};

use netra_context::UserExecutionContext;
use netra_model::scripted::{Answer, Gate, ScriptedModel, gate};
use netra_model::{ChatRequest, Error};
use netra_protocol::Event;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::{Run, RunStatus};
use serde_json::{Value, json};

use super::house::{Build, House, ask};

fn thoughts(log: &[Event]) -> Vec<String> {
    let thoughts = log.iter().filter_map(|event| match &event.kind {
        EventKind::AgentThinking { message, .. } => Some(message.clone()),
        _ => None,
    });
    thoughts.collect()
}

fn text(run: &Run) -> Value {
    run.result.clone().unwrap()["text"].clone()
}

async fn run_of(
    house: &House,
    ctx: &UserExecutionContext,
    agent: &str,
    words: &str,
) -> (Run, Vec<Event>) {
    let run = house.start(ctx, ask(agent, words)).await.unwrap().run;
    house.ended(ctx, run.id).await
}

#[tokio::test]
async fn the_next_model_answers_and_the_user_is_told_in_whose_place() {
    let model = ScriptedModel::from_fn("test", |request: &ChatRequest| {
        let refused = Error::Unauthorized {
            provider: "test".into(),
            status: 401,
        };
        match request.model.as_str() {
            "third" => Answer::new().text("hello").usage(1, 1),
            _ => Answer::refuse(refused),
        }
    });
    let house = House::build(Build {
        fallback: ["test/second", "test/third"]
            .map(|name| name.parse().unwrap())
            .to_vec(),
        ..Build::new(model)
    });
    let ctx = house.user().await;
    let (run, log) = run_of(&house, &ctx, "assistant", "x").await;
    assert_eq!((text(&run), run.usage.model_calls), (json!("hello"), 1));
    let told = thoughts(&log);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].ends_with("test/second answers in place of test/model"),
        "{told:?}"
    );
    assert!(
        told[1].ends_with("test/third answers in place of test/second"),
        "{told:?}"
    );
    let asked = house.model.requests().into_iter();
    let asked: Vec<_> = asked.map(|request| request.model).collect();
    assert_eq!(asked, ["model", "second", "third"]);
}

#[tokio::test]
async fn what_a_request_itself_is_refused_for_goes_to_nobody_else() {
    let refused = Answer::refuse(Error::InvalidRequest {
        provider: "test".into(),
        status: 400,
        code: None,
        param: None,
    });
    let house = House::build(Build {
        fallback: vec!["test/second".parse().unwrap()],
        ..Build::new(ScriptedModel::new("test", [refused]))
    });
    let ctx = house.user().await;
    let (run, _) = run_of(&house, &ctx, "assistant", "x").await;
    assert_eq!(
        (run.status, house.model.requests().len()),
        (RunStatus::Failed, 1)
    );
}

/// Says the number of its call.
fn numbered() -> ScriptedModel {
    let calls = AtomicUsize::new(0);
    ScriptedModel::from_fn("test", move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        Answer::new().text(format!("answer {call}")).usage(10, 5)
    })
}

#[tokio::test]
async fn the_same_request_of_the_same_user_is_answered_from_the_cache_and_nobody_elses() {
    let house = House::with_model(numbered());
    let budget = Limits {
        budget_tokens: Some(100_000),
        ..Limits::default()
    };
    let (ada, bob) = (house.user_with(budget).await, house.user().await);
    let (first, log) = run_of(&house, &ada, "thrifty", "x").await;
    assert_eq!((text(&first), thoughts(&log).len()), (json!("answer 0"), 0));
    assert_eq!((first.usage.model_calls, first.usage.input_tokens), (1, 10));

    let (again, log) = run_of(&house, &ada, "thrifty", "x").await;
    assert_eq!(text(&again), json!("answer 0"));
    let told = thoughts(&log);
    assert!(
        told.len() == 1 && told[0].contains("from the cache"),
        "{told:?}"
    );
    let usage = &again.usage;
    assert_eq!((usage.model_calls, usage.input_tokens), (0, 0));
    assert_eq!(usage.cost_usd, Some(0.0));

    let (other, log) = run_of(&house, &bob, "thrifty", "x").await;
    assert_eq!((text(&other), thoughts(&log).len()), (json!("answer 1"), 0));
    let (another, _) = run_of(&house, &ada, "thrifty", "y").await;
    assert_eq!(text(&another), json!("answer 2"));
    // An agent that does not ask for it has none.
    for expected in ["answer 3", "answer 4"] {
        let (run, _) = run_of(&house, &ada, "assistant", "x").await;
        assert_eq!(text(&run), json!(expected));
    }
}

#[tokio::test]
async fn an_answer_that_stood_in_under_a_budget_is_found_again_without_one() {
    let calls = AtomicUsize::new(0);
    let model = ScriptedModel::from_fn("test", move |request: &ChatRequest| {
        if request.model == "second" {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            return Answer::new().text(format!("answer {call}")).usage(10, 5);
        }
        Answer::refuse(Error::Unauthorized {
            provider: "test".into(),
            status: 401,
        })
    });
    let house = House::build(Build {
        fallback: vec!["test/second".parse().unwrap()],
        ..Build::new(model)
    });
    let bounded = house
        .user_with(Limits {
            budget_tokens: Some(100_000),
            ..Limits::default()
        })
        .await;
    // The budget bounds the answer of the model that refuses, and with it the call, not what is asked.
    let (first, _) = run_of(&house, &bounded, "thrifty", "x").await;
    assert!(house.model.requests()[0].max_output_tokens.is_some());
    let unbounded = house.user_again(&bounded).await;
    let (again, _) = run_of(&house, &unbounded, "thrifty", "x").await;
    assert_eq!(
        (text(&first), text(&again)),
        (json!("answer 0"), json!("answer 0"))
    );
    assert_eq!(again.usage.input_tokens, 0);
}

/// Wants a tool, and then hangs where it can.
fn two_rounds(hold: Option<Gate>) -> ScriptedModel {
    ScriptedModel::from_fn("test", move |request: &ChatRequest| {
        match (request.messages.len(), &hold) {
            (1, _) => Answer::new()
                .tool_call("c", "time_now", json!({}))
                .usage(10, 5),
            (_, Some(hold)) => Answer::new().wait(hold.clone()),
            _ => Answer::new().text("done").usage(10, 5),
        }
    })
}

#[tokio::test]
async fn an_attempt_after_a_crash_counts_an_answer_from_the_cache_as_no_call() {
    let (hold, opener) = gate();
    let house = House::with_model(two_rounds(Some(hold)));
    let ctx = house.user().await;
    // The first answer is kept by a run that hangs after it, and given to the next one.
    let hangs = house.start(&ctx, ask("thrifty", "x")).await.unwrap().run;
    opener.reached().await;
    house.cancel(&ctx, hangs.id).await.unwrap();
    house.ended(&ctx, hangs.id).await;
    let run = house.start(&ctx, ask("thrifty", "x")).await.unwrap().run;
    house.seen(&ctx, run.id, "tool_completed").await;
    let house = house.restarted(two_rounds(None));
    let ctx = house.user_again(&ctx).await;
    assert_eq!(house.recover().await, 1);
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(text(&run), json!("done"));
    assert_eq!((run.usage.model_calls, run.usage.input_tokens), (1, 10));
}
