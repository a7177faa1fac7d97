//! From a token or an API key to a principal: verified once, then remembered until it ends or is
//! revoked.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use netra_context::{
    BackgroundKind, Limit, Principal, Right, Rights, Runtime, UserExecutionContext,
};
use netra_protocol::account::{Identity, Role, User};
use netra_protocol::id::{KeyId, SessionId, UserId};
use netra_protocol::limits::Limits;
use netra_protocol::{ErrorCode, Timestamp};
pub(crate) use netra_store::Revoked;
use netra_store::{Claimed, Counted, Grant, KeyOwner, Known, Store};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::issuer::{Issuer, IssuerConfig};
use super::keys::Keys;
use super::token::{self, Refused};
use super::verified::CountedKey;
pub(crate) use super::verified::{Expiry, Passed, Presented, Verified};
use crate::error::Error;
use crate::limit::{Verdict, Windows};

/// Credentials that are remembered at once; others are verified again.
const REMEMBERED: u64 = 50_000;
/// Accounts that are remembered at once.
const ACCOUNTS: u64 = 10_000;
/// Revocations that a socket may be behind before it asks the store instead.
const BEHIND: usize = 256;
/// What the secret of an API key begins with.
pub(crate) const API_KEY: &str = "ntr_";
/// The longest secret of an API key that is looked at; ours have 47 characters.
const MAX_API_KEY_LEN: usize = 128;
/// How far `last_used_at` may be behind, in milliseconds: not every request writes.
const USED_MS: u64 = 60_000;

/// Verifies credentials against the key, the session or API key, and the user.
pub(crate) struct Verifier {
    runtime: Runtime,
    store: Store,
    keys: Keys,
    issuer: Option<Issuer>,
    remembered: Cache<[u8; 32], Arc<Verified>>,
    /// Accounts, for whoever asks who they are, with the server's limits that they were read under.
    accounts: Cache<UserId, (Arc<Limits>, Arc<User>)>,
    /// Requests by API key.
    asked: Windows<KeyId>,
    /// Counts revocations. Whoever verifies credentials remembers them only if none came meanwhile.
    revocations: Mutex<u64>,
    revoked: broadcast::Sender<Revoked>,
}

/// The longest name of an end user.
const MAX_SUBJECT_LEN: usize = 128;

fn checked_subject(subject: &str) -> Result<&str, Error> {
    let visible = subject.bytes().all(|byte| byte.is_ascii_graphic());
    if (1..=MAX_SUBJECT_LEN).contains(&subject.len()) && visible {
        return Ok(subject);
    }
    let message = "`X-Netra-User` has 1 to 128 visible ASCII characters, without spaces.";
    Err(Error::invalid(message).breaks("X-Netra-User", "pattern ^[!-~]{1,128}$"))
}

fn is_known_to(user: &User, issuer: &str) -> bool {
    let identity = user.identity.as_ref();
    identity.is_some_and(|known| known.issuer == issuer)
}

fn no_service() -> Error {
    let message = "Only an API key with the scope `service` acts for others.";
    Error::new(ErrorCode::Forbidden, message)
}

fn wrong() -> Error {
    Error::unauthenticated("The credentials are missing or not valid.")
}

/// Whether this is an API key and not a token.
pub(crate) fn is_api_key(text: &str) -> bool {
    text.starts_with(API_KEY)
}

/// What is said of credentials past their end. A key cannot be renewed as a token can, so clients
/// must not take its end for a reason to refresh.
fn expired(grant: Grant) -> Error {
    match grant {
        Grant::Key(_) | Grant::Service { .. } => Error::unauthenticated("The API key has expired."),
        Grant::Session(_) | Grant::Console | Grant::Issuer => {
            Error::new(ErrorCode::TokenExpired, "The access token has expired.")
        }
    }
}

impl Verifier {
    pub(crate) fn new(
        runtime: Runtime,
        store: Store,
        keys: Keys,
        issuer: Option<IssuerConfig>,
        recheck: Duration,
    ) -> Self {
        Self {
            issuer: issuer.map(|config| Issuer::new(runtime.clone(), config)),
            runtime,
            store,
            keys,
            remembered: Cache::builder()
                .max_capacity(REMEMBERED)
                .time_to_live(recheck)
                .build(),
            accounts: Cache::builder()
                .max_capacity(ACCOUNTS)
                .time_to_live(recheck)
                .build(),
            asked: Windows::new(),
            revocations: Mutex::new(0),
            revoked: broadcast::channel(BEHIND).0,
        }
    }

