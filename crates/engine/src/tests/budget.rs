//! Budgets of model calls: over all runs of a user, in one run, and what failures, cancels and crashes cost.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use netra_context::UserExecutionContext;
use netra_model::scripted::{Answer, ScriptedModel, gate};
use netra_model::{Error, Price, tokens_of};
use netra_protocol::Event;
use netra_protocol::error::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_protocol::run::{Run, RunStatus};

use super::house::{Build, House, ask};

/// What is set aside for the assistant's call: its answer may have as much, and its request is small.
const CALL: u64 = 5_000;

fn tokens(budget: u64) -> Limits {
    Limits {
        concurrent_runs: 10,
        budget_tokens: Some(budget),
        ..Limits::default()
    }
}

fn failing(sent: bool) -> Answer {
    Answer::refuse(Error::Unavailable {
        provider: "test".into(),
        reason: "the connection broke".into(),
        sent,
    })
}

/// Asks for a pause that only a cancel ends within a test.
fn limited() -> Answer {
    Answer::refuse(Error::RateLimited {
        provider: "test".into(),
        retry_after: Some(Duration::from_secs(60)),
    })
}

fn unauthorized() -> Answer {
    Answer::refuse(Error::Unauthorized {
        provider: "test".into(),
        status: 401,
    })
}

fn error_of(run: &Run) -> (ErrorCode, String) {
    let error = run.error.clone().unwrap();
    let limit = error.details.unwrap()["limit"].as_str().unwrap().to_owned();
    (error.code, limit)
}

/// What the assistant's call sets aside, in tokens: one token has no room for it.
async fn set_aside(house: &House) -> u64 {
    let ctx = house.user_with(tokens(1)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    run.error.unwrap().details.unwrap()["wanted"]
        .as_f64()
        .unwrap() as u64
}

impl House {
    /// What the user's day has used and set aside, in tokens: with one of them as its budget, it has no room.
    pub(super) async fn used_today(&self, ctx: &UserExecutionContext) -> u64 {
        let ctx = self.user_again_with(ctx, tokens(1)).await;
        let run = self.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, _) = self.ended(&ctx, run.id).await;
        let details = run.error.unwrap().details.unwrap();
        details["used"].as_f64().unwrap() as u64
    }
}

