//! What a user does: of everything that the store keeps for users something, and every way to read it.

use std::collections::BTreeMap;

use netra_context::{Rights, Secret, UserExecutionContext};
use netra_protocol::account::Role;
use netra_protocol::approval::{Approval, ApprovalState};
use netra_protocol::id::{ApprovalId, ToolCallId};
use netra_protocol::run::Run;
use netra_protocol::thread::{CreateThread, ForkThread};
use netra_store::secret::NewSecret;
use netra_store::{
    Ask, Changes, Idempotency, JournalEntry, JournalKind, NewKey, NewToolServer, Readable, Target,
    Writable,
};
use serde_json::json;

use crate::fixture::Fixture;

/// More than one page of a list that shows two at a time.
pub(super) const RUNS: usize = 5;

/// Keeps something of everything; `number` tells the users apart where something may be there once only.
pub(super) async fn keep(fixture: &Fixture, ctx: &UserExecutionContext, number: u8) {
    let (store, runtime) = (&fixture.store, &fixture.runtime);
    for n in 0..RUNS {
        let run = fixture.run(ctx).await;
        let changes = Changes {
            journal: vec![
                entry("1", JournalKind::ModelCall),
                entry("counter", JournalKind::State),
            ],
            asks: vec![ask(fixture, &run, n)],
            ..Changes::default()
        };
        let events = vec![fixture.thought(&run, "a"), fixture.thought(&run, "b")];
        store.commit(ctx, &run, changes, events).await.unwrap();
        let (changes, event) = fixture.ending(&run);
        store.commit(ctx, &run, changes, vec![event]).await.unwrap();
    }
    let file = fixture.upload(ctx).await.finish(None).await;
    file.unwrap();
    let note = store.note_keep(ctx, "colour".into(), "It is blue.".into());
    note.await.unwrap();
    let secret = NewSecret {
        name: "wiki".into(),
        value: Secret::new("a-secret-value"),
        places: vec!["api.example".into()],
    };
    fixture.secrets().await.put(ctx, secret).await.unwrap();
    let key = NewKey {
        name: "key".into(),
        rights: Rights::of_role(Role::User),
        expires_at: None,
        hash: [number; 32],
    };
    store.key_create(ctx, key, None).await.unwrap();
    let server = NewToolServer {
        name: "server".into(),
        url: "https://example.com".into(),
        host: "example.com".into(),
        headers: BTreeMap::new(),
    };
    store.tool_server_put(ctx, server).await.unwrap();
    let (user, end) = (ctx.user_id().unwrap(), runtime.now().plus_millis(60_000));
    let background = fixture.background();
    let session = store.session_create(&background, user, [number; 32], end);
    session.await.unwrap();
    let once = once();
    let thread = store.thread_create(ctx, CreateThread::default(), Some(&once));
    thread.await.unwrap();
}

fn entry(key: &str, kind: JournalKind) -> JournalEntry {
    JournalEntry {
        key: key.into(),
        kind,
        step: 1,
        value: json!({ "n": 1 }),
    }
}

fn ask(fixture: &Fixture, run: &Run, n: usize) -> Ask {
    let approval = Approval {
        id: fixture.runtime.new_id(ApprovalId::from_parts),
        run_id: run.id,
        tool_call_id: fixture.runtime.new_id(ToolCallId::from_parts),
        tool_name: "t".into(),
        arguments: json!({}),
        reason: "r".into(),
        state: ApprovalState::Pending,
        expires_at: fixture.runtime.now().plus_millis(60_000),
    };
    Ask {
        approval,
        agent: "a".into(),
        step: 1,
        key: n.to_string(),
    }
}

fn once() -> Idempotency {
    Idempotency {
        key: "k".into(),
        operation: "thread_create".into(),
        body_hash: [1; 32],
    }
}

