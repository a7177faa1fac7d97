//! The mailboxes of all users, by user.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use netra_protocol::id::UserId;
use netra_store::{Entry, Fanout};
use parking_lot::RwLock;

use crate::filter::Filter;
use crate::mailbox::Mailbox;

/// Takes committed entries from the store and puts each into the mailboxes of its own user.
#[derive(Default)]
pub struct Hub {
    foreign: AtomicU64,
    users: RwLock<HashMap<UserId, Vec<Arc<Mailbox>>>>,
}

impl Hub {
    /// A hub without mailboxes, to open a store with.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Opens a mailbox; it is closed when the guard is dropped.
    pub(crate) fn open(self: &Arc<Self>, user: UserId, filter: Filter) -> OpenMailbox {
        let mailbox = Arc::new(Mailbox::new(filter));
        self.users
            .write()
            .entry(user)
            .or_default()
            .push(Arc::clone(&mailbox));
        OpenMailbox {
            hub: Arc::clone(self),
            user,
            mailbox,
        }
    }

    fn close(&self, user: UserId, closed: &Arc<Mailbox>) {
        let mut users = self.users.write();
        if let Some(mailboxes) = users.get_mut(&user) {
            mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, closed));
            if mailboxes.is_empty() {
                users.remove(&user);
            }
        }
    }

    /// Notes an entry that was about to reach somebody else than its user.
    pub(crate) fn stopped_foreign(&self, entry: &Entry, user: UserId) {
        self.foreign.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("netra_bridge_foreign_events_total").increment(1);
        tracing::error!(run.id = %entry.run_id, to = %user, "another user's event was stopped");
    }

    /// Entries that were about to reach somebody else than their user, and were stopped.
    pub fn foreign_events(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    fn hand_out(&self, entries: &[Arc<Entry>]) {
        let users = self.users.read();
        for entry in entries {
            for mailbox in users.get(&entry.user_id).into_iter().flatten() {
                mailbox.put(entry);
            }
        }
    }

    /// Open mailboxes over all users.
    pub fn mailboxes(&self) -> usize {
        self.users.read().values().map(Vec::len).sum()
    }
}

impl Fanout for Hub {
    fn elsewhere(&self, user: UserId, through: u64) {
        let users = self.users.read();
        for mailbox in users.get(&user).into_iter().flatten() {
            mailbox.missed(through);
        }
    }

    fn heard(&self, entries: &[Arc<Entry>]) {
        self.hand_out(entries);
    }

    fn listens(&self, user: UserId) -> bool {
        self.users.read().contains_key(&user)
    }

    fn lost_track(&self) {
        let users = self.users.read();
        for mailbox in users.values().flatten() {
            mailbox.missed(u64::MAX);
        }
    }

    fn committed(&self, entries: &[Arc<Entry>]) {
        if entries.is_empty() {
            return;
        }
        metrics::counter!("netra_bridge_events_total").increment(entries.len() as u64);
        self.hand_out(entries);
    }
}

/// A mailbox that is open as long as this lives.
pub(crate) struct OpenMailbox {
    hub: Arc<Hub>,
    user: UserId,
    mailbox: Arc<Mailbox>,
}

impl OpenMailbox {
    /// Whether the entry is for whoever opened the mailbox. One that is not is noted: nothing leads
    /// here but a defect, and whoever hands entries out looks once more.
    pub(crate) fn owns(&self, entry: &Entry) -> bool {
        let owns = entry.user_id == self.user;
        if !owns {
            self.hub.stopped_foreign(entry, self.user);
        }
        owns
    }
}

impl std::ops::Deref for OpenMailbox {
    type Target = Mailbox;

    fn deref(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for OpenMailbox {
    fn drop(&mut self) {
        self.hub.close(self.user, &self.mailbox);
    }
}
