//! `earlier_result`: what an agent found out before in the same thread, so that a question about it can be answered.

use async_trait::async_trait;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::tool::Risk;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::tool::{Call, Tool, ToolSpec};

pub(super) struct EarlierResult(ToolSpec);

#[derive(Deserialize)]
struct Of {
    agent: Option<String>,
}

impl EarlierResult {
    pub(super) fn new() -> Self {
        Self(ToolSpec {
            name: "earlier_result".into(),
            description: "The result of the newest completed run in this thread, before this one; of this agent, or of \
                          another one by its name. Without such a run all is null."
                .into(),
            input_schema: json!({
                "type": "object",
                "properties": {
                    "agent": { "type": "string", "maxLength": 64, "description": "The calling agent when absent." }
                },
                "additionalProperties": false
            }),
            permission: "basic".into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        })
    }
}

#[async_trait]
impl Tool for EarlierResult {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let Of { agent } = call.arguments_as()?;
        let agent = agent.as_deref().unwrap_or(call.caller.agent);
        let (store, run) = (call.scope.store(), call.scope.emitter().run());
        let found = store
            .run_before(call.ctx, run, agent)
            .await
            .map_err(|error| {
                Failure::new(
                    ErrorCode::ToolFailed,
                    format!("earlier runs cannot be read: {error}"),
                )
            })?;
        Ok(match found {
            Some(run) => json!({
                "run_id": run.id, "agent": run.agent, "ended_at": run.ended_at, "result": run.result,
            }),
            None => json!({ "run_id": null, "agent": agent, "ended_at": null, "result": null }),
        })
    }
}