    /// Who these credentials belong to, and whom they act for where they name somebody. Counts an API key.
    pub(crate) async fn verify(&self, presented: Presented<'_>) -> Result<Passed, Error> {
        let now = self.runtime.now();
        let Presented { text, acts_for } = presented;
        let digest = presented.digest();
        if let Some(known) = self.remembered.get(&digest) {
            if known.expires_at.is_some_and(|end| end <= now) {
                return Err(expired(known.grant));
            }
            let by_key = match known.key {
                Some(key) => Some(self.count(key).await?),
                None => None,
            };
            let verified = known;
            return Ok(Passed { verified, by_key });
        }
        let before = *self.revocations.lock();
        let (verified, by_key) = match (is_api_key(text), acts_for) {
            (true, acts_for) => {
                let found = self.find_key(text).await?;
                // Before anything is made for whom the key names.
                let by_key = self.count(CountedKey::of(&found)).await?;
                let verified = match acts_for {
                    None => self.verify_key(&found)?,
                    Some(subject) => self.verify_service(&found, subject).await?,
                };
                self.note_use(&found, now).await;
                (verified, Some(by_key))
            }
            (false, None) => (self.verify_token(text, now).await?, None),
            (false, Some(_)) => return Err(no_service()),
        };
        let verified = Arc::new(verified);
        let revocations = self.revocations.lock();
        if *revocations == before {
            self.remembered.insert(digest, verified.clone());
        }
        Ok(Passed { verified, by_key })
    }

    /// Counts a request that came with the key.
    async fn count(&self, key: CountedKey) -> Result<Verdict, Error> {
        let now = self.runtime.now();
        let counted = (key.id, Counted::Key(key.owner, key.id));
        let asked = self.asked.count(&self.store, counted, key.per_minute, now);
        let verdict = asked.await;
        if verdict.allowed {
            return Ok(verdict);
        }
        self.runtime.limit_hit(key.owner, Limit::Requests);
        Err(verdict.refusal())
    }

    async fn verify_token(&self, text: &str, now: Timestamp) -> Result<Verified, Error> {
        if let Some(issuer) = &self.issuer
            && !self.keys.seal().is_on(text)
        {
            return self.verify_of_issuer(issuer, text, now).await;
        }
        let claims =
            token::verify(self.keys.seal(), text, now).map_err(|refused| match refused {
                Refused::Invalid => wrong(),
                Refused::Expired => expired(Grant::Console),
            })?;
        let grant = claims.sid.map_or(Grant::Console, Grant::Session);
        Ok(Verified {
            principal: self.look_up(claims.sub, grant).await?,
            grant,
            expires_at: Some(claims.expires_at()),
            key: None,
        })
    }

    /// The user whom a token of the issuer means, made where nobody is known by it yet, with the role and the plan that
    /// the token says.
    async fn verify_of_issuer(
        &self,
        issuer: &Issuer,
        text: &str,
        now: Timestamp,
    ) -> Result<Verified, Error> {
        let told = issuer.verify(text, now).await?;
        let told = told.map_err(|refused| match refused {
            Refused::Invalid => wrong(),
            Refused::Expired => expired(Grant::Issuer),
        })?;
        let identity = Identity {
            issuer: issuer.config.url.clone(),
            subject: told.subject,
        };
        let claimed = Claimed {
            role: issuer.config.role_claim.as_ref().map(|_| told.role),
            plan: issuer.config.plan_claim.as_ref().map(|_| told.plan),
            at: told.issued_at,
        };
        let ctx = self.ctx();
        let user = self.store.user_of_identity(&ctx, identity, claimed);
        let Known { user, is_changed } = user.await?;
        if is_changed {
            self.revoke(Revoked::User(user.id));
        }
        if user.disabled {
            return Err(wrong());
        }
        Ok(Verified {
            principal: self.principal(&user, None),
            grant: Grant::Issuer,
            expires_at: Some(told.expires_at),
            key: None,
        })
    }

    fn verify_key(&self, found: &KeyOwner) -> Result<Verified, Error> {
        Ok(Verified {
            principal: self.principal_of_key(found)?,
            grant: Grant::Key(found.key),
            expires_at: found.expires_at,
            key: Some(CountedKey::of(found)),
        })
    }

    /// The end user whom a service token names, made where nobody is known by that name yet.
    async fn verify_service(&self, found: &KeyOwner, subject: &str) -> Result<Verified, Error> {
        let rights = self.rights_of_service(found)?;
        let identity = Identity {
            issuer: found.user.id.to_string(),
            subject: checked_subject(subject)?.to_owned(),
        };
        let nothing = Claimed::default();
        let ctx = self.ctx();
        let user = self.store.user_of_identity(&ctx, identity, nothing);
        let Known { user, .. } = user.await?;
        if user.disabled {
            return Err(wrong());
        }
        let mut principal = self.principal(&user, None);
        principal.rights = principal.rights.intersect(rights);
        Ok(Verified {
            principal,
            grant: Grant::Service {
                key: found.key,
                owner: found.user.id,
            },
            expires_at: found.expires_at,
            key: Some(CountedKey::of(found)),
        })
    }

    async fn find_key(&self, text: &str) -> Result<KeyOwner, Error> {
        if text.len() > MAX_API_KEY_LEN {
            return Err(wrong());
        }
        let hash = self.keys.hash_of_api_key(text);
        let found = self.store.key_by_hash(&self.ctx(), hash).await?;
        found.ok_or_else(wrong)
    }

