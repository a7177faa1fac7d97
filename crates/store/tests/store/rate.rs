//! Rates of tool calls: what many calls at once get, what a window is, and what a refused call leaves behind.

use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_protocol::run::Run;
use netra_store::{Changes, Error, JournalEntry, JournalKind, RatedCall, Writable};

use crate::fixture::Fixture;

fn call(tool: &str, permissions: &[&[&str]]) -> RatedCall {
    let rates = |all: &&[&str]| all.iter().map(|rate| rate.parse().unwrap()).collect();
    RatedCall {
        tool: tool.into(),
        permissions: permissions.iter().map(rates).collect(),
        begins: true,
    }
}

impl Fixture {
    async fn begin(
        &self,
        ctx: &UserExecutionContext,
        run: &Writable<Run>,
        rated: RatedCall,
    ) -> Result<(), Error> {
        let changes = Changes {
            journal: vec![JournalEntry {
                key: "0".into(),
                kind: JournalKind::ToolBegun,
                step: 1,
                value: serde_json::json!({}),
            }],
            rated: Some(Box::new(rated)),
            ..Changes::default()
        };
        let events = vec![self.thought(run, "begun")];
        self.store.commit(ctx, run, changes, events).await.map(drop)
    }
}

/// The rate that has no room.
fn refused(outcome: Result<(), Error>) -> String {
    let rate = match outcome.unwrap_err() {
        Error::RateExceeded { rate, .. } => Some(rate),
        _ => None,
    };
    rate.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_ten_calls_at_once_a_rate_of_five_lets_five_begin() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let all = (0..10).map(|_| fixture.begin(&ctx, &run, call("t", &[&["5/hour"]])));
    let outcomes = futures::future::join_all(all).await;
    let begun = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(begun, 5);
    let log = fixture.store.events(&ctx, 0, 100).await.unwrap();
    assert_eq!(log.len(), 5, "a refused call has left an event");
    // Another tool and another user have their own.
    fixture
        .begin(&ctx, &run, call("u", &[&["5/hour"]]))
        .await
        .unwrap();
    let other = fixture.user("bob").await;
    let run = fixture.run(&other).await;
    fixture
        .begin(&other, &run, call("t", &[&["5/hour"]]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refused_call_leaves_nothing_and_says_when_to_try_again() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let before = fixture.runtime.now();
    fixture
        .begin(&ctx, &run, call("t", &[&["1/minute"]]))
        .await
        .unwrap();
    let again = fixture.run(&ctx).await;
    let Err(Error::RateExceeded { until, .. }) = fixture
        .begin(&ctx, &again, call("t", &[&["1/minute"]]))
        .await
    else {
        panic!("it was let through")
    };
    let wait = until.millis_since(before);
    assert!((60_000..70_000).contains(&wait), "{wait}");
    let readable = fixture.store.run(&ctx, again.id).for_read().await.unwrap();
    let journal = fixture.store.journal(&ctx, &readable).await.unwrap();
    assert!(journal.get("0", JournalKind::ToolBegun).is_none());

    fixture.pass(Duration::from_secs(59));
    refused(
        fixture
            .begin(&ctx, &again, call("t", &[&["1/minute"]]))
            .await,
    );
    fixture.pass(Duration::from_secs(1));
    fixture
        .begin(&ctx, &again, call("t", &[&["1/minute"]]))
        .await
        .unwrap();
    refused(
        fixture
            .begin(&ctx, &again, call("t", &[&["1/minute"]]))
            .await,
    );
}

#[tokio::test]
async fn the_most_generous_permission_counts_and_each_of_its_rates_holds() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let both = || call("t", &[&["1/hour"], &["2/hour", "3/day"]]);
    for _ in 0..2 {
        fixture.begin(&ctx, &run, both()).await.unwrap();
    }
    refused(fixture.begin(&ctx, &run, both()).await);
    fixture.pass(Duration::from_secs(3_600));
    fixture.begin(&ctx, &run, both()).await.unwrap();
    // The day is used up, and so is the hour of the other permission.
    assert_eq!(refused(fixture.begin(&ctx, &run, both()).await), "1/hour");
    fixture.pass(Duration::from_secs(3_600));
    fixture.begin(&ctx, &run, both()).await.unwrap();
    let bounded = fixture
        .begin(&ctx, &run, call("t", &[&["9/hour", "3/day"]]))
        .await;
    assert_eq!(refused(bounded), "3/day");
    // Without a bound there is always room.
    fixture.begin(&ctx, &run, call("t", &[])).await.unwrap();
}

#[tokio::test]
async fn to_look_whether_there_is_room_counts_nothing() {
    let fixture = Fixture::new();
    let ctx = fixture.user("ada").await;
    let run = fixture.run(&ctx).await;
    let look = || RatedCall {
        begins: false,
        ..call("t", &[&["1/day"]])
    };
    for _ in 0..3 {
        fixture.begin(&ctx, &run, look()).await.unwrap();
    }
    fixture
        .begin(&ctx, &run, call("t", &[&["1/day"]]))
        .await
        .unwrap();
    refused(fixture.begin(&ctx, &run, look()).await);
}
