//! The mailboxes of all users, by user.

use std::collections::HashMap;
use std::sync::Arc;

use netra_protocol::id::UserId;
use netra_store::{Entry, Fanout};
use parking_lot::RwLock;

use crate::filter::Filter;
use crate::mailbox::Mailbox;

/// Takes committed entries from the store and puts each into the mailboxes of its own user.
#[derive(Default)]
pub struct Hub {
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

    /// Open mailboxes over all users.
    pub fn mailboxes(&self) -> usize {
        self.users.read().values().map(Vec::len).sum()
    }
}

impl Fanout for Hub {
    fn committed(&self, entries: &[Arc<Entry>]) {
        if entries.is_empty() {
            return;
        }
        metrics::counter!("netra_bridge_events_total").increment(entries.len() as u64);
        let users = self.users.read();
        for entry in entries {
            for mailbox in users.get(&entry.user_id).into_iter().flatten() {
                mailbox.put(entry);
            }
        }
    }
}

/// A mailbox that is open as long as this lives.
pub(crate) struct OpenMailbox {
    hub: Arc<Hub>,
    user: UserId,
    mailbox: Arc<Mailbox>,
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
