//! What a run was given of its user's secrets is in nothing that it tells, the model's context too.

use netra_context::{Secret, UserExecutionContext};
use netra_model::scripted::{Answer, ScriptedModel};
use netra_protocol::event::EventKind;
use netra_protocol::run::RunStatus;
use netra_store::secret::NewSecret;
use serde_json::{Value, json};

use super::house::{CANARY, House, ask};
use super::waiting::{waiting, yes};

/// Keeps the secret `wiki`, bound to where the tool of the tests sends it.
async fn keep_secret(house: &House, ctx: &UserExecutionContext) {
    let new = NewSecret {
        name: "wiki".into(),
        value: Secret::new(CANARY),
        places: vec!["api.example.com".into()],
    };
    house.secrets.put(ctx, new).await.unwrap();
}

/// Sends a secret, asks a person, and calls what gives the secret back.
fn careless() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Answer::new().tool_call("a", "sends", json!({})),
        3 => Answer::new().tool_call("b", "consent", json!({"n": 1})),
        5 => Answer::new().tool_call("c", "blabs", json!({})),
        _ => Answer::new().text("done"),
    })
}

/// What was left of a run's secrets was forgotten with its engine.
#[tokio::test]
async fn a_secret_that_was_given_before_an_approval_is_taken_out_after_it() {
    let house = House::with_model(careless());
    let ctx = house.user().await;
    keep_secret(&house, &ctx).await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    house.quiet().await;
    house.engine.answer(&ctx, &approval, yes()).await.unwrap();
    let (run, log) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
    let given: Vec<&Value> = log
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::ToolCompleted {
                tool_name, result, ..
            } if tool_name == "blabs" => Some(result),
            _ => None,
        })
        .collect();
    let clean = json!({ "of": "[secret wiki]", "within": r#"{"a":"[secret wiki]"}"# });
    assert_eq!(given, [&clean]);
    let told = serde_json::to_string(&log).unwrap();
    assert!(!told.contains("rd & é"), "{told}");
    let models = serde_json::to_string(&house.model.requests()).unwrap();
    assert!(models.matches("[secret wiki]").count() > 3, "{models}");
    assert!(!models.contains("rd & é"), "{models}");
}

/// Of a secret that is gone there is nothing left to look for; the run goes on.
#[tokio::test]
async fn a_run_goes_on_when_its_secret_was_deleted_while_it_waited() {
    let house = House::with_model(careless());
    let ctx = house.user().await;
    keep_secret(&house, &ctx).await;
    let (run, approval) = waiting(&house, &ctx, ask("assistant", "x")).await;
    house.quiet().await;
    let secret = house
        .secrets
        .find(&ctx, "wiki".into())
        .for_write()
        .await
        .unwrap();
    house.secrets.delete(&ctx, secret).await.unwrap();
    house.engine.answer(&ctx, &approval, yes()).await.unwrap();
    let (run, _) = house.ended(&ctx, run.id).await;
    assert_eq!(run.status, RunStatus::Completed, "{:?}", run.error);
}
