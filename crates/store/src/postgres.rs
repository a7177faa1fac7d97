//! The backend for more than one machine: PostgreSQL 15 and later.
//!
//! The server connects as a role that owns nothing and that row-level security binds: each transaction says whose rows
//! it is about. The tables belong to another role, which only brings the schema up to date.

mod address;
mod codec;
mod dialect;
mod erase;
mod migrate;
pub(crate) mod scope;
pub(crate) mod session;
mod turns;
mod voice;
mod watch;
mod wire;
mod writers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netra_context::Runtime;
use parking_lot::Mutex;
use tokio::sync::watch as watch_channel;

use crate::audit::{AuditKey, totals};
use crate::database::{Waits, Whose};
use crate::effort::Effort;
use crate::error::Error;
use crate::installation;
use crate::lease::Lease;
use crate::log::Fanout;
use crate::node::NodeId;
use crate::readers::Readers;
use crate::redis::{Link, Redis};
use crate::revoked::Revocations;
use crate::sql::Connection;
use crate::transaction::Tx;

pub use address::Address;
pub(crate) use erase::piece;
pub(crate) use turns::Place;

use session::Session;
use turns::Turns;
use voice::{Told, Voice};
use watch::Watch;
use writers::Writers;

/// Where the rows of a store are.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// As whom the server works.
    pub server: Address,
    /// Who owns the tables, and brings them up to date; none where somebody else does that.
    pub owner: Option<Address>,
    /// Connections at the most, half of them for writing. A node among others has one more.
    pub connections: usize,
    /// How long a node is taken for alive after each of its heartbeats; others take its runs then.
    pub lease: Duration,
    /// What carries words between nodes besides, faster; none where there is no such thing.
    pub redis: Option<Redis>,
}

pub(crate) struct Database {
    writers: Writers,
    readers: Readers,
    server: Address,
    lease: Duration,
    redis: Option<Box<Redis>>,
    fanout: Arc<dyn Fanout>,
    voice: Arc<Voice>,
    watch: Mutex<Option<Watch>>,
    /// Works that failed because the database was not there.
    outages: AtomicU64,
}

impl Database {
    pub(crate) fn open(
        (config, files): (&Postgres, &Path),
        runtime: &Runtime,
        audit_key: AuditKey,
        fanout: Arc<dyn Fanout>,
        waits: Waits,
    ) -> Result<Self, Error> {
        if let Some(owner) = &config.owner {
            migrate::up(owner, &config.server)?;
        }
        let half = config.connections.div_ceil(2);
        let address = config.server.clone();
        let connect = move || Ok(Connection::Postgres(Session::connect(&address)?));
        let readers = Readers::new(
            Box::new(connect),
            half,
            Effort::of_connection,
            waits.to_read,
            runtime,
        );
        readers.read_now(migrate::check)?;
        begin(config, &audit_key, files)?;
        let voice: Arc<Voice> = Arc::default();
        let turns = Turns::new(Arc::new(Told::new(&fanout, &voice)));
        let words = (turns, Arc::clone(&voice));
        let writers = Writers::start(
            &config.server,
            half,
            runtime,
            audit_key,
            words,
            waits.to_write,
        )?;
        Ok(Self {
            writers,
            readers,
            server: config.server.clone(),
            lease: config.lease,
            redis: config.redis.clone().map(Box::new),
            fanout,
            voice,
            watch: Mutex::default(),
            outages: AtomicU64::new(0),
        })
    }

    /// Keeps this node's lease from now on, and hears of what other nodes commit.
    pub(crate) fn watch(
        &self,
        (node, lease): (NodeId, Lease),
        news: watch_channel::Sender<u64>,
        revocations: &Arc<Revocations>,
    ) -> Result<(), Error> {
        let (voice, fanout) = (&self.voice, Arc::clone(&self.fanout));
        voice.with_revocations(Arc::clone(revocations));
        let told = (fanout, news, Arc::clone(revocations));
        let watch = Watch::start(&self.server, (node, lease), voice, told)?;
        *self.watch.lock() = Some(watch);
        Ok(())
    }

    /// Where the nodes' Redis is, where there is one.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        self.redis.as_deref()
    }

    /// Who is told of what was committed, here and elsewhere.
    pub(crate) fn fanout(&self) -> Arc<dyn Fanout> {
        Arc::clone(&self.fanout)
    }

    /// Says by this link what there is to say, as long as it is up.
    pub(crate) fn speak_by(&self, link: Link) {
        self.voice.speak_by(link);
    }

    /// What it says that by, where it has one.
    pub(crate) fn link(&self) -> Option<&Link> {
        self.voice.link()
    }

    /// How many nodes are alive, with this one, as far as it knows.
    pub(crate) fn nodes(&self) -> u32 {
        self.voice.nodes()
    }

    /// How long this node is taken for alive after a heartbeat.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether this node may take what others held.
    pub(crate) fn may_take(&self) -> bool {
        self.watch.lock().as_ref().is_some_and(Watch::may_take)
    }

    /// No longer.
    pub(crate) fn unwatch(&self) {
        *self.watch.lock() = None;
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.noted(self.writers.write(whose, work).await)
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        whose: Whose,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.noted(self.readers.read(whose, work).await)
    }

    fn noted<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Unavailable(_)) = &done {
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
        done
    }

    /// How often something has failed because the database was not there.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    pub(crate) fn read_now<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.readers.read_now(work)
    }

    /// Whether what is to be written, or read, would wait too long.
    pub(crate) fn is_overloaded(&self, to_write: bool) -> bool {
        self.readers.are_overloaded() || (to_write && self.writers.are_overloaded())
    }
}

/// Refuses a node that is not of the installation. A store that is new gets its first totals of the audit before
/// anybody writes.
fn begin(config: &Postgres, audit_key: &AuditKey, files: &Path) -> Result<(), Error> {
    let connection = Connection::Postgres(Session::connect(&config.server)?);
    connection.begin_write(Whose::All)?;
    installation::check(&connection, audit_key, files)?;
    totals::begin(&connection, audit_key)?;
    Ok(connection.commit()?)
}

/// Brings the schema up to date and returns its version.
pub(crate) fn migrate(config: &Postgres) -> Result<u32, Error> {
    let owner = config.owner.as_ref().ok_or_else(|| {
        Error::Migration("`database.owner_url` names no role that owns the tables".into())
    })?;
    migrate::up(owner, &config.server)
}

/// Everybody's rows at one moment, whatever servers write meanwhile.
pub(crate) fn snapshot(config: &Postgres) -> Result<Connection, Error> {
    let connection = Connection::Postgres(Session::connect(&config.server)?);
    connection.begin_read(Whose::All)?;
    Ok(connection)
}
