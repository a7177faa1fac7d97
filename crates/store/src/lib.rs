//! The only crate that knows SQL: migrations, authorised look-ups, the log, files.
//!
//! Reading order: [`handle`] (what a look-up yields), [`commit`] (state, journal and events in one
//! transaction), [`log`] (what was committed), then a module per noun. `sqlite` is the embedded
//! backend: one writer thread with natural group commit, and a pool of readers.
//!
//! Nothing here decides what an agent may do, and nothing here is sent to a client: the log's
//! entries go to the [`Fanout`] that the store was opened with, after they are durable.

pub mod audit;
pub mod backup;
pub mod commit;
pub mod handle;
pub mod idempotency;
pub mod inspect;
mod installation;
pub mod journal;
pub mod log;
pub mod secret;
pub mod ticket;

mod account;
mod admin;
mod agent_version;
mod alive;
mod approval;
mod budget;
mod cursor;
mod database;
mod departure;
mod door;
mod effort;
mod error;
#[cfg(feature = "failpoints")]
mod failpoint;
mod file;
mod fold;
mod identity;
mod json;
mod key;
mod lease;
mod leave;
mod lines;
mod link;
mod listing;
mod lock;
mod lookup;
mod message;
mod migration;
mod node;
mod note;
mod owner;
mod plans;
mod postgres;
mod rate;
mod readers;
mod redis;
mod reservation;
mod retention;
mod revoked;
mod run;
mod run_trace;
mod session;
mod slots;
mod sql;
mod sqlite;
mod sweep;
mod thread;
mod tool_server;
mod transaction;
mod unfinished;
mod usage;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netra_context::Runtime;
use netra_protocol::limits::Limits;
use parking_lot::RwLock;
use tokio::sync::watch;

use database::{Database, Waits};
use revoked::Revocations;
use ticket::Tickets;

pub use account::{Credentials, NewUser};
pub use admin::RunFilter;
pub use agent_version::AgentVersion;
pub use approval::Ask;
pub use audit::{AuditFilter, AuditKey, AuditRecord};
pub use budget::{Amount, Bound, Budgets, Shortage};
pub use commit::{Changes, Hold, RunUpdate};
pub use error::Error;
pub use file::FileWriter;
pub use handle::{Readable, Supervised, Writable};
pub use idempotency::{Created, Idempotency};
pub use identity::{Claimed, Known};
pub use journal::{Journal, JournalEntry, JournalKind, Recorded};
pub use key::{KeyOwner, NewKey};
pub use leave::Left;
pub use link::{NO_PASSWORD_HERE, NewLink};
pub use lock::DirLock;
pub use log::{Entry, EventName, Fanout};
pub use lookup::Lookup;
pub use node::{HeldRun, NodeId, StopWish, TakenRun};
pub use note::{MAX_NOTES, Note};
pub use postgres::{Address, Postgres};
pub use rate::{Rate, RatedCall, Window};
pub use redis::{Count, Counted, Redis};
pub use reservation::{ReservationId, Reserved, Settlement};
pub use revoked::Revoked;
pub use run::{NewRun, OverNodes, RunInput, RunSpan, Target};
pub use secret::Secrets;
pub use session::Refreshed;
pub use slots::Slot;
pub use ticket::{Grant, TicketOwner};
pub use tool_server::{MAX_TOOL_SERVERS, NewToolServer, UserToolServer};
pub use unfinished::Unfinished;

/// Where the embedded store lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder; made when absent. Holds `netra.db` and `files/`.
    pub dir: PathBuf,
    /// What the chains of audit records are keyed with: always the same for a folder.
    pub audit_key: AuditKey,
    /// How long somebody may wait for a turn to read before the store is overloaded, and twice that to write, where
    /// it stays so: [`Store::is_overloaded`].
    pub turn_wait: Duration,
}

/// The wait for a turn where nobody says otherwise.
pub const TURN_WAIT: Duration = Duration::from_millis(50);

struct Shared {
    runtime: Runtime,
    db: Database,
    epoch: String,
    dir: PathBuf,
    tickets: Tickets,
    /// Set when the store's node joins others.
    node: OnceLock<NodeId>,
    news: watch::Sender<u64>,
    revocations: Arc<Revocations>,
    /// The limits of users where neither their plan nor an admin says otherwise.
    limits: RwLock<Arc<Limits>>,
}

