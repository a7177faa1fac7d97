//! Results that have to fit a schema, and agents that stop by themselves.

use netra_model::scripted::{Answer, ScriptedModel};
use netra_model::{Message as Said, StopReason};
use netra_protocol::event::EventKind;
use netra_protocol::message::{Content, MessageRole};
use netra_protocol::run::RunStatus;
use netra_protocol::{ErrorCode, Event};
use serde_json::json;

use super::house::{House, ask, failure_of, names_without_deltas};

/// The whole messages in the log, as text.
fn messages(log: &[Event]) -> Vec<String> {
    let message = |event: &Event| match &event.kind {
        EventKind::MessageCompleted { content, .. } => match &content[..] {
            [Content::Text { text }, ..] => Some(text.clone()),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    log.iter().filter_map(message).collect()
}

#[tokio::test]
async fn a_result_comes_by_the_final_answer_or_as_json() {
    for answer in [
        Answer::new()
            .text("here it is")
            .tool_call("f", "final_answer", json!({"answer": 42})),
        Answer::new().text("{\"answer\": 42}"),
        Answer::new().text("```json\n{\"answer\": 42}\n```"),
    ] {
        let house = House::answering([answer]);
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("careful", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.result, Some(json!({"answer": 42})));
        assert_eq!(messages(&log), ["{\"answer\":42}"]);
        let request = &house.model.requests()[0];
        let last = request.tools.last().unwrap();
        assert_eq!(
            (last.name.as_str(), &last.input_schema["required"]),
            ("final_answer", &json!(["answer"]))
        );
        assert!(
            request
                .system
                .as_ref()
                .unwrap()
                .ends_with("calling `final_answer`.")
        );
        assert_eq!(run.usage.tool_calls, 0, "it is no tool of the dispatcher");
        house.quiet().await;
    }
}

#[tokio::test]
async fn what_does_not_fit_goes_back_with_the_validators_words_a_few_times() {
    let wrong = [
        Answer::new().tool_call("f", "final_answer", json!({"wrong": 1})),
        Answer::new().invalid_tool_call("f", "final_answer", "{oops"),
        Answer::new().text("forty-two"),
        Answer::new()
            .tool_call("f", "final_answer", json!({"answer": 1}))
            .tool_call("g", "count", json!({"n": 1})),
    ];
    let words = [
        "\"answer\" is a required property",
        "not JSON",
        "not JSON",
        "called alone",
    ];
    for (wrong, words) in wrong.into_iter().zip(words) {
        let right = Answer::new().tool_call("f", "final_answer", json!({"answer": 42}));
        let house = House::answering([wrong.clone(), right, wrong.clone(), wrong]);
        let ctx = house.user().await;
        let run = house.start(&ctx, ask("careful", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.result, Some(json!({"answer": 42})));
        assert_eq!(messages(&log).len(), 1, "only what fits is told");
        let told = &house.model.requests()[1].messages;
        let (Said::User { text, .. } | Said::ToolResult { content: text, .. }) =
            told.last().unwrap()
        else {
            panic!()
        };
        let text = text.replace("\\\"", "\"");
        assert!(text.contains(words), "{text}");
        // It is mended once and no more.
        let run = house.start(&ctx, ask("careful", "x")).await.unwrap().run;
        let (run, log) = house.ended(&ctx, run.id).await;
        assert_eq!(run.usage.model_calls, 2);
        let failure = failure_of(&log);
        assert_eq!(failure.code, ErrorCode::OutputInvalid);
        assert!(failure.message.contains(words), "{failure:?}");
        house.quiet().await;
    }
}

#[tokio::test]
async fn a_provider_that_holds_to_schemas_is_given_the_schema() {
    let answers = [
        Answer::new().text("{\"wrong\": 1}"),
        Answer::new().text("{\"answer\": 42}"),
    ];
    let house = House::with_model(ScriptedModel::new("test", answers).with_native_schema());
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("careful", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!({"answer": 42})));
    let requests = house.model.requests();
    for request in &requests {
        let schema = request.response_schema.as_ref().unwrap();
        assert_eq!(schema["required"], json!(["answer"]));
        assert!(request.tools.iter().all(|tool| tool.name != "final_answer"));
    }
    let Said::User { text, .. } = requests[1].messages.last().unwrap() else {
        panic!()
    };
    assert!(
        text.contains("required") && text.contains("JSON Schema"),
        "{text}"
    );
    house.quiet().await;
}

#[tokio::test]
async fn a_result_that_no_tool_can_take_is_asked_for_as_json() {
    let cut = Answer::new().text("[1, 2").stop(StopReason::MaxTokens);
    let house = House::answering([cut, Answer::new().text("[1, 2]")]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("lister", "x")).await.unwrap().run;
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.result, Some(json!([1, 2])));
    let requests = house.model.requests();
    assert!(requests[0].tools.is_empty());
    let system = requests[0].system.as_deref().unwrap();
    assert!(system.ends_with("{\"type\":\"array\"}"), "{system}");
    let Said::User { text, .. } = requests[1].messages.last().unwrap() else {
        panic!()
    };
    assert!(text.contains("cut at the limit"), "{text}");
    house.quiet().await;
}

#[tokio::test]
async fn an_agent_asks_its_model_no_more_often_than_it_may() {
    let round = || Answer::new().tool_call("c", "count", json!({"n": 1}));
    let house = House::answering([round(), round(), round()]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("brief", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    let failure = failure_of(&log);
    assert_eq!(failure.code, ErrorCode::AgentFailed);
    assert!(failure.message.contains("2 times"), "{failure:?}");
    assert_eq!((run.usage.model_calls, run.usage.tool_calls), (2, 2));
    house.quiet().await;
}

#[tokio::test]
async fn an_agent_stops_after_the_tool_that_it_is_to_stop_after() {
    let house = House::with_model(ScriptedModel::new(
        "test",
        [
            Answer::new().tool_call("a", "fail", json!({})),
            Answer::new()
                .tool_call("b", "time_now", json!({}))
                .tool_call("c", "count", json!({"n": 5})),
        ],
    ));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("stopper", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(
        run.result,
        Some(json!({"n": 5})),
        "a call that fails is no reason to stop"
    );
    assert_eq!(run.usage.model_calls, 2);
    assert_eq!(
        names_without_deltas(&log)
            .iter()
            .filter(|name| **name == "tool_completed")
            .count(),
        3
    );
    let thread = house
        .store
        .thread(&ctx, run.thread_id)
        .for_read()
        .await
        .unwrap();
    let said = house.store.messages(&ctx, &thread, 10, None).await.unwrap();
    let said = said
        .items
        .iter()
        .filter(|message| message.role == MessageRole::Assistant);
    assert_eq!(said.count(), 1, "the thread has an answer");
    house.quiet().await;
}

#[tokio::test]
async fn a_text_that_was_cut_at_the_limit_of_its_tokens_does_not_pass_for_the_whole() {
    let cut = Answer::new().text("one two").stop(StopReason::MaxTokens);
    let house = House::answering([cut]);
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("assistant", "x")).await.unwrap().run;
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed);
    let result = json!({"text": "one two", "finish_reason": "max_tokens"});
    assert_eq!(run.result, Some(result));
    let incomplete = log.iter().find_map(|event| match &event.kind {
        EventKind::MessageCompleted { incomplete, .. } => Some(*incomplete),
        _ => None,
    });
    assert_eq!(incomplete, Some(true));
    let told = log.iter().any(|event| match &event.kind {
        EventKind::AgentThinking { message, .. } => message.contains("cut at the limit"),
        _ => false,
    });
    assert!(told, "{:?}", names_without_deltas(&log));
    let thread = house.store.thread(&ctx, run.thread_id).for_read();
    let thread = thread.await.unwrap();
    let stored = house.store.messages(&ctx, &thread, 10, None).await.unwrap();
    assert!(!stored.items.last().unwrap().complete);
    house.quiet().await;
}

#[tokio::test]
async fn what_is_left_of_a_cut_result_is_no_result_even_where_it_fits() {
    let cut = |_: &_| {
        let answer = json!({"answer": 4});
        let called = Answer::new().tool_call("f", "final_answer", answer);
        called.stop(StopReason::MaxTokens)
    };
    let house = House::with_model(ScriptedModel::from_fn("test", cut));
    let ctx = house.user().await;
    let run = house.start(&ctx, ask("careful", "x")).await.unwrap().run;
    let (_, log) = house.ended(&ctx, run.id).await;
    let failure = failure_of(&log);
    assert_eq!(failure.code, ErrorCode::OutputInvalid);
    assert!(failure.message.contains("cut at the limit"), "{failure:?}");
    house.quiet().await;
}
