//! What agents keep in threads from run to run.

use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::ErrorCode;
use netra_protocol::error::Failure;
use netra_protocol::run::{Run, RunStatus};
use netra_store::{Changes, JournalEntry, JournalKind, RunUpdate, Target, Writable};
use serde_json::{Value, json};

use crate::fixture::Fixture;

impl Fixture {
    /// Another run on the thread of this one.
    async fn next(&self, ctx: &UserExecutionContext, before: &Writable<Run>) -> Writable<Run> {
        let thread = self.store.thread(ctx, before.thread_id).for_write().await;
        let target = Target::Thread(thread.unwrap());
        let made = self.store.run_create(ctx, target, self.new_run(), None);
        made.await.unwrap().value
    }

    /// Something done, and something kept.
    async fn keep_state(&self, ctx: &UserExecutionContext, run: &Writable<Run>, n: u32) {
        let entry = |key: &str, kind, value| JournalEntry {
            key: key.into(),
            kind,
            step: 1,
            value,
        };
        let changes = Changes {
            journal: vec![
                entry("1", JournalKind::ModelCall, json!({})),
                entry("counter", JournalKind::State, json!({ "n": n })),
            ],
            ..Changes::default()
        };
        let commit = self.store.commit(ctx, run, changes, Vec::new());
        commit.await.unwrap();
    }

    async fn fail(&self, ctx: &UserExecutionContext, run: &Writable<Run>) {
        let update = RunUpdate {
            error: Some(Failure::new(ErrorCode::AgentFailed, "no")),
            ..RunUpdate::to(RunStatus::Failed)
        };
        let changes = Changes {
            run: Some(update),
            ..Changes::default()
        };
        let commit = self.store.commit(ctx, run, changes, Vec::new());
        commit.await.unwrap();
    }

    async fn state(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        agent: &str,
    ) -> Option<Value> {
        let state = self.store.agent_state(ctx, run.as_readable(), agent);
        state.await.unwrap()
    }

    /// How many calls and states the journal of an ended run still has.
    async fn left(&self, ctx: &UserExecutionContext, run: &Writable<Run>) -> (usize, usize) {
        let journal = self.store.journal(ctx, run.as_readable()).await.unwrap();
        let count = |kind| journal.of_kind(kind).count();
        (count(JournalKind::ModelCall), count(JournalKind::State))
    }
}

#[tokio::test]
async fn what_an_agent_keeps_in_a_thread_outlives_the_journal_until_it_keeps_something_else() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let first = fixture.run(&alice).await;
    fixture.keep_state(&alice, &first, 1).await;
    fixture.end(&alice, &first).await;
    let second = fixture.next(&alice, &first).await;
    let state = fixture.state(&alice, &second, "counter").await;
    assert_eq!(state, Some(json!({"n": 1})));
    fixture.keep_state(&alice, &second, 2).await;
    fixture.end(&alice, &second).await;
    fixture.pass(Duration::from_secs(61));
    fixture.store.fold(&fixture.sweeper()).await.unwrap();
    let third = fixture.next(&alice, &first).await;
    let state = fixture.state(&alice, &third, "counter").await;
    assert_eq!(state, Some(json!({"n": 2})));
    assert_eq!(fixture.state(&alice, &third, "another").await, None);
    assert_eq!(fixture.left(&alice, &first).await, (0, 0));
    assert_eq!(fixture.left(&alice, &second).await, (0, 1));
    // Another thread, and with it another user, has nothing of it.
    let other = fixture.run(&alice).await;
    assert_eq!(fixture.state(&alice, &other, "counter").await, None);
}

#[tokio::test]
async fn what_an_agent_kept_in_a_run_that_failed_is_seen_by_no_other_run_and_takes_nothings_place()
{
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let first = fixture.run(&alice).await;
    fixture.keep_state(&alice, &first, 1).await;
    fixture.end(&alice, &first).await;
    let failed = fixture.next(&alice, &first).await;
    fixture.keep_state(&alice, &failed, 2).await;
    let own = fixture.state(&alice, &failed, "counter").await;
    assert_eq!(own, Some(json!({"n": 2})), "the run itself sees it");
    let next = fixture.next(&alice, &first).await;
    let before = Some(json!({"n": 1}));
    assert_eq!(fixture.state(&alice, &next, "counter").await, before);
    fixture.fail(&alice, &failed).await;
    assert_eq!(fixture.state(&alice, &next, "counter").await, before);
    fixture.pass(Duration::from_secs(61));
    fixture.store.fold(&fixture.sweeper()).await.unwrap();
    assert_eq!(fixture.state(&alice, &next, "counter").await, before);
    assert_eq!(fixture.left(&alice, &failed).await, (0, 0));
}
