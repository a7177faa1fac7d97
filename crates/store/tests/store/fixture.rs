//! A store in a temporary folder, with users and runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use netra_context::runtime::{Clock, SystemClock};
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::account::{Plan, Role, User};
use netra_protocol::event::EventKind;
use netra_protocol::id::{EventId, MessageId, RunId, ThreadId};
use netra_protocol::limits::Limits;
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::usage::RunUsage;
use netra_protocol::{Event, Timestamp};
use netra_store::audit::Audit;
use netra_store::{
    Changes, Config, Entry, Fanout, NewRun, NewUser, RunUpdate, Store, Target, Writable,
};
use parking_lot::Mutex;

use crate::backend::{self, Server};
use crate::between::Strips;

#[derive(Default)]
pub(crate) struct Seen(pub(crate) Mutex<Vec<Arc<Entry>>>);

impl Fanout for Seen {
    fn committed(&self, entries: &[Arc<Entry>]) {
        self.0.lock().extend_from_slice(entries);
    }
}

pub(crate) struct Fixture {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
    pub(crate) seen: Arc<Seen>,
    /// What the clock is ahead, in milliseconds.
    ahead: Arc<AtomicI64>,
    server: Option<Server>,
    dir: tempfile::TempDir,
}

/// The machine's clock, moved ahead by a test.
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Fixture {
    pub(crate) fn pass(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.ahead.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Server::of_environment())
    }

    /// For what SQLite has not.
    pub(crate) fn on_postgres() -> Self {
        let fixture = Self::new();
        let is_on_it = fixture.server.is_some();
        assert!(
            is_on_it,
            "no server is named: `cargo xtask test postgres` starts one and runs this"
        );
        fixture
    }

    /// On SQLite, whatever the other tests are on.
    pub(crate) fn embedded() -> Self {
        Self::open(tempfile::tempdir().unwrap(), None)
    }

    /// The same folder and database, as another process finds them.
    pub(crate) fn reopened(self) -> Self {
        drop(self.store);
        Self::open(self.dir, self.server)
    }

    /// The same with somebody between the store and its server, or nobody.
    pub(crate) fn with_between(self, strips: Option<Strips>) -> Self {
        let Self {
            store, dir, server, ..
        } = self;
        drop(store);
        let mut server = server.unwrap();
        server.set_between(strips);
        Self::open(dir, Some(server))
    }

    fn open(dir: tempfile::TempDir, server: Option<Server>) -> Self {
        let ahead = Arc::new(AtomicI64::new(0));
        let runtime = Runtime::with_clock(Box::new(Ahead(ahead.clone())));
        let seen = Arc::new(Seen::default());
        let config = Config {
            dir: dir.path().to_owned(),
            audit_key: netra_store::AuditKey::new([7; 32]),
            turn_wait: netra_store::TURN_WAIT,
        };
        let store = match &server {
            Some(server) => Store::open_on(&runtime, config, &server.config(), seen.clone()),
            None => Store::open(&runtime, config, seen.clone()),
        };
        Self {
            runtime,
            store: store.unwrap(),
            seen,
            ahead,
            server,
            dir,
        }
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// None where the fixture is of SQLite.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// What another program does to the database.
    pub(crate) fn sql(&self, sql: &str) {
        backend::change(self.server(), self.dir(), sql);
    }

    /// What another program reads there, a line for each row.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        backend::read(self.server(), self.dir(), sql)
    }

    /// How many rows a table has.
    pub(crate) fn counted(&self, table: &str) -> u64 {
        let rows = self.rows(&format!("SELECT count(*) FROM {table}"));
        rows.concat().parse().unwrap()
    }

    /// Everything that the database holds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        backend::bytes(self.server(), self.dir())
    }

    /// The store's audit as another program sees it.
    pub(crate) fn audit(&self) -> Audit {
        match self.server() {
            Some(server) => Audit::open_on(&server.config()),
            None => Audit::open(self.dir()),
        }
        .unwrap()
    }

    pub(crate) fn background(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Authentication)
    }

    pub(crate) async fn user(&self, name: &str) -> UserExecutionContext {
        let new = NewUser {
            name: name.into(),
            role: Role::User,
            plan: Plan::Free,
            password_hash: None,
        };
        let user = self
            .store
            .user_create(&self.background(), new)
            .await
            .unwrap();
        self.in_name_of(&user)
    }

    pub(crate) fn in_name_of(&self, user: &User) -> UserExecutionContext {
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

    pub(crate) fn new_run(&self) -> NewRun {
        NewRun {
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
        }
    }

    pub(crate) async fn run(&self, ctx: &UserExecutionContext) -> Writable<Run> {
        let id = self.runtime.new_id(ThreadId::from_parts);
        let target = Target::New {
            id,
            title: "t".into(),
        };
        self.store
            .run_create(ctx, target, self.new_run(), None)
            .await
            .unwrap()
            .value
    }

    pub(crate) fn event(&self, run: &Run, kind: EventKind) -> Event {
        Event {
            event_id: self.runtime.new_id(EventId::from_parts),
            ts: self.runtime.now(),
            thread_id: run.thread_id,
            run_id: run.id,
            agent: None,
            step: None,
            kind,
        }
    }

    pub(crate) fn thought(&self, run: &Run, message: &str) -> Event {
        let kind = EventKind::AgentThinking {
            message: message.into(),
            progress: None,
        };
        self.event(run, kind)
    }

    pub(crate) fn ending(&self, run: &Run) -> (Changes, Event) {
        let usage = RunUsage {
            tool_calls: 3,
            ..RunUsage::default()
        };
        let update = RunUpdate {
            result: Some(serde_json::json!({"text": "hello"})),
            usage: Some(usage.clone()),
            ..RunUpdate::to(RunStatus::Completed)
        };
        let kind = EventKind::RunCompleted {
            result: serde_json::json!({"text": "hello"}),
            result_truncated: false,
            usage,
            duration_ms: 1,
        };
        (
            Changes {
                run: Some(update),
                ..Changes::default()
            },
            self.event(run, kind),
        )
    }
}
