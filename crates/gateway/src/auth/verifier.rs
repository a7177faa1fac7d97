//! From a token to a principal: verified once, then remembered until it ends or is revoked.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use moka::sync::Cache;
use netra_context::{BackgroundKind, Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::account::User;
use netra_protocol::id::{SessionId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::{ErrorCode, Timestamp};
use netra_store::Store;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::broadcast;

use super::token::{self, Refused};
use crate::error::Error;

/// Tokens that are remembered at once; others are verified again.
const REMEMBERED: u64 = 50_000;
/// Revocations that a socket may be behind before it asks the store instead.
const BEHIND: usize = 256;

/// Somebody whose token was verified.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    pub(crate) principal: Principal,
    pub(crate) expires_at: Timestamp,
}

/// Verifies access tokens against the key, the session and the user.
pub(crate) struct Verifier {
    runtime: Runtime,
    store: Store,
    key: VerifyingKey,
    limits: Arc<Limits>,
    remembered: Cache<[u8; 32], Arc<Verified>>,
    /// Counts revocations. Whoever verifies a token remembers it only if none came meanwhile.
    revocations: Mutex<u64>,
    revoked: broadcast::Sender<SessionId>,
}

fn wrong() -> Error {
    Error::unauthenticated("The credentials are missing or not valid.")
}

impl Verifier {
    pub(crate) fn new(
        runtime: Runtime,
        store: Store,
        key: VerifyingKey,
        limits: Arc<Limits>,
        recheck: Duration,
    ) -> Self {
        Self {
            runtime,
            store,
            key,
            limits,
            remembered: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(recheck)
                .build(),
            revocations: Mutex::new(0),
            revoked: broadcast::channel(BEHIND).0,
        }
    }

    /// Who this token belongs to.
    pub(crate) async fn verify(&self, text: &str) -> Result<Arc<Verified>, Error> {
        let now = self.runtime.now();
        let digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if let Some(known) = self.remembered.get(&digest) {
            if known.expires_at > now {
                return Ok(known);
            }
            return Err(expired());
        }
        let before = *self.revocations.lock();
        let claims = token::verify(&self.key, text, now).map_err(|refused| match refused {
            Refused::Invalid => wrong(),
            Refused::Expired => expired(),
        })?;
        let principal = self.look_up(claims.sub, claims.sid).await?;
        let verified = Arc::new(Verified {
            principal,
            expires_at: claims.expires_at(),
        });
        let revocations = self.revocations.lock();
        if *revocations == before {
            self.remembered.insert(digest, verified.clone());
        }
        Ok(verified)
    }

    /// The user and the session as they are now: neither disabled nor revoked.
    pub(crate) async fn look_up(
        &self,
        user: UserId,
        session: Option<SessionId>,
    ) -> Result<Principal, Error> {
        let ctx =
            UserExecutionContext::for_background(&self.runtime, BackgroundKind::Authentication);
        if let Some(session) = session
            && !self.store.session_alive(&ctx, session).await?
        {
            return Err(wrong());
        }
        let user = match self.store.user_by_id(&ctx, user).await {
            Err(netra_store::Error::NotFound) => return Err(wrong()),
            other => other?,
        };
        if user.disabled {
            return Err(wrong());
        }
        Ok(self.principal(&user, session))
    }

    fn principal(&self, user: &User, session: Option<SessionId>) -> Principal {
        Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            rights: Rights::of_role(user.role),
            limits: self.limits.clone(),
            session,
        }
    }

    /// Forgets every token of the session and tells its sockets.
    pub(crate) fn revoke(&self, session: SessionId) {
        let mut revocations = self.revocations.lock();
        *revocations += 1;
        for (digest, verified) in &self.remembered {
            if verified.principal.session == Some(session) {
                self.remembered.invalidate(&*digest);
            }
        }
        drop(revocations);
        // Without a socket there is nobody to tell.
        self.revoked.send(session).ok();
    }

    /// Tells which sessions are revoked from now on.
    pub(crate) fn revoked(&self) -> broadcast::Receiver<SessionId> {
        self.revoked.subscribe()
    }
}

fn expired() -> Error {
    Error::new(ErrorCode::TokenExpired, "The access token has expired.")
}
