//! Links for people that are good once: a token, where a browser takes it to, and what the store keeps of it.

use std::time::Duration;

use axum::http::{HeaderMap, Uri};
use netra_context::Runtime;
use netra_protocol::admin::Link;
use netra_store::NewLink;

use super::{origin, secret_hash, secret_text};
use crate::state::Gateway;

/// How long a link to a new password is good.
pub(crate) const RESET_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// What a link is for that is good once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneTimeLink {
    /// To make the first admin.
    Setup,
    /// To set a new password.
    Reset,
    /// To make an account.
    Invite,
}

impl OneTimeLink {
    /// The link of a server that browsers reach at `base`. Its token stands behind the `#`, which browsers keep to
    /// themselves: no log of a server or proxy has it, and no `Referer`.
    pub fn url(self, base: &str, token: &str) -> String {
        let place = match self {
            Self::Setup => "setup#token",
            Self::Reset => "reset#token",
            Self::Invite => "register#invite",
        };
        format!("{}/{place}={token}", base.trim_end_matches('/'))
    }
}

fn token(runtime: &Runtime, life: Duration) -> (String, NewLink) {
    let token = secret_text(&runtime.secret_bytes::<32>());
    let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    let kept = NewLink {
        hash: secret_hash(&token),
        expires_at: runtime.now().plus_millis(life_ms),
    };
    (token, kept)
}

/// A new token by which somebody sets a password, and what is kept of it. [`OneTimeLink::Reset`] makes its link.
pub fn reset_token(runtime: &Runtime) -> (String, NewLink) {
    token(runtime, RESET_LIFE)
}

/// A new link, which is told once, and what is kept of it.
pub(crate) fn make(
    gateway: &Gateway,
    purpose: OneTimeLink,
    life: Duration,
    (headers, uri): (&HeaderMap, &Uri),
) -> (Link, NewLink) {
    let (token, kept) = token(&gateway.runtime, life);
    let base = origin::base(&gateway.config, headers, uri);
    let link = Link {
        url: purpose.url(&base, &token),
        token,
        expires_at: kept.expires_at,
    };
    (link, kept)
}
