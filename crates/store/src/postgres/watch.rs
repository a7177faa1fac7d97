//! A node's own connection: its heartbeats go out on it, and what other nodes have committed is heard of on it.
//!
//! It is none of the pool's, so that a node that has much to do is not taken for dead. A notification names a user and a
//! number; what happened stands in the log, which whoever is concerned reads. One that is lost costs time only: with each
//! heartbeat the connection looks which logs have grown of late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_protocol::id::UserId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::address::Address;
use super::session::Session;
use super::voice::{CHANNEL, Voice};
use super::wire::Closer;
use crate::error::Error;
use crate::lease::Lease;
use crate::log::Fanout;
use crate::node::{NodeId, beat};
use crate::revoked::{self, Revocation, Revocations};
use crate::sql::Connection;

/// Between two tries to get the connection back.
const RETRY: Duration = Duration::from_millis(500);
/// Logs that have grown in this time, by the clocks of those who wrote, are looked at again.
const LATE: &str = "interval '10 seconds'";

/// What was heard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    rings: bool,
    log: Option<(UserId, u64)>,
    revoked: Option<Revocation>,
}

impl Heard {
    /// None of a notification of one's own, and of one that nobody of ours sends.
    fn parse(text: &str, node: &str) -> Option<Self> {
        let (from, text) = text.split_once(' ')?;
        if from == node {
            return None;
        }
        if let Some(said) = text.strip_prefix("v ") {
            let (number, what) = said.split_once(' ')?;
            return Some(Self {
                revoked: Some(Revocation::heard(number.parse().ok()?, what)),
                ..Self::default()
            });
        }
        let mut words = text.split(' ');
        let rings = words.next()? == "r";
        let log = match (words.next(), words.next()) {
            (Some(user), Some(seq)) => Some((user.parse().ok()?, seq.parse().ok()?)),
            _ => None,
        };
        Some(Self {
            rings,
            log,
            revoked: None,
        })
    }
}

/// The connection's thread, which ends when this is dropped.
pub(super) struct Watch(Arc<Shared>);

struct Shared {
    address: Address,
    node: NodeId,
    voice: Arc<Voice>,
    fanout: Arc<dyn Fanout>,
    news: watch::Sender<u64>,
    revocations: Arc<Revocations>,
    lease: Mutex<Lease>,
    closing: Mutex<Closing>,
    closed: Condvar,
}

#[derive(Default)]
struct Closing {
    is_closed: bool,
    connection: Option<Closer>,
}

impl Watch {
    pub(super) fn start(
        address: &Address,
        (node, lease): (NodeId, Lease),
        voice: &Arc<Voice>,
        (fanout, news, revocations): (Arc<dyn Fanout>, watch::Sender<u64>, Arc<Revocations>),
    ) -> Result<Self, Error> {
        voice.begins(node);
        let shared = Arc::new(Shared {
            address: address.clone(),
            node,
            voice: Arc::clone(voice),
            fanout,
            news,
            revocations,
            lease: Mutex::new(lease),
            closing: Mutex::default(),
            closed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("netra-watch".into())
            .spawn(move || of_thread.run())
            .map_err(Error::from)?;
        Ok(Self(shared))
    }

    /// Whether this node may take what others held.
    pub(super) fn may_take(&self) -> bool {
        self.0.lease.lock().may_take(Instant::now())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut closing = self.0.closing.lock();
        closing.is_closed = true;
        if let Some(connection) = closing.connection.take() {
            connection.close();
        }
        self.0.closed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let ended = self.listen();
            let mut closing = self.closing.lock();
            if closing.is_closed {
                return;
            }
            if let Err(error) = ended {
                tracing::warn!(%error, lease.held = self.lease.lock().is_held(Instant::now()), "the node's own connection failed");
            }
            self.closed.wait_for(&mut closing, RETRY);
            if closing.is_closed {
                return;
            }
        }
    }

    fn listen(&self) -> Result<(), Error> {
        let session = Session::connect(&self.address)?;
        {
            let mut closing = self.closing.lock();
            if closing.is_closed {
                return Ok(());
            }
            closing.connection = Some(session.closer()?);
        }
        // It looks at everybody's logs, and is no transaction.
        session.batch("SET netra.everybody = 'on'")?;
        session.batch(&format!("LISTEN {CHANNEL}"))?;
        let connection = Connection::Postgres(session);
        // Whatever was said before nobody has heard.
        self.fanout.lost_track();
        self.ring();
        let node = self.node.to_string();
        loop {
            if self.due().is_zero() {
                self.beat(&connection)?;
            }
            let Connection::Postgres(session) = &connection else {
                return Ok(());
            };
            if let Some(text) = session.heard(self.due())?
                && let Some(heard) = Heard::parse(&text, &node)
            {
                metrics::counter!("netra_node_words_heard_total", "carrier" => "notify")
                    .increment(1);
                if let Some((user, seq)) = heard.log {
                    self.fanout.elsewhere(user, seq);
                }
                if let Some(revocation) = &heard.revoked {
                    self.revocations.heard(revocation);
                }
                if heard.rings {
                    self.ring();
                }
            }
        }
    }

    /// How long until the next heartbeat.
    fn due(&self) -> Duration {
        self.lease.lock().due(Instant::now())
    }

    fn beat(&self, connection: &Connection) -> Result<(), Error> {
        let asked = Instant::now();
        let (was_held, length) = {
            let mut lease = self.lease.lock();
            lease.asks(asked);
            (lease.is_held(asked), lease.length())
        };
        beat(connection, self.node, length.as_secs_f64())?;
        self.lease.lock().renewed(asked);
        if !was_held {
            // Others may have taken what this node had.
            self.ring();
        }
        let sql = format!(
            "SELECT count(*), {} FROM nodes WHERE id <> ?1 AND expires_at > clock_timestamp()",
            revoked::LAST
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let (peers, last) =
            statement.query_row([self.node.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.voice.set_peers(peers);
        self.revocations.looked(last);
        if peers > 0 {
            self.look(connection)?;
        }
        Ok(())
    }

    fn look(&self, connection: &Connection) -> Result<(), Error> {
        let sql =
            format!("SELECT user_id, seq FROM logs WHERE appended_at > clock_timestamp() - {LATE}");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map([], |row| Ok((UserId::from_bytes(row.get(0)?), row.get(1)?)))?;
        for row in rows {
            let (user, seq): (UserId, u64) = row?;
            self.fanout.elsewhere(user, seq);
        }
        Ok(())
    }

    fn ring(&self) {
        self.news.send_modify(|news| *news = news.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_says_is_understood_and_ones_own_words_are_not_heard() {
        let user = UserId::from_parts(1, 2);
        let said = format!("aa r {user} 17");
        let heard = Heard::parse(&said, "bb").unwrap();
        assert_eq!(
            heard,
            Heard {
                rings: true,
                log: Some((user, 17)),
                revoked: None,
            }
        );
        assert_eq!(Heard::parse(&said, "aa"), None);
        let ring = Heard {
            rings: true,
            ..Heard::default()
        };
        assert_eq!(Heard::parse("aa r", "bb"), Some(ring));
        assert_eq!(Heard::parse("aa - nobody 1", "bb"), None);
        let heard = Heard::parse("aa v 3 plans:", "bb").unwrap();
        assert_eq!(heard.revoked, Some(Revocation::heard(3, "plans:")));
    }
}