fn warnings(log: &[Event]) -> Vec<String> {
    let warned = log.iter().filter_map(|event| match &event.kind {
        EventKind::LimitWarning { limit, .. } => Some(limit.clone()),
        _ => None,
    });
    warned.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_runs_at_once_with_a_budget_for_six_calls_make_six() {
    // All six wait in the model until the others were refused, so that none is settled before.
    let (hold, open) = gate();
    let model = ScriptedModel::from_fn("test", move |_| {
        Answer::new().wait(hold.clone()).text("done").usage(10, 5)
    });
    let house = House::with_model(model);
    let ctx = house.user_with(tokens(6 * CALL)).await;
    let started = join_all((0..10).map(|_| house.start(&ctx, ask("assistant", "x")))).await;
    let runs: Vec<_> = started.into_iter().map(|run| run.unwrap().run.id).collect();
    let mut open_streams = house.model.open_streams();
    open_streams.wait_for(|open| *open == 6).await.unwrap();
    let mut ends: FuturesUnordered<_> = runs.iter().map(|id| house.ended(&ctx, *id)).collect();
    for _ in 0..4 {
        let (run, _) = ends.next().await.unwrap();
        let exceeded = (ErrorCode::BudgetExceeded, "budget_tokens".to_owned());
        assert_eq!(error_of(&run), exceeded);
    }
    open.open();
    while let Some((run, _)) = ends.next().await {
        assert_eq!(run.status, RunStatus::Completed);
    }
    assert_eq!(house.model.requests().len(), 6);
    // Settled with 15 tokens each, there is room again.
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
}

#[tokio::test]
async fn money_is_bounded_where_the_price_is_known_and_80_percent_are_told_once() {
    // 4,096 tokens of an answer at a dollar for a million, and the request.
    let price = Price {
        input_usd: 0.0,
        output_usd: 1_000.0,
    };
    let answer = |_: &_| Answer::new().text("done").usage(10, 1_000);
    let house = House::with_model(ScriptedModel::from_fn("test", answer).priced(price));
    let dollars = |usd| Limits {
        budget_usd: Some(usd),
        ..Limits::default()
    };
    let ctx = house.user_with(dollars(5.0)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!((run.status, warnings(&log)), (RunStatus::Completed, vec![]));
    // A dollar is used, and 4.096 may be.
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    let exceeded = (ErrorCode::BudgetExceeded, "budget_usd".to_owned());
    assert_eq!(error_of(&run), exceeded);

    let house = House::with_model(ScriptedModel::from_fn("test", answer));
    let ctx = house.user_with(dollars(0.000_001)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!((run.status, warnings(&log)), (RunStatus::Completed, vec![]));
}

#[tokio::test]
async fn a_run_is_warned_once_when_80_percent_are_used() {
    let rounds = |request: &netra_model::ChatRequest| match request.messages.len() {
        1 | 3 => Answer::new()
            .tool_call("c", "time_now", serde_json::json!({}))
            .usage(8_000, 1_000),
        _ => Answer::new().text("done").usage(100, 10),
    };
    let house = House::with_model(ScriptedModel::from_fn("test", rounds));
    let ctx = house.user_with(tokens(22_000 + CALL)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(warnings(&log), Vec::<String>::new());
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(warnings(&log), ["budget_tokens"]);
}

#[tokio::test]
async fn a_run_that_goes_on_after_a_restart_is_not_warned_of_the_same_budget_again() {
    let rounds = |request: &netra_model::ChatRequest| match request.messages.len() {
        1 => Answer::new()
            .tool_call("c", "hold", serde_json::json!({}))
            .usage(23_000, 1_000),
        _ => Answer::new().text("done").usage(100, 10),
    };
    let model = || ScriptedModel::from_fn("test", rounds);
    let limits = tokens(30_000);
    let house = House::with_model(model());
    let ctx = house.user_with(limits.clone()).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.held(1).await;
    assert_eq!(warnings(&house.log(&ctx, run.id).await), ["budget_tokens"]);
    let house = house.restarted_within(model(), limits);
    let ctx = house.user_again(&ctx).await;
    assert_eq!(house.recover().await, 1);
    house.let_go();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(warnings(&log), ["budget_tokens"]);
    assert_eq!(house.used_today(&ctx).await, 24_110);
}

#[tokio::test]
async fn a_call_that_fails_costs_nothing_and_one_that_was_cut_off_what_there_was() {
    let (hold, opener) = gate();
    let hanging = Answer::new().text("so far").wait(hold).text("never");
    let house = House::answering([
        unauthorized(),
        unauthorized(),
        hanging,
        Answer::new().text("done"),
    ]);
    let ctx = house.user_with(tokens(set_aside(&house).await)).await;
    for _ in 0..2 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, _) = house.ended(&ctx, run.id).await;
        assert_eq!(run.error.unwrap().code, ErrorCode::ModelNotConfigured);
    }
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    opener.reached().await;
    house.cancel(&ctx, run.id).await.unwrap();
    house.ended(&ctx, run.id).await;
    // What the cancelled call has used leaves less than a call may use.
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    let details = run.error.unwrap().details.unwrap();
    let used = details["used"].as_f64().unwrap();
    assert!(used > 0.0 && used < 2_000.0, "{used}");
}

#[tokio::test]
async fn a_call_that_broke_when_the_provider_had_all_of_it_counts_its_request() {
    let house = House::answering([false, true].map(failing));
    let limits = Limits {
        // Too short for another try.
        model_call_ms: 200,
        ..tokens(1_000_000)
    };
    let ctx = house.user_with(limits).await;
    let mut used = Vec::new();
    for _ in 0..2 {
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, _) = house.ended(&ctx, run.id).await;
        assert_eq!(run.error.unwrap().code, ErrorCode::ModelUnavailable);
        used.push(house.used_today(&ctx).await);
    }
    assert!(used[0] == 0 && (1..2_000).contains(&used[1]), "{used:?}");
}

/// What the assistant's request counts as, in tokens.
async fn request() -> u64 {
    let house = House::answering([Answer::new().text("done")]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    house.ended(&ctx, run.id).await;
    // It is reckoned before it is any model's.
    let mut asked = house.model.requests().swap_remove(0);
    asked.model.clear();
    tokens_of(&asked)
}

#[tokio::test]
async fn a_call_that_is_dropped_during_its_second_try_counts_the_first_one_too() {
    let (hold, opener) = gate();
    let house = House::answering([failing(true), Answer::new().wait(hold)]);
    let ctx = house.user_with(tokens(1_000_000)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    opener.reached().await;
    house.cancel(&ctx, run.id).await.unwrap();
    house.ended(&ctx, run.id).await;
    assert_eq!(house.used_today(&ctx).await, 2 * request().await);
}

#[tokio::test]
async fn a_call_that_is_dropped_between_two_tries_counts_those_that_were_read() {
    let request = request().await;
    for (tries, read) in [
        (vec![limited()], 0),
        (vec![failing(false), limited()], 0),
        (vec![failing(true), limited()], 1),
    ] {
        let pauses = tries.len();
        let house = House::answering(tries);
        let ctx = house.user_with(tokens(1_000_000)).await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let told = |log: &[Event]| {
            let thoughts = log.iter().filter(|one| one.kind.name() == "agent_thinking");
            thoughts.count() == pauses
        };
        house.until(&ctx, run.id, told).await;
        house.cancel(&ctx, run.id).await.unwrap();
        house.ended(&ctx, run.id).await;
        assert_eq!(house.used_today(&ctx).await, read * request);
    }
}

#[tokio::test]
async fn the_model_that_answers_in_anothers_place_adds_its_own_to_the_tries_that_were_read() {
    let request = request().await;
    for (tries, read) in [
        (vec![unauthorized()], 0),
        (vec![failing(true), unauthorized()], 1),
        (vec![failing(true), failing(false), failing(true)], 2),
    ] {
        let answer = Answer::new().text("done").usage(10, 5);
        let script = tries.into_iter().chain([answer]);
        let house = House::build(Build {
            fallback: vec!["test/second".parse().unwrap()],
            ..Build::new(ScriptedModel::new("test", script))
        });
        let ctx = house.user_with(tokens(1_000_000)).await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, _) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
        assert_eq!(house.used_today(&ctx).await, read * request + 15);
    }
}

#[tokio::test]
async fn an_answer_after_tries_that_were_read_counts_as_its_provider_says_and_each_of_them_once() {
    let answer = Answer::new().text("done").usage(10, 5);
    let house = House::answering([failing(true), failing(true), answer]);
    let ctx = house.user_with(tokens(1_000_000)).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    assert_eq!(house.used_today(&ctx).await, 2 * request().await + 15);
}

#[tokio::test]
async fn a_budget_cuts_no_answer_at_4096_tokens_where_the_model_gives_longer_ones_and_there_is_room()
 {
    for (budget, longest) in [(60_000, 50_000), (20_000, 4_096)] {
        let answer = |_: &_| Answer::new().text("done").usage(10, 5);
        let model = ScriptedModel::from_fn("test", answer);
        let house = House::with_model(model.with_longest_answer(50_000));
        let ctx = house.user_with(tokens(budget)).await;
        let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
        let (run, _) = house.ended(&ctx, run.id).await;
        assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
        let asked = house.model.requests()[0].max_output_tokens;
        assert_eq!(asked, Some(longest), "of a budget of {budget}");
    }
}

#[tokio::test]
async fn what_a_crash_cut_off_is_counted_as_it_was_set_aside() {
    let (hold, opener) = gate();
    let house = House::answering([Answer::new().wait(hold)]);
    let limits = tokens(CALL);
    let ctx = house.user_with(limits.clone()).await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    opener.reached().await;
    let house = house.restarted(ScriptedModel::new("test", [Answer::new().text("again")]));
    let ctx = house.user_again(&ctx).await;
    // The one that goes on has the server's limits, which bound nothing here.
    assert_eq!(house.recover().await, 1);
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    let bounded = house.user_again_with(&ctx, limits).await;
    let run = house
        .start(&bounded, ask("assistant", "x"))
        .await
        .unwrap()
        .run;
    let (run, _) = house.ended(&bounded, run.id).await;
    let details = run.error.unwrap().details.unwrap();
    assert!(details["used"].as_f64().unwrap() > 4_000.0, "{details}");
}
