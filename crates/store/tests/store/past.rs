//! What is past its time: folding, retention, and what is noted of what was deleted.

use std::time::Duration;

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::event::EventKind;
use netra_protocol::id::MessageId;
use netra_protocol::run::Run;
use netra_store::{Changes, Error, Writable};

use crate::fixture::Fixture;

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl Fixture {
    pub(crate) fn sweeper(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Sweep)
    }

    /// A run that has said something in three pieces, and a thought.
    async fn talked(&self, ctx: &UserExecutionContext) -> Writable<Run> {
        let run = self.run(ctx).await;
        let message_id = self.runtime.new_id(MessageId::from_parts);
        let piece = |text: &str| {
            let kind = EventKind::MessageDelta {
                message_id,
                delta: text.into(),
            };
            self.event(&run, kind)
        };
        let events = vec![piece("a"), self.thought(&run, "hm"), piece("b"), piece("c")];
        self.store
            .commit(ctx, &run, Changes::default(), events)
            .await
            .unwrap();
        run
    }

    pub(crate) async fn end(&self, ctx: &UserExecutionContext, run: &Writable<Run>) {
        let (changes, event) = self.ending(run);
        self.store
            .commit(ctx, run, changes, vec![event])
            .await
            .unwrap();
    }

    async fn seqs(&self, ctx: &UserExecutionContext) -> Vec<u64> {
        let entries = self.store.events(ctx, 0, 1_000).await.unwrap();
        entries.iter().map(|entry| entry.seq).collect()
    }
}

#[tokio::test]
async fn the_pieces_of_an_ended_run_are_folded_after_a_minute_and_those_of_others_stay() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let ended = fixture.talked(&alice).await;
    fixture.end(&alice, &ended).await;
    fixture.talked(&alice).await;
    let sweeper = fixture.sweeper();
    assert_eq!(fixture.store.fold(&sweeper).await.unwrap(), 0, "too early");
    fixture.pass(Duration::from_secs(61));
    assert_eq!(fixture.store.fold(&sweeper).await.unwrap(), 3);
    assert_eq!(fixture.store.fold(&sweeper).await.unwrap(), 0, "once");
    // 1 to 5 were the ended run's, 2 its thought and 5 its end.
    assert_eq!(fixture.seqs(&alice).await, [2, 5, 6, 7, 8, 9]);
    let bounds = fixture.store.log_bounds(&alice).await.unwrap();
    assert_eq!((bounds.oldest_seq, bounds.latest_seq), (1, 9));
    let refused = fixture.store.fold(&alice).await;
    assert!(matches!(refused, Err(Error::Forbidden)));
}

#[tokio::test]
async fn retention_cuts_the_beginning_of_a_log_up_to_the_first_run_that_stays() {
    let fixture = Fixture::new();
    let alice = fixture.user("alice").await;
    let bob = fixture.user("bob").await;
    let first = fixture.talked(&alice).await;
    fixture.end(&alice, &first).await;
    let open = fixture.talked(&alice).await;
    let late = fixture.talked(&alice).await;
    fixture.end(&alice, &late).await;
    let other = fixture.talked(&bob).await;
    fixture.end(&bob, &other).await;
    fixture.pass(2 * DAY);
    let day_ago = fixture.runtime.now().plus_millis(-24 * 3_600 * 1_000);
    let expired = fixture.store.expire(&fixture.sweeper(), day_ago).await;
    assert_eq!(expired.unwrap(), 10);
    // The run that has not ended keeps its events, and all that came after its begin.
    assert_eq!(fixture.seqs(&alice).await[0], 6);
    let bounds = fixture.store.log_bounds(&alice).await.unwrap();
    assert_eq!((bounds.oldest_seq, bounds.latest_seq), (6, 14));
    assert!(fixture.seqs(&bob).await.is_empty());
    let bounds = fixture.store.log_bounds(&bob).await.unwrap();
    assert_eq!((bounds.oldest_seq, bounds.latest_seq), (6, 5));

    fixture.end(&alice, &open).await;
    fixture.pass(2 * DAY);
    let day_ago = fixture.runtime.now().plus_millis(-24 * 3_600 * 1_000);
    let expired = fixture.store.expire(&fixture.sweeper(), day_ago).await;
    assert_eq!(expired.unwrap(), 10);
    assert!(fixture.seqs(&alice).await.is_empty());
    // A new run goes on in the same numbers.
    let next = fixture.talked(&alice).await;
    fixture.end(&alice, &next).await;
    assert_eq!(fixture.seqs(&alice).await[0], 16);
}
