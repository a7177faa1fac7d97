//! How fast events are appended, with the store and without: `cargo xtask bench events` runs it
//! and shows what it prints. Both write durably (`synchronous = FULL`), in batches of 100.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::Event;
use netra_protocol::account::{Plan, Role};
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId};
use netra_protocol::limits::Limits;
use netra_protocol::run::Run;
use netra_store::{Changes, Config, Entry, Fanout, NewRun, NewUser, Store, Target, Writable};
use rusqlite::Connection;
use serde_json::{Map, json};

type Failure = Box<dyn std::error::Error>;

const TIME: Duration = Duration::from_millis(1_500);
const USERS: usize = 100;
const BATCH: usize = 100;

struct Nobody;

impl Fanout for Nobody {
    fn committed(&self, _: &[Arc<Entry>]) {}
}

#[expect(clippy::print_stdout, reason = "the result is what it prints")]
fn main() -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut bare, mut batches, mut singles) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        bare.push(appended_bare()?);
        let (batch, single) = runtime.block_on(appended_by_store())?;
        batches.push(batch);
        singles.push(single);
    }
    let (bare, batches, singles) = (median(bare), median(batches), median(singles));
    println!(
        "{}",
        json!({
            "bare_rows_per_second": bare,
            "store_events_per_second_in_batches": batches,
            "ratio_in_batches": batches / bare,
            "store_commits_per_second_of_one_event": singles,
            "ratio_of_commits": singles / bare,
        })
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One thread, one table, one transaction for a hundred rows of about 300 bytes.
fn appended_bare() -> Result<f64, Failure> {
    let dir = tempfile::tempdir()?;
    let connection = Connection::open(dir.path().join("bare.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE events (user_id BLOB NOT NULL, seq INTEGER NOT NULL, thread_id BLOB NOT NULL,
           run_id BLOB NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL) STRICT;
         CREATE UNIQUE INDEX events_by_user ON events (user_id, seq);",
    )?;
    let body = "x".repeat(230);
    let (mut seqs, mut rows) = (vec![0_u64; 1_000], 0_usize);
    let began = Instant::now();
    while began.elapsed() < TIME {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for _ in 0..BATCH {
            let user: usize = rand::random_range(0..seqs.len());
            seqs[user] += 1;
            let id = (user as u128).to_be_bytes();
            connection
                .prepare_cached("INSERT INTO events VALUES (?1, ?2, ?1, ?1, 'thought', ?3)")?
                .execute((id, seqs[user], &body))?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        rows += BATCH;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

struct Author {
    ctx: UserExecutionContext,
    run: Writable<Run>,
}

/// Many users' runs: first with a hundred events in each commit, then with one.
async fn appended_by_store() -> Result<(f64, f64), Failure> {
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::new();
    let config = Config {
        dir: dir.path().to_owned(),
        audit_key: netra_store::AuditKey::new([7; 32]),
        turn_wait: netra_store::TURN_WAIT,
    };
    let store = Store::open(&runtime, config, Arc::new(Nobody))?;
    let mut authors = Vec::new();
    for number in 0..USERS {
        authors.push(author(&runtime, &store, number).await?);
    }
    let batches = append(&runtime, &store, &authors, BATCH).await?;
    let singles = append(&runtime, &store, &authors, 1).await?;
    Ok((batches, singles))
}

async fn append(
    runtime: &Runtime,
    store: &Store,
    authors: &[Author],
    batch: usize,
) -> Result<f64, Failure> {
    let began = Instant::now();
    let each = authors.iter().map(|author| async move {
        let mut appended = 0;
        while began.elapsed() < TIME {
            let events = (0..batch).map(|_| event(runtime, &author.run)).collect();
            let changes = Changes::default();
            store
                .commit(&author.ctx, &author.run, changes, events)
                .await?;
            appended += batch;
        }
        Ok::<usize, netra_store::Error>(appended)
    });
    let appended: usize = futures::future::try_join_all(each).await?.into_iter().sum();
    Ok(appended as f64 / began.elapsed().as_secs_f64())
}

fn event(runtime: &Runtime, run: &Run) -> Event {
    Event {
        event_id: runtime.new_id(EventId::from_parts),
        ts: runtime.now(),
        thread_id: run.thread_id,
        run_id: run.id,
        agent: Some("data".into()),
        step: Some(1),
        kind: EventKind::AgentThinking {
            message: "x".repeat(30),
            progress: None,
        },
    }
}

async fn author(runtime: &Runtime, store: &Store, number: usize) -> Result<Author, Failure> {
    let console = UserExecutionContext::for_background(runtime, BackgroundKind::Console);
    let new = NewUser {
        name: format!("user-{number}"),
        role: Role::User,
        plan: Plan::Free,
        password_hash: None,
    };
    let user = store.user_create(&console, new).await?;
    let principal = Principal {
        user_id: user.id,
        role: user.role,
        plan: user.plan,
        groups: user.groups.clone().into(),
        rights: Rights::of_role(user.role),
        limits: Arc::new(Limits::default()),
        session: None,
    };
    let ctx = UserExecutionContext::for_test(runtime, principal);
    let target = Target::New {
        id: runtime.new_id(ThreadId::from_parts),
        title: "t".into(),
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
        over_nodes: None,
        events: Vec::new(),
    };
    let run = store.run_create(&ctx, target, new, None).await?.value;
    Ok(Author { ctx, run })
}
