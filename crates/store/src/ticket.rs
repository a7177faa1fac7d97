//! One-use tickets that open a WebSocket. They live for seconds, so they are held in memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use netra_protocol::id::{KeyId, SessionId, UserId};
use parking_lot::Mutex;

/// Tickets that wait to be used, over all users; the oldest are past their time long before.
const WAITING: usize = 100_000;

/// What credentials belong to, and end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The tickets of this node.
#[derive(Default)]
pub struct Tickets(Mutex<HashMap<[u8; 32], (TicketOwner, Instant)>>);

impl Tickets {
    /// Keeps a ticket for `life`. False when too many wait already.
    pub fn issue(&self, secret: [u8; 32], owner: TicketOwner, life: Duration) -> bool {
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
    pub fn take(&self, secret: &[u8; 32]) -> Option<TicketOwner> {
        let (owner, end) = self.0.lock().remove(secret)?;
        (end > Instant::now()).then_some(owner)
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
