//! Delivery from outside, over a real store: replay joins live without gap or repetition.

#![expect(clippy::unwrap_used, reason = "a test may fail this way")]
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_events::{
    Delivery, Emission, Error, Filter, Hub, Start, Subscription, UserWebSocketEmitter,
    WebSocketBridgeFactory,
};
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{MessageId, RunId, ThreadId};
use netra_protocol::limits::Limits;
use netra_protocol::run::RunStatus;
use netra_store::{Changes, Config, NewRun, NewUser, RunUpdate, Store, Target};

struct Fixture {
    runtime: Runtime,
    store: Store,
    hub: Arc<Hub>,
    bridge: WebSocketBridgeFactory,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new();
        let hub = Hub::new();
        let config = Config {
            dir: dir.path().to_owned(),
            audit_key: netra_store::AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let store = Store::open(&runtime, config, hub.clone()).unwrap();
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub.clone());
        Self {
            runtime,
            store,
            hub,
            bridge,
            _dir: dir,
        }
    }

    async fn user(&self, name: &str) -> UserExecutionContext {
        let kind = BackgroundKind::Authentication;
        let background = UserExecutionContext::for_background(&self.runtime, kind);
        let new = NewUser {
            name: name.into(),
            role: Role::User,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = self.store.user_create(&background, new).await.unwrap();
        let principal = Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            groups: user.groups.clone().into(),
            rights: Rights::of_role(user.role),
            limits: Arc::new(Limits::default()),
            session: None,
        };
        UserExecutionContext::for_test(&self.runtime, principal)
    }

    async fn emitter(&self, ctx: &UserExecutionContext) -> UserWebSocketEmitter {
        let new = NewRun {
            id: self.runtime.new_id(RunId::from_parts),
            agent: "echo".into(),
            agent_hash: String::new(),
            input: serde_json::json!("hello"),
            files: Vec::new(),
            metadata: serde_json::Map::new(),
            timeout_ms: 1_000,
            deadline: self.runtime.now(),
            input_message_id: self.runtime.new_id(MessageId::from_parts),
            started: true,
            over_nodes: None,
            events: Vec::new(),
        };
        let id = self.runtime.new_id(ThreadId::from_parts);
        let target = Target::New {
            id,
            title: String::new(),
        };
        let run = self
            .store
            .run_create(ctx, target, new, None)
            .await
            .unwrap()
            .value;
        self.bridge.create_emitter(&run)
    }
}

fn thought(text: &str) -> Emission {
    let kind = EventKind::AgentThinking {
        message: text.into(),
        progress: None,
    };
    Emission::of_agent("echo", 1, kind)
}

/// Reads until the event with this number has come, and checks the chain of `prev`.
async fn read_through(subscription: &mut Subscription, last: u64) -> Vec<u64> {
    let mut sent = subscription.after;
    let mut numbers = Vec::new();
    while sent < last {
        for delivery in subscription.next().await.unwrap() {
            match delivery {
                Delivery::Position { seq } => {
                    assert!(seq >= sent);
                    sent = seq;
                }
                Delivery::Event { prev, entry } => {
                    assert_eq!(prev, sent, "nothing is missed");
                    sent = entry.seq;
                    numbers.push(entry.seq);
                }
            }
        }
    }
    numbers
}

