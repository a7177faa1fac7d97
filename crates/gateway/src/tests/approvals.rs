//! Questions to a person over REST and the WebSocket.

use async_trait::async_trait;
use netra_model::scripted::{Answer as Said, ScriptedModel};
use netra_protocol::Failure;
use netra_protocol::tool::Risk;
use netra_tools::{Call, Tool, ToolSpec};
use serde_json::json;

use super::sockets::{listen, open};
use super::*;

/// Wants the tool once, then is done.
pub(super) fn asking_model() -> ScriptedModel {
    ScriptedModel::from_fn("test", |request| match request.messages.len() {
        1 => Said::new().tool_call("a", "consent", json!({"n": 1})),
        _ => Said::new().text("done"),
    })
}

struct Consent(ToolSpec);

#[async_trait]
impl Tool for Consent {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        Ok(call.arguments)
    }
}

/// A tool that asks a person before each call.
pub(super) fn tool() -> Arc<dyn Tool> {
    Arc::new(Consent(ToolSpec {
        name: "consent".into(),
        description: "Asks first.".into(),
        input_schema: json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
        permission: "basic".into(),
        risk: Risk::High,
        idempotent: false,
        needs_approval: true,
    }))
}

impl Edge {
    /// Starts a run and waits until it waits; gives the run's and the approval's ids.
    pub(super) async fn asked(&self, token: &str) -> (String, String) {
        let run = json!({"agent": "asker", "input": "please"});
        let run = self.post("/api/runs", Some(token), run).await;
        assert_eq!(run.status, StatusCode::ACCEPTED, "{}", run.body);
        let id = run.body["id"].as_str().unwrap().to_owned();
        loop {
            let page = self.get("/api/approvals", token).await;
            let items = page.body["items"].as_array().unwrap().clone();
            let own = |one: &&Value| one["run_id"] == id.as_str();
            if let Some(approval) = items.iter().find(own) {
                assert_eq!(approval["state"], "pending");
                assert_eq!(approval["arguments"], json!({"n": 1}));
                return (id, approval["id"].as_str().unwrap().to_owned());
            }
            // Looking without a pause would reach the limit of requests before a busy machine asks.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn ended(&self, run: &str, token: &str) -> Value {
        self.get(&format!("/api/runs/{run}/wait"), token).await.body
    }
}

#[tokio::test]
async fn an_approval_is_listed_answered_once_and_its_run_goes_on() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let (run, approval) = edge.asked(&token).await;
    let waiting = edge.get(&format!("/api/runs/{run}"), &token).await;
    assert_eq!(waiting.body["status"], "waiting");
    let path = format!("/api/approvals/{approval}");
    let misfit = json!({"decision": "approve", "arguments": {"n": "x"}});
    let misfit = edge.post(&path, Some(&token), misfit).await;
    assert_eq!(misfit.refused(), (400, "invalid_input"));
    let unknown = edge
        .post(&path, Some(&token), json!({"decision": "perhaps"}))
        .await;
    assert_eq!(unknown.refused(), (400, "invalid_request"));
    let long = json!({"decision": "deny", "note": "x".repeat(2_001)});
    assert_eq!(edge.post(&path, Some(&token), long).await.status, 400);

    let edited = json!({"decision": "approve", "arguments": {"n": 7}});
    let answered = edge.post(&path, Some(&token), edited).await;
    assert_eq!(
        (answered.status, &answered.body["state"]),
        (StatusCode::OK, &json!("approved"))
    );
    let second = edge
        .post(&path, Some(&token), json!({"decision": "deny"}))
        .await;
    assert_eq!(second.refused(), (409, "approval_resolved"));
    let run = edge.ended(&run, &token).await;
    assert_eq!(
        (&run["status"], &run["attempt"]),
        (&json!("completed"), &json!(1))
    );
}

#[tokio::test]
async fn a_tool_that_asks_a_person_is_listed_as_one_that_does() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let tools = edge.get("/api/tools", &token).await;
    let listed = tools.body["items"].as_array().unwrap();
    let asks = listed.iter().find(|tool| tool["name"] == "consent");
    let asks = asks.unwrap();
    assert_eq!(
        (&asks["allowed"], &asks["needs_approval"]),
        (&json!(true), &json!(true))
    );
}

#[tokio::test]
async fn another_user_gets_the_same_404_as_for_one_that_is_not_there() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let (_, stranger) = edge.user("bert", Role::Admin).await;
    let (_, approval) = edge.asked(&token).await;
    let missing = netra_protocol::id::ApprovalId::from_parts(1, 1);
    // Looked up before the body is validated.
    for body in [json!({"decision": "approve"}), json!({"nonsense": true})] {
        let of_other = edge
            .post(
                &format!("/api/approvals/{approval}"),
                Some(&stranger),
                body.clone(),
            )
            .await;
        let of_none = edge
            .post(&format!("/api/approvals/{missing}"), Some(&stranger), body)
            .await;
        assert_eq!(of_other.refused(), (404, "not_found"));
        assert_eq!(
            of_other.body["error"]["message"],
            of_none.body["error"]["message"]
        );
    }
    let page = edge.get("/api/approvals", &stranger).await;
    assert_eq!(page.body["items"], json!([]));
}

#[tokio::test]
async fn an_approval_is_answered_over_the_socket() {
    let edge = Edge::new(Config::default());
    let (_, token) = edge.user("anna", Role::User).await;
    let (run, approval) = edge.asked(&token).await;
    let mut client = open(listen(&edge).await, &token).await;
    let respond = |id: u32| {
        json!({"type": "approval.respond", "id": id, "approval_id": approval,
               "decision": "deny", "note": "no"})
    };
    let ack = client.ask(respond(1)).await;
    assert_eq!(
        (&ack["type"], &ack["approval_id"]),
        (&json!("ack"), &json!(approval))
    );
    let second = client.ask(respond(2)).await;
    assert_eq!(second["error"]["code"], "approval_resolved");
    assert_eq!(edge.ended(&run, &token).await["status"], "completed");
}