    /// What a service token may do for an end user: what its other scopes say, or where it has none all that a user
    /// may do.
    fn rights_of_service(&self, found: &KeyOwner) -> Result<Rights, Error> {
        let held = self.principal_of_key(found)?.rights;
        if !held.contains(Right::Service) {
            return Err(no_service());
        }
        let user = Rights::of_role(Role::User);
        let has_others = held != Rights::NONE.with(Right::Service);
        Ok(if has_others {
            held.intersect(user)
        } else {
            user
        })
    }

    async fn note_use(&self, found: &KeyOwner, now: Timestamp) {
        let stale = |used: Timestamp| now.millis_since(used) >= USED_MS;
        if found.last_used_at.is_none_or(stale)
            && let Err(error) = self.store.key_used(&self.ctx(), found.key).await
        {
            // Whoever only reads is answered while nothing can be written.
            tracing::warn!(%error, "that an API key was used is not noted");
        }
    }

    /// The user and the grant as they are now: neither disabled, nor revoked, nor past its end.
    pub(crate) async fn look_up(&self, user: UserId, grant: Grant) -> Result<Principal, Error> {
        let ctx = self.ctx();
        let session = match grant {
            Grant::Console | Grant::Issuer => None,
            Grant::Session(session) => Some(session),
            Grant::Key(key) => {
                let found = self.store.key_by_id(&ctx, key).await?;
                let found = found.filter(|found| found.user.id == user);
                return self.principal_of_key(&found.ok_or_else(wrong)?);
            }
            Grant::Service { key, .. } => return self.look_up_end_user(user, key).await,
        };
        if let Some(session) = session
            && !self.store.session_alive(&ctx, session).await?
        {
            return Err(wrong());
        }
        let user = match self.store.user_by_id(&ctx, user).await {
            Err(netra_store::Error::NotFound) => return Err(wrong()),
            other => other?,
        };
        let is_of = |known: &Issuer| is_known_to(&user, &known.config.url);
        let is_lost = grant == Grant::Issuer && !self.issuer.as_ref().is_some_and(is_of);
        if user.disabled || is_lost {
            return Err(wrong());
        }
        Ok(self.principal(&user, session))
    }

    async fn look_up_end_user(&self, user: UserId, key: KeyId) -> Result<Principal, Error> {
        let ctx = self.ctx();
        let found = self.store.key_by_id(&ctx, key).await?.ok_or_else(wrong)?;
        let rights = self.rights_of_service(&found)?;
        let user = match self.store.user_by_id(&ctx, user).await {
            Err(netra_store::Error::NotFound) => return Err(wrong()),
            other => other?,
        };
        if user.disabled || !is_known_to(&user, &found.user.id.to_string()) {
            return Err(wrong());
        }
        let mut principal = self.principal(&user, None);
        principal.rights = principal.rights.intersect(rights);
        Ok(principal)
    }

    fn ctx(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.runtime, BackgroundKind::Authentication)
    }

    /// The user with no right that the key's scopes lack.
    fn principal_of_key(&self, found: &KeyOwner) -> Result<Principal, Error> {
        if found.user.disabled {
            return Err(wrong());
        }
        if found
            .expires_at
            .is_some_and(|end| end <= self.runtime.now())
        {
            return Err(expired(Grant::Key(found.key)));
        }
        let mut principal = self.principal(&found.user, None);
        principal.rights = principal.rights.intersect(found.rights);
        Ok(principal)
    }

    fn principal(&self, user: &User, session: Option<SessionId>) -> Principal {
        Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            groups: user.groups.clone().into(),
            rights: Rights::of_role(user.role),
            limits: Arc::new(user.limits.clone()),
            session,
        }
    }

    /// The caller's own account. It is remembered as credentials are: what this server changes in it is seen at once.
    pub(crate) async fn account(
        &self,
        ctx: &UserExecutionContext,
        id: UserId,
    ) -> Result<Arc<User>, Error> {
        let limits = self.store.base_limits();
        if let Some((under, known)) = self.accounts.get(&id)
            && Arc::ptr_eq(&under, &limits)
        {
            return Ok(known);
        }
        let before = *self.revocations.lock();
        let user = Arc::new(self.store.user_by_id(ctx, id).await?);
        let revocations = self.revocations.lock();
        if *revocations == before {
            self.accounts.insert(id, (limits, user.clone()));
        }
        Ok(user)
    }

    /// Forgets all credentials that are concerned, and tells their sockets and streams.
    pub(crate) fn revoke(&self, revoked: Revoked) {
        let mut revocations = self.revocations.lock();
        *revocations += 1;
        for (digest, verified) in &self.remembered {
            if verified.is_concerned(revoked) {
                self.remembered.invalidate(&*digest);
            }
        }
        match revoked {
            Revoked::User(user) => self.accounts.invalidate(&user),
            Revoked::Plans | Revoked::Everything => {
                for (user, _) in &self.accounts {
                    self.accounts.invalidate(&*user);
                }
            }
            Revoked::Session(_) | Revoked::Key(_) => {}
        }
        drop(revocations);
        // Without a socket there is nobody to tell.
        self.revoked.send(revoked).ok();
    }

    /// Tells what is revoked from now on.
    pub(crate) fn revoked(&self) -> broadcast::Receiver<Revoked> {
        self.revoked.subscribe()
    }
}