#[tokio::test]
async fn replay_then_live_is_complete_while_others_append() {
    let fixture = Fixture::new();
    let ctx = Arc::new(fixture.user("alice").await);
    let emitter = fixture.emitter(&ctx).await;
    for _ in 0..300 {
        emitter.emit(&ctx, vec![thought("before")]).await.unwrap();
    }
    let writer = {
        let ctx = Arc::clone(&ctx);
        fixture
            .runtime
            .spawn(netra_context::runtime::TaskKind::Part, async move {
                for _ in 0..700 {
                    emitter
                        .emit(&ctx, vec![thought("meanwhile")])
                        .await
                        .unwrap();
                }
            })
    };
    let subscribe = |after| {
        fixture
            .bridge
            .subscribe(&ctx, Start::After(after), None, Filter::all())
    };
    let (mut all, mut some) = (subscribe(0).await.unwrap(), subscribe(120).await.unwrap());
    let (all, some) = tokio::join!(read_through(&mut all, 1000), read_through(&mut some, 1000));
    writer.await.unwrap().unwrap();
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
    assert_eq!(some, (121..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slow_subscription_goes_back_to_the_log_and_misses_nothing() {
    let fixture = Fixture::new();
    let ctx = fixture.user("alice").await;
    let emitter = fixture.emitter(&ctx).await;
    let mut slow = fixture
        .bridge
        .subscribe(&ctx, Start::Now, None, Filter::all())
        .await
        .unwrap();
    let first = slow.next().await.unwrap();
    assert!(matches!(first[..], [Delivery::Position { seq: 0 }]));
    // More than a mailbox holds, while nobody reads.
    for _ in 0..15 {
        emitter
            .emit(&ctx, (0..100).map(|_| thought("flood")).collect())
            .await
            .unwrap();
    }
    assert_eq!(
        read_through(&mut slow, 1500).await,
        (1..=1500).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn nobody_gets_anything_of_another_user() {
    let fixture = Fixture::new();
    let (alice, bob) = (fixture.user("alice").await, fixture.user("bob").await);
    let (of_alice, of_bob) = (fixture.emitter(&alice).await, fixture.emitter(&bob).await);
    let mut subscription = fixture
        .bridge
        .subscribe(&bob, Start::After(0), None, Filter::all())
        .await
        .unwrap();
    for _ in 0..50 {
        of_alice
            .emit(&alice, vec![thought("secret")])
            .await
            .unwrap();
    }
    of_bob.emit(&bob, vec![thought("mine")]).await.unwrap();
    let mut frames = String::new();
    while !frames.contains("mine") {
        for delivery in subscription.next().await.unwrap() {
            frames.push_str(&delivery.frame());
        }
    }
    assert!(!frames.contains("secret"));
    assert!(!frames.contains(&of_alice.run().id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn what_a_filter_leaves_out_moves_the_position_once_per_heartbeat() {
    let fixture = Fixture::new();
    let ctx = fixture.user("alice").await;
    let emitter = fixture.emitter(&ctx).await;
    let none = Filter {
        threads: Some(HashSet::new()),
        ..Filter::all()
    };
    let mut subscription = fixture
        .bridge
        .subscribe(&ctx, Start::Now, None, none)
        .await
        .unwrap();
    subscription.next().await.unwrap();
    emitter
        .emit(&ctx, vec![thought("a"), thought("b")])
        .await
        .unwrap();
    let before = tokio::time::Instant::now();
    let deliveries = subscription.next().await.unwrap();
    assert!(matches!(deliveries[..], [Delivery::Position { seq: 2 }]));
    assert!(before.elapsed() >= Duration::from_secs(29));
}

#[tokio::test]
async fn a_cursor_of_another_log_or_beyond_the_end_is_refused() {
    let fixture = Fixture::new();
    let ctx = fixture.user("alice").await;
    let emitter = fixture.emitter(&ctx).await;
    emitter.emit(&ctx, vec![thought("a")]).await.unwrap();
    let subscribe = |after, epoch| {
        fixture
            .bridge
            .subscribe(&ctx, Start::After(after), epoch, Filter::all())
    };
    assert!(subscribe(1, Some(fixture.store.epoch())).await.is_ok());
    for (after, epoch) in [(2, None), (u64::MAX, None), (1, Some("another"))] {
        assert!(matches!(
            subscribe(after, epoch).await,
            Err(Error::CursorExpired {
                latest_seq: 1,
                oldest_seq: 1,
                ..
            })
        ));
    }
}

#[tokio::test]
async fn deltas_are_joined_and_stand_before_what_follows_them() {
    let fixture = Fixture::new();
    let ctx = fixture.user("alice").await;
    let emitter = fixture.emitter(&ctx).await;
    let message_id = fixture.runtime.new_id(MessageId::from_parts);
    for word in ["to", "ge", "ther"] {
        emitter
            .delta(&ctx, "echo", 1, message_id, word)
            .await
            .unwrap();
    }
    emitter.emit(&ctx, vec![thought("after")]).await.unwrap();
    let log = fixture.store.events(&ctx, 0, 10).await.unwrap();
    let kinds: Vec<_> = log.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["message_delta", "agent_thinking"]);
    assert!(log[0].json().contains("\"delta\":\"together\""));
}

#[tokio::test]
async fn a_lone_delta_is_due_after_a_moment() {
    let fixture = Fixture::new();
    let ctx = fixture.user("alice").await;
    let emitter = fixture.emitter(&ctx).await;
    let message_id = fixture.runtime.new_id(MessageId::from_parts);
    emitter
        .delta(&ctx, "echo", 1, message_id, "alone")
        .await
        .unwrap();
    assert_eq!(fixture.store.latest_seq(&ctx).await.unwrap(), 0);
    emitter.flush_due().await;
    emitter.flush(&ctx).await.unwrap();
    assert_eq!(fixture.store.latest_seq(&ctx).await.unwrap(), 1);
}

#[tokio::test]
async fn waiting_for_a_run_ends_with_it_and_leaves_no_mailbox() {
    let fixture = Fixture::new();
    let ctx = Arc::new(fixture.user("alice").await);
    let emitter = fixture.emitter(&ctx).await;
    let id = emitter.run().id;
    let waiting = {
        let (bridge, ctx) = (fixture.bridge.clone(), Arc::clone(&ctx));
        let wait = async move { bridge.wait_run(&ctx, id, Duration::from_secs(60)).await };
        fixture
            .runtime
            .spawn(netra_context::runtime::TaskKind::Part, wait)
    };
    while fixture.hub.mailboxes() == 0 {
        tokio::task::yield_now().await;
    }
    let update = RunUpdate::to(RunStatus::Completed);
    let changes = Changes {
        run: Some(update),
        ..Changes::default()
    };
    let kind = EventKind::RunCompleted {
        result: serde_json::Value::Null,
        result_truncated: false,
        usage: netra_protocol::usage::RunUsage::default(),
        duration_ms: 0,
    };
    emitter
        .commit(&ctx, changes, vec![Emission::of_run(kind)])
        .await
        .unwrap();
    let ended = waiting.await.unwrap().unwrap().unwrap();
    assert_eq!(ended.status, RunStatus::Completed);
    assert_eq!(fixture.hub.mailboxes(), 0);
    let still = fixture.emitter(&ctx).await;
    let run = fixture
        .bridge
        .wait_run(&ctx, still.run().id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(run.status, RunStatus::Running);
}