/// All that the store tells this user, as text.
pub(super) async fn told(fixture: &Fixture, ctx: &UserExecutionContext) -> Vec<String> {
    let store = &fixture.store;
    let mut told = Vec::new();
    let mut tell = |what: &str, said: &dyn std::fmt::Debug| told.push(format!("{what}: {said:?}"));
    let runs = store.runs(ctx, 2, None).await.unwrap();
    let next = runs.next_cursor.clone();
    tell("runs", &runs.items);
    tell(
        "more runs",
        &store.runs(ctx, 100, next.as_deref()).await.unwrap().items,
    );
    for query in [None, Some("hello")] {
        let threads = store.threads(ctx, query, 2, None).await.unwrap();
        tell("threads", &threads.items);
        let next = threads.next_cursor;
        let threads = store.threads(ctx, query, 100, next.as_deref()).await;
        tell("more threads", &threads.unwrap().items);
    }
    for run in &runs.items {
        let run = store.run(ctx, run.id).for_read().await.unwrap();
        tell("of a run", &of_run(fixture, ctx, &run).await);
    }
    tell("log", &store.log_bounds(ctx).await.unwrap());
    tell(
        "events",
        &entries(&store.events(ctx, 0, 1_000).await.unwrap()),
    );
    let within = store.events_within(ctx, 2, 1_000, 1_000_000).await;
    tell("events within", &entries(&within.unwrap()));
    tell(
        "approvals",
        &store.approvals(ctx, 100, None).await.unwrap().items,
    );
    tell("files", &store.files(ctx, 100, None).await.unwrap().items);
    tell("notes", &store.notes(ctx, None, 10).await.unwrap().1);
    tell(
        "found",
        &store.notes(ctx, Some("blue".into()), 10).await.unwrap().1,
    );
    tell("secrets", &store.secret_list(ctx).await.unwrap());
    tell("keys", &store.keys(ctx, 100, None).await.unwrap().items);
    tell("servers", &store.tool_servers(ctx).await.unwrap().len());
    tell("sessions", &store.sessions(ctx).await.unwrap());
    tell("usage", &store.usage(ctx).await.unwrap());
    tell("tools", &store.tool_usage(ctx).await.unwrap());
    tell("audit", &store.audit(ctx, 100, None).await.unwrap().items);
    let once = once();
    let again = store.replayed::<netra_protocol::thread::Thread>(ctx, &once);
    tell("again", &again.await.unwrap());
    told
}

async fn of_run(fixture: &Fixture, ctx: &UserExecutionContext, run: &Readable<Run>) -> String {
    let store = &fixture.store;
    let thread = store.thread(ctx, run.thread_id).for_read().await.unwrap();
    let writable = store.run(ctx, run.id).for_write().await.unwrap();
    format!(
        "{:?}",
        (
            store.messages(ctx, &thread, 100, None).await.unwrap().items,
            store.run_events(ctx, run).await.unwrap(),
            store.run_span(ctx, run).await.unwrap(),
            store.run_trace(ctx, run).await.unwrap(),
            store.run_input(ctx, run).await.unwrap().agent,
            store.run_before(ctx, &writable, "echo").await.unwrap(),
            // Not in any order.
            store.journal(ctx, run).await.is_ok(),
            store.agent_state(ctx, run, "echo").await.unwrap(),
        )
    )
}

fn entries(entries: &[std::sync::Arc<netra_store::Entry>]) -> Vec<String> {
    let shown = entries.iter();
    shown
        .map(|entry| format!("{} {}", entry.seq, entry.run_id))
        .collect()
}

/// Changes what can be changed, and deletes what can be deleted, of all that this user has.
pub(super) async fn change(fixture: &Fixture, ctx: &UserExecutionContext) {
    let store = &fixture.store;
    for run in store.runs(ctx, 100, None).await.unwrap().items {
        let thread = store.thread(ctx, run.thread_id).for_write().await.unwrap();
        let again = Target::Thread(thread.clone());
        let again: Writable<Run> = {
            let made = store.run_create(ctx, again, fixture.new_run(), None).await;
            made.unwrap().value
        };
        let (changes, event) = fixture.ending(&again);
        store
            .commit(ctx, &again, changes, vec![event])
            .await
            .unwrap();
        let fork = store.thread_fork(ctx, thread.as_readable(), ForkThread::default(), None);
        fork.await.unwrap();
        store.thread_delete(ctx, thread).await.unwrap();
    }
    for file in store.files(ctx, 100, None).await.unwrap().items {
        let file = store.file(ctx, file.id).for_write().await.unwrap();
        store.file_delete(ctx, file).await.unwrap();
    }
    let note = store.note_keep(ctx, "colour".into(), "It is red.".into());
    note.await.unwrap();
    let note = store.note(ctx, "colour".into()).for_write().await.unwrap();
    store.note_delete(ctx, note).await.unwrap();
    for key in store.keys(ctx, 100, None).await.unwrap().items {
        let key = store.key(ctx, key.id).for_write().await.unwrap();
        store.key_delete(ctx, &key).await.unwrap();
    }
    let server = store.tool_server(ctx, "server".into()).for_write().await;
    let deleted = store.tool_server_delete(ctx, server.unwrap());
    deleted.await.unwrap();
    let secrets = fixture.secrets().await;
    let secret = secrets.find(ctx, "wiki".into()).for_write().await.unwrap();
    secrets.delete(ctx, secret).await.unwrap();
    store.sessions_revoke(ctx).await.unwrap();
}
