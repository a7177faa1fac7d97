//! One-use tickets that open a WebSocket. They live for seconds, so they are held in memory: in Redis, where this node
//! reaches one, so that any node takes them, and otherwise in its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use netra_protocol::id::{KeyId, SessionId, UserId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::redis::Link;

/// Tickets that wait to be used, over all users; the oldest are past their time long before.
const WAITING: usize = 100_000;

/// What credentials belong to, and end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// Nothing that can be revoked: a token made at the server's command line.
    Console,
    /// Nothing that can be revoked here: a token of an issuer.
    Issuer,
    /// A sign-in.
    Session(SessionId),
    /// An API key.
    Key(KeyId),
    /// A service token: an API key by which a back end acts for one of its own end users.
    Service {
        /// The key.
        key: KeyId,
        /// Whose it is; the end user is another.
        owner: UserId,
    },
}

/// Who a ticket was made for, and what it is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketOwner {
    /// Whose socket it opens.
    pub user_id: UserId,
    /// What asked for it.
    pub grant: Grant,
    /// The page that asked for it; none for a program.
    pub origin: Option<String>,
    /// When the credentials that asked for it end; none where they do not.
    pub expires_at: Option<netra_protocol::Timestamp>,
}

/// The tickets that only this node takes.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<[u8; 32], (TicketOwner, Instant)>>);

impl Tickets {
    /// Keeps a ticket for `life`. False when too many wait already.
    fn issue(&self, secret: [u8; 32], owner: TicketOwner, life: Duration) -> bool {
        let now = Instant::now();
        let mut waiting = self.0.lock();
        if waiting.len() >= WAITING {
            waiting.retain(|_, (_, end)| *end > now);
        }
        if waiting.len() >= WAITING {
            return false;
        }
        waiting.insert(secret, (owner, now + life));
        true
    }

    /// Takes a ticket out; none where it is unknown, used, or past its time.
    fn take(&self, secret: &[u8; 32]) -> Option<TicketOwner> {
        let (owner, end) = self.0.lock().remove(secret)?;
        (end > Instant::now()).then_some(owner)
    }
}

/// Under which name Redis has a ticket.
fn key(link: &Link, secret: &[u8; 32]) -> String {
    format!(
        "netra:{}:tickets:{}",
        link.epoch(),
        link.seal().name(secret)
    )
}

impl Store {
    /// Keeps a ticket, by the hash of what it carries, for `life`. False when too many wait already, or Redis does not say
    /// whether it has it: in two places it could be used twice.
    pub async fn ticket_issue(&self, secret: [u8; 32], owner: TicketOwner, life: Duration) -> bool {
        match self.0.db.link().filter(|link| link.is_up()) {
            Some(link) => {
                let content = serde_json::to_vec(&owner).unwrap_or_default();
                link.keep(&key(link, &secret), &content, life).await
            }
            None => self.0.tickets.issue(secret, owner, life),
        }
    }

    /// Takes a ticket out; none where it is unknown, used, or past its time.
    pub async fn ticket_take(&self, secret: &[u8; 32]) -> Option<TicketOwner> {
        if let Some(owner) = self.0.tickets.take(secret) {
            return Some(owner);
        }
        let link = self.0.db.link()?;
        let content = link.take_out(&key(link, secret)).await?;
        serde_json::from_slice(&content).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> TicketOwner {
        TicketOwner {
            user_id: UserId::from_parts(1, 1),
            grant: Grant::Console,
            origin: None,
            expires_at: None,
        }
    }

    #[test]
    fn a_ticket_is_good_once() {
        let tickets = Tickets::default();
        assert!(tickets.issue([1; 32], owner(), Duration::from_secs(30)));
        assert_eq!(tickets.take(&[1; 32]), Some(owner()));
        assert_eq!(tickets.take(&[1; 32]), None);
    }

    #[test]
    fn a_ticket_past_its_time_is_refused() {
        let tickets = Tickets::default();
        tickets.issue([1; 32], owner(), Duration::ZERO);
        assert_eq!(tickets.take(&[1; 32]), None);
    }
}
