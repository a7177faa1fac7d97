//! What calls of tools used: counted with their ends or not at all, told for 90 days, to their own user.

use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::event::EventKind;
use netra_protocol::id::ToolCallId;
use netra_protocol::run::Run;
use netra_protocol::usage::ToolUsage;
use netra_store::{Changes, Error, Writable};
use serde_json::Value;

use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Fixture {
    /// Ends a call of the tool, which took 7 ms and gave 9 bytes.
    async fn end_call(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        tool: &str,
    ) -> Result<(), Error> {
        let kind = EventKind::ToolCompleted {
            tool_call_id: self.runtime.new_id(ToolCallId::from_parts),
            tool_name: tool.into(),
            success: tool != "fails",
            duration_ms: 7,
            result: Value::Null,
            result_bytes: 9,
            error: None,
        };
        let events = vec![self.event(run, kind)];
        let commit = self.store.commit(ctx, run, Changes::default(), events);
        commit.await.map(drop)
    }
}

fn used(tool: &str, calls: u64, failed: u64) -> ToolUsage {
    ToolUsage {
        tool: tool.into(),
        calls,
        failed,
        denied: 0,
        duration_ms: 7 * calls,
        result_bytes: 9 * calls,
    }
}

#[tokio::test]
async fn a_call_whose_end_is_not_written_is_not_counted() {
    let fixture = Fixture::new();
    let (ada, bob) = (fixture.user("ada").await, fixture.user("bob").await);
    let run = fixture.run(&ada).await;
    for tool in ["fails", "works", "works"] {
        fixture.end_call(&ada, &run, tool).await.unwrap();
    }
    let (changes, event) = fixture.ending(&run);
    let ended = fixture.store.commit(&ada, &run, changes, vec![event]);
    ended.await.unwrap();
    let late = fixture.end_call(&ada, &run, "works").await;
    assert!(matches!(late, Err(Error::RunEnded)), "{late:?}");
    let told = fixture.store.tool_usage(&ada).await.unwrap();
    assert_eq!(told, [used("works", 2, 0), used("fails", 1, 1)]);
    assert_eq!(fixture.store.tool_usage(&bob).await.unwrap(), []);
}

#[tokio::test]
async fn days_are_added_up_and_told_of_for_90_days() {
    let fixture = Fixture::new();
    let ada = fixture.user("ada").await;
    let run = fixture.run(&ada).await;
    for tool in ["old", "both"] {
        fixture.end_call(&ada, &run, tool).await.unwrap();
    }
    fixture.pass(DAY * 89);
    fixture.end_call(&ada, &run, "both").await.unwrap();
    let told = fixture.store.tool_usage(&ada).await.unwrap();
    assert_eq!(told, [used("both", 2, 0), used("old", 1, 0)]);
    fixture.pass(DAY);
    let told = fixture.store.tool_usage(&ada).await.unwrap();
    assert_eq!(told, [used("both", 1, 0)]);
}
