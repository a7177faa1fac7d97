//! Sign-ins: the tokens that begin one, the refresh that carries it on, and its end.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::account::{Plan, Role, Tokens, User};
use netra_protocol::id::SessionId;
use netra_store::{NewUser, Refreshed};

use super::verifier::Revoked;
use super::{secret_hash, secret_text};
use crate::error::Error;
use crate::state::Gateway;

/// The user whom `--dev` signs in.
pub(crate) const DEV_USER: &str = "local";
/// The longest refresh token that is looked at; ours have 43 characters.
const MAX_TOKEN_LEN: usize = 128;

/// The context in which credentials are looked up.
pub(crate) fn looking_up(gateway: &Gateway) -> UserExecutionContext {
    UserExecutionContext::for_background(&gateway.runtime, BackgroundKind::Authentication)
}

fn refresh_end(gateway: &Gateway) -> Timestamp {
    let life_ms = i64::try_from(gateway.config.refresh_ttl.as_millis()).unwrap_or(i64::MAX);
    gateway.runtime.now().plus_millis(life_ms)
}

fn tokens(
    gateway: &Gateway,
    user: User,
    session: SessionId,
    refresh: String,
) -> Result<Tokens, Error> {
    let ttl = gateway.config.access_ttl;
    let now = gateway.runtime.now();
    let access_token = gateway.keys.access_token(user.id, Some(session), now, ttl);
    Ok(Tokens {
        access_token: access_token.map_err(Error::internal)?,
        refresh_token: refresh,
        expires_in_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        user,
    })
}

/// Begins a session for a user whose credentials were verified.
pub(crate) async fn begin(gateway: &Gateway, user: User) -> Result<Tokens, Error> {
    let refresh = secret_text(&gateway.runtime.secret_bytes::<32>());
    let (hash, end) = (secret_hash(&refresh), refresh_end(gateway));
    let session = gateway
        .store
        .session_create(&looking_up(gateway), user.id, hash, end)
        .await?;
    tokens(gateway, user, session, refresh)
}

/// Trades a refresh token for new tokens. A token that was used before ends its session.
pub(crate) async fn carry_on(gateway: &Gateway, old: &str) -> Result<Tokens, Error> {
    let refused = || Error::unauthenticated("The refresh token is not valid; sign in again.");
    if old.len() > MAX_TOKEN_LEN {
        return Err(refused());
    }
    let ctx = looking_up(gateway);
    let refresh = secret_text(&gateway.runtime.secret_bytes::<32>());
    let (old_hash, new_hash) = (secret_hash(old), secret_hash(&refresh));
    let end = refresh_end(gateway);
    match gateway
        .store
        .session_refresh(&ctx, old_hash, new_hash, end)
        .await?
    {
        Refreshed::Rotated { user, session } => tokens(gateway, *user, session, refresh),
        Refreshed::Reused(session) => {
            gateway.verifier.revoke(Revoked::Session(session));
            Err(refused())
        }
        Refreshed::Unknown => Err(refused()),
    }
}

/// Ends the session that a refresh token belongs to, if there is one.
pub(crate) async fn end_by_token(gateway: &Gateway, token: &str) -> Result<(), Error> {
    if token.len() > MAX_TOKEN_LEN {
        return Ok(());
    }
    let ctx = looking_up(gateway);
    match gateway
        .store
        .session_of_token(&ctx, secret_hash(token))
        .await?
    {
        Some(session) => end(gateway, &ctx, session).await,
        None => Ok(()),
    }
}

/// Ends a session, for the context's user or for the server itself. Ending one that has ended is
/// no error.
pub(crate) async fn end(
    gateway: &Gateway,
    ctx: &UserExecutionContext,
    session: SessionId,
) -> Result<(), Error> {
    match gateway.store.session_revoke(ctx, session).await {
        Ok(()) | Err(netra_store::Error::NotFound) => {
            gateway.verifier.revoke(Revoked::Session(session));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Signs the user `local` in, made on first use; for `--dev` alone.
pub(crate) async fn begin_dev(gateway: &Gateway) -> Result<Tokens, Error> {
    let ctx = looking_up(gateway);
    if let Some(known) = gateway.store.user_by_name(&ctx, DEV_USER).await? {
        if known.user.disabled {
            return Err(Error::unauthenticated("The user `local` is disabled."));
        }
        return begin(gateway, known.user).await;
    }
    let new = NewUser {
        name: DEV_USER.into(),
        role: Role::Admin,
        plan: Plan::Enterprise,
        password_hash: None,
    };
    match gateway.store.user_create(&ctx, new).await {
        Ok(user) => begin(gateway, user).await,
        // Two browsers at once: the other was faster.
        Err(netra_store::Error::NameTaken) => {
            let known = gateway.store.user_by_name(&ctx, DEV_USER).await?;
            let known = known.ok_or_else(|| Error::internal("the user `local` is gone"))?;
            begin(gateway, known.user).await
        }
        Err(error) => Err(error.into()),
    }
}
