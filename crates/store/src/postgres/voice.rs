//! What a node's writers say to the others, and what carries it: Redis after the commit while it is reached, otherwise a
//! notification in the transaction. Everybody always hears both.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::log::{Entry, Fanout};
use crate::node::NodeId;
use crate::redis::Link;
use crate::revoked::{Revocation, Revocations, Revoked};
use crate::sql::{self, Connection};

/// The channel that all nodes of a database hear.
pub(super) const CHANNEL: &str = "netra";

/// Peers before the first look.
const UNKNOWN: u32 = u32::MAX;

/// What a node's writers say to the others. A node that is alone says nothing: notifications make commits wait for each
/// other.
#[derive(Default)]
pub(super) struct Voice {
    node: Mutex<Option<NodeId>>,
    peers: AtomicU32,
    link: OnceLock<Link>,
    revocations: OnceLock<Arc<Revocations>>,
}

impl Voice {
    /// Those of this process.
    pub(super) fn with_revocations(&self, revocations: Arc<Revocations>) {
        self.revocations.get_or_init(|| revocations);
    }

    /// As this node, from now on. Until the first look says otherwise it speaks as if it had a peer.
    pub(super) fn begins(&self, node: NodeId) {
        *self.node.lock() = Some(node);
        self.set_peers(UNKNOWN);
    }

    /// How many nodes are alive, with this one.
    pub(super) fn nodes(&self) -> u32 {
        match self.peers.load(Ordering::Relaxed) {
            UNKNOWN => 1,
            peers => peers + 1,
        }
    }

    /// How many other nodes are alive.
    pub(super) fn set_peers(&self, peers: u32) {
        self.peers.store(peers, Ordering::Relaxed);
    }

    fn has_peers(&self) -> bool {
        self.peers.load(Ordering::Relaxed) > 0
    }

    /// By this too, from now on. A node has one link as long as it lives.
    pub(super) fn speak_by(&self, link: Link) {
        self.link.get_or_init(|| link);
    }

    /// What it speaks by.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.get()
    }

    fn link_to_peers(&self) -> Option<&Link> {
        self.link().filter(|link| link.is_up() && self.has_peers())
    }

    /// Tells the others, when this transaction is committed, how far these users' logs go now, and whether they are to
    /// look at the runs; nothing where that goes by Redis.
    pub(super) fn tell(
        &self,
        connection: &Connection,
        appended: &[Arc<Entry>],
        rings: bool,
    ) -> sql::Result<()> {
        let Some(node) = *self.node.lock() else {
            return Ok(());
        };
        if !self.has_peers() || self.link_to_peers().is_some() {
            return Ok(());
        }
        let mut notify = connection.prepare_cached("SELECT pg_notify(?1, ?2)")?;
        let ring = if rings { "r" } else { "-" };
        let is_last = |at: usize| {
            let next = appended.get(at + 1);
            next.is_none_or(|next| next.user_id != appended[at].user_id)
        };
        let mut count = 0;
        for (_, entry) in appended.iter().enumerate().filter(|(at, _)| is_last(*at)) {
            let (user, seq) = (entry.user_id, entry.seq);
            notify.put((CHANNEL, format!("{node} {ring} {user} {seq}")))?;
            count += 1;
        }
        if rings && appended.is_empty() {
            notify.put((CHANNEL, format!("{node} {ring}")))?;
            count += 1;
        }
        if count > 0 {
            metrics::counter!("netra_node_words_total", "carrier" => "notify").increment(count);
        }
        Ok(())
    }

    /// Numbers what this transaction has revoked, and tells the others when it is committed, where that does not go by
    /// Redis.
    pub(super) fn tell_revoked(
        &self,
        connection: &Connection,
        revoked: Vec<Revoked>,
    ) -> sql::Result<Option<Revocation>> {
        let numbered = Revocation::number(connection, revoked)?;
        let from = match *self.node.lock() {
            Some(_) if !self.has_peers() || self.link_to_peers().is_some() => None,
            Some(node) => Some(node.to_string()),
            // The command line is no node, and no node's peer.
            None => Some("-".to_owned()),
        };
        if let (Some(revocation), Some(from)) = (&numbered, from) {
            let (number, words) = (revocation.number, revocation.words());
            let mut notify = connection.prepare_cached("SELECT pg_notify(?1, ?2)")?;
            notify.put((CHANNEL, format!("{from} v {number} {words}")))?;
            metrics::counter!("netra_node_words_total", "carrier" => "notify").increment(1);
        }
        Ok(numbered)
    }

    /// The transaction is committed, in which runs may have come to be looked at, and this was revoked.
    pub(super) fn committed(&self, rings: bool, revoked: Option<Revocation>) {
        let link = self.link_to_peers();
        if let Some(link) = link.filter(|_| rings) {
            link.say_runs();
        }
        if let Some(revocation) = revoked {
            if let Some(revocations) = self.revocations.get() {
                revocations.own(revocation.number);
            }
            if let Some(link) = link {
                link.say_revoked(&revocation);
            }
        }
    }

    /// These events of one user are committed, and come in the order of their numbers.
    fn appended(&self, entries: &[Arc<Entry>]) {
        if let (Some(link), Some(last)) = (self.link_to_peers(), entries.last()) {
            link.say_log(last.user_id, last.seq, entries);
        }
    }
}

/// Hands on what was committed, and tells other nodes of it.
pub(super) struct Told {
    fanout: Arc<dyn Fanout>,
    voice: Arc<Voice>,
}

impl Told {
    pub(super) fn new(fanout: &Arc<dyn Fanout>, voice: &Arc<Voice>) -> Self {
        Self {
            fanout: Arc::clone(fanout),
            voice: Arc::clone(voice),
        }
    }
}

impl Fanout for Told {
    fn committed(&self, entries: &[Arc<Entry>]) {
        self.fanout.committed(entries);
        self.voice.appended(entries);
    }
}