/// The store of one server. Cheap to clone; shared and immutable.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl Store {
    /// Opens the store, makes it where it is absent, and brings its schema up to date.
    ///
    /// # Errors
    /// `Migration` when the schema is newer than this program, was changed, or cannot be brought
    /// up to date; `Unavailable` when the folder or the database cannot be read or written.
    pub fn open(runtime: &Runtime, config: Config, fanout: Arc<dyn Fanout>) -> Result<Self, Error> {
        let path = config.dir.join("netra.db");
        Self::over(runtime, config, fanout, |audit_key, fanout, waits| {
            let db = sqlite::Database::open(&path, runtime, audit_key, fanout, waits)?;
            Ok(Database::Sqlite(db))
        })
    }

    /// Opens a store whose rows are in PostgreSQL; the content of files is in the folder's `files`, which all nodes
    /// share. Brings the schema up to date where `server` names its owner.
    ///
    /// # Errors
    /// As [`Store::open`]; `OtherInstallation` where the audit key or `files` is not that of the first node over this
    /// database; `Migration` too when the server's role could pass by row-level security.
    pub fn open_on(
        runtime: &Runtime,
        config: Config,
        server: &Postgres,
        fanout: Arc<dyn Fanout>,
    ) -> Result<Self, Error> {
        let files = config.dir.join("files");
        Self::over(runtime, config, fanout, |audit_key, fanout, waits| {
            let place = (server, &*files);
            let db = postgres::Database::open(place, runtime, audit_key, fanout, waits)?;
            Ok(Database::Postgres(db))
        })
    }

    fn over(
        runtime: &Runtime,
        config: Config,
        fanout: Arc<dyn Fanout>,
        open: impl FnOnce(AuditKey, Arc<dyn Fanout>, Waits) -> Result<Database, Error>,
    ) -> Result<Self, Error> {
        lock::make_private_dir(&config.dir)?;
        lock::make_private_dir(&config.dir.join("files"))?;
        #[cfg(feature = "failpoints")]
        let fanout = failpoint::Mortal::over(fanout, &config.dir);
        let db = open(config.audit_key, fanout, Waits::of_turn(config.turn_wait))?;
        let epoch = db.epoch()?;
        Ok(Self(Arc::new(Shared {
            runtime: runtime.clone(),
            db,
            epoch,
            dir: config.dir,
            tickets: Tickets::default(),
            node: OnceLock::new(),
            news: watch::Sender::new(0),
            revocations: Arc::default(),
            limits: RwLock::default(),
        })))
    }

    /// Takes these for the limits of users where neither their plan nor an admin says otherwise; until then they are
    /// the contract's defaults.
    pub fn set_limits(&self, limits: Limits) {
        *self.0.limits.write() = Arc::new(limits);
    }

    /// What [`Store::set_limits`] was given last: another one after each time.
    pub fn base_limits(&self) -> Arc<Limits> {
        self.0.limits.read().clone()
    }

    /// Makes the data folder, readable by its owner only, where it is absent.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be made.
    pub fn make_dir(dir: &std::path::Path) -> Result<(), Error> {
        lock::make_private_dir(dir)
    }

    /// Brings the schema of the folder's database up to date and returns its version.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn migrate(dir: &std::path::Path) -> Result<u32, Error> {
        lock::make_private_dir(dir)?;
        sqlite::migrate_file(&dir.join("netra.db"))
    }

    /// Brings the schema of a PostgreSQL database up to date, as its owner, and returns its version.
    ///
    /// # Errors
    /// As [`Store::open_on`]; `Migration` too where `server` names no owner.
    pub fn migrate_on(server: &Postgres) -> Result<u32, Error> {
        postgres::migrate(server)
    }

    /// Whether the store can be written now.
    ///
    /// # Errors
    /// `Unavailable` when it cannot.
    pub async fn health(&self) -> Result<(), Error> {
        self.0.db.of_all().write(|tx| tx.touch()).await
    }

    /// Whether Redis is reached, or why not; none where there is to be none. Without it everything works, and what nodes
    /// say to each other comes later.
    pub fn redis(&self) -> Option<Result<(), String>> {
        let link = self.0.db.link()?;
        Some(link.problem().map_or(Ok(()), Err))
    }

    /// Whether whoever reads, or also writes, would now wait long, because everybody does. Whoever can come back later
    /// is better told so at once.
    pub fn is_overloaded(&self, to_write: bool) -> bool {
        self.0.db.is_overloaded(to_write)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.0.dir)
            .finish_non_exhaustive()
    }
}
