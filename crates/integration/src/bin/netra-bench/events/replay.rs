//! Replay: how fast a client that was away gets a long log.

use std::time::Instant;

use anyhow::{Context as _, Result};
use netra_context::{Principal, Rights, Runtime, UserExecutionContext};
use netra_events::Hub;
use netra_protocol::account::Role;
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::{Event, account::Plan};
use netra_store::{Changes, Config, NewRun, Store, Target};
use serde_json::{Map, Value, json};

use super::line::Line;
use crate::server;

const EVENTS: usize = 100_000;
const BATCH: usize = 1_000;

pub(super) async fn measure() -> Result<Value> {
    let data = tempfile::tempdir()?;
    let server = server::start(data.path(), &[]).await?;
    let users = server::users(&server, data.path(), 1).await?;
    let id = users[0].me().await?.id;
    fill(data.path(), id).await?;
    let token = users[0].token().unwrap_or_default();
    let mut rates = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let mut line = Line::subscribed(server.url(), &token, Some(0)).await?;
        line.take(EVENTS).await?;
        rates.push(EVENTS as f64 / began.elapsed().as_secs_f64());
    }
    Ok(json!({
        "events": EVENTS,
        "events_per_second": super::fanout::median(rates),
    }))
}

/// Writes a long log beside the server: by runs it would take minutes.
async fn fill(data: &std::path::Path, user_id: UserId) -> Result<()> {
    let runtime = Runtime::new();
    let config = Config {
        dir: data.to_owned(),
        audit_key: netra_store::AuditKey::new([7; 32]),
    };
    let store = Store::open(&runtime, config, Hub::new())?;
    let principal = Principal {
        user_id,
        role: Role::User,
        plan: Plan::Free,
        rights: Rights::of_role(Role::User),
        limits: std::sync::Arc::new(Limits::default()),
        session: None,
    };
    let ctx = UserExecutionContext::for_test(&runtime, principal);
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "long".into(),
    };
    let new = NewRun {
        id: runtime.new_id(RunId::from_parts),
        agent: "echo".into(),
        agent_hash: String::new(),
        input: json!("x"),
        files: Vec::new(),
        metadata: Map::new(),
        timeout_ms: 1_000,
        deadline: runtime.now(),
        input_message_id: runtime.new_id(MessageId::from_parts),
        started: true,
        events: Vec::new(),
    };
    let run = store.run_create(&ctx, target, new, None).await?.value;
    for _ in 0..EVENTS / BATCH {
        let event = |_| Event {
            event_id: runtime.new_id(EventId::from_parts),
            ts: runtime.now(),
            thread_id: run.thread_id,
            run_id: run.id,
            agent: Some("echo".into()),
            step: Some(1),
            kind: EventKind::AgentThinking {
                message: "x".repeat(30),
                progress: None,
            },
        };
        let events: Vec<Event> = (0..BATCH).map(event).collect();
        store
            .commit(&ctx, &run, Changes::default(), events)
            .await
            .context("a long log")?;
    }
    Ok(())
}
