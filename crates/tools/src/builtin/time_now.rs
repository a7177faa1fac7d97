//! `time_now`: the time of day, so that an agent need not guess it.

use async_trait::async_trait;
use netra_protocol::Failure;
use netra_protocol::tool::Risk;
use serde_json::{Value, json};

use crate::tool::{Call, Tool, ToolSpec};

pub(super) struct TimeNow(ToolSpec);

impl TimeNow {
    pub(super) fn new() -> Self {
        Self(ToolSpec {
            name: "time_now".into(),
            description: "The current date and time in UTC.".into(),
            input_schema: json!({
                "type": "object", "properties": {}, "additionalProperties": false
            }),
            permission: "basic".into(),
            risk: Risk::Low,
            idempotent: true,
            needs_approval: false,
        })
    }
}

#[async_trait]
impl Tool for TimeNow {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        Ok(json!({ "now": call.ctx.runtime().now(), "time_zone": "UTC" }))
    }
}
