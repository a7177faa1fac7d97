//! Somebody whose credentials were verified, and what was presented for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use netra_context::Principal;
use netra_protocol::Timestamp;
use netra_protocol::id::{KeyId, UserId};
use netra_store::{Grant, KeyOwner, Revoked};
use sha2::{Digest as _, Sha256};
use tokio::time::Sleep;

use crate::limit::Verdict;

/// Somebody whose credentials were verified.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) grant: Grant,
    /// None for a key without an end.
    pub(crate) expires_at: Option<Timestamp>,
    /// What bounds the API key, where it is one.
    pub(crate) key: Option<CountedKey>,
}

/// An API key, whose requests are counted whomever it acts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountedKey {
    pub(super) id: KeyId,
    pub(super) owner: UserId,
    pub(super) per_minute: u32,
}

impl CountedKey {
    pub(super) fn of(found: &KeyOwner) -> Self {
        Self {
            id: found.key,
            owner: found.user.id,
            per_minute: found.user.limits.key_requests_per_minute,
        }
    }
}

/// Somebody who was let in, and where the count of the API key stands.
pub(crate) struct Passed {
    pub(crate) verified: Arc<Verified>,
    pub(crate) by_key: Option<Verdict>,
}

impl Verified {
    /// Whether the credentials are concerned.
    pub(crate) fn is_concerned(&self, revoked: Revoked) -> bool {
        match revoked {
            Revoked::Session(session) => self.grant == Grant::Session(session),
            Revoked::Key(revoked) => match self.grant {
                Grant::Key(key) | Grant::Service { key, .. } => key == revoked,
                Grant::Session(_) | Grant::Console | Grant::Issuer => false,
            },
            // Who was disabled has no service token any more.
            Revoked::User(user) => match self.grant {
                Grant::Service { owner, .. } if owner == user => true,
                _ => self.principal.user_id == user,
            },
            Revoked::Plans | Revoked::Everything => true,
        }
    }

    /// How long the credentials are good; none for as long as they are not revoked.
    fn time_left(&self, now: Timestamp) -> Option<Duration> {
        let left_ms = |end: Timestamp| end.millis_since(now);
        self.expires_at.map(left_ms).map(Duration::from_millis)
    }

    /// The end of the credentials, to be waited for.
    pub(crate) fn expiry(&self, now: Timestamp) -> Expiry {
        let left = self.time_left(now);
        Expiry(left.map(|left| Box::pin(tokio::time::sleep(left))))
    }
}

/// The end of credentials, where they have one.
pub(crate) struct Expiry(Option<Pin<Box<Sleep>>>);

impl Expiry {
    /// Waits for it, or for ever where there is none.
    pub(crate) async fn passed(&mut self) {
        match &mut self.0 {
            Some(end) => end.await,
            None => std::future::pending().await,
        }
    }
}

/// The credentials of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// A token or an API key.
    pub(crate) text: &'a str,
    /// What `X-Netra-User` says: whom a back end acts for.
    pub(crate) acts_for: Option<&'a str>,
}

impl<'a> Presented<'a> {
    /// A token or an API key that names nobody else.
    pub(crate) fn of(text: &'a str) -> Self {
        Self {
            text,
            acts_for: None,
        }
    }

    pub(super) fn digest(self) -> [u8; 32] {
        let mut digest = Sha256::new();
        // The length first, so that nothing moves from one to the other.
        digest.update((self.text.len() as u64).to_be_bytes());
        digest.update(self.text);
        if let Some(subject) = self.acts_for {
            digest.update([1]);
            digest.update(subject);
        }
        digest.finalize().into()
    }
}
