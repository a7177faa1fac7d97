//! The first admin: a one-time token that only who sees the server's output has.

use netra_context::{BackgroundKind, Runtime, UserExecutionContext};
use netra_store::Store;

use super::{same_secret, secret_hash, secret_text};
use crate::error::Error;
use crate::state::Gateway;

/// Where the store keeps the token's hash.
const META_KEY: &str = "setup_token_hash";

fn hash_text(token: &str) -> String {
    secret_text(&secret_hash(token))
}

/// Makes a new set-up token if the server has no user yet; the one before is no longer good.
/// [`OneTimeLink::Setup`](crate::OneTimeLink::Setup) makes the link for the first admin.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn setup_token(
    runtime: &Runtime,
    store: &Store,
) -> Result<Option<String>, netra_store::Error> {
    let ctx = UserExecutionContext::for_background(runtime, BackgroundKind::Authentication);
    if !store.needs_setup(&ctx).await? {
        return Ok(None);
    }
    let token = secret_text(&runtime.secret_bytes::<24>());
    store
        .meta_set(&ctx, META_KEY, Some(hash_text(&token)))
        .await?;
    Ok(Some(token))
}

/// Refuses a token that is not the one that was printed last.
pub(crate) async fn check(gateway: &Gateway, token: &str) -> Result<(), Error> {
    let ctx = super::session::looking_up(gateway);
    match gateway.store.meta_get(&ctx, META_KEY).await? {
        Some(known) if same_secret(&known, &hash_text(token)) => Ok(()),
        _ => Err(Error::unauthenticated(
            "The set-up token is not valid, or the server is set up.",
        )),
    }
}

/// Takes the token away after the first admin was made.
pub(crate) async fn used(gateway: &Gateway) -> Result<(), Error> {
    let ctx = super::session::looking_up(gateway);
    Ok(gateway.store.meta_set(&ctx, META_KEY, None).await?)
}
