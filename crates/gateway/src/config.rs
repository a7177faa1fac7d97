//! What the edge can be told: origins, registration, lives of tokens, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netra_context::Secret;
use parking_lot::RwLock;

use crate::address::Net;
use crate::auth::issuer::IssuerConfig;

/// Who may make an account by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Registration {
    /// Anybody who reaches the server.
    Open,
    /// Whoever holds an invitation.
    Invite,
    /// Nobody; admins make accounts.
    #[default]
    Closed,
}

impl std::str::FromStr for Registration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "invite" => Ok(Self::Invite),
            "closed" => Ok(Self::Closed),
            _ => Err("expected one of: open, invite, closed".into()),
        }
    }
}

/// How often somebody who is not signed in may do something in a minute. It can be set while the server runs; clones
/// are the same.
#[derive(Debug, Clone)]
pub struct PerMinute(Arc<AtomicU32>);

impl From<u32> for PerMinute {
    fn from(number: u32) -> Self {
        Self(Arc::new(AtomicU32::new(number)))
    }
}

impl PerMinute {
    /// As often as this from now on.
    pub fn set(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Origins of other pages that may use the interface. They can be set while the server runs; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Origins(Arc<RwLock<Vec<String>>>);

impl From<Vec<String>> for Origins {
    fn from(origins: Vec<String>) -> Self {
        Self(Arc::new(RwLock::new(origins)))
    }
}

impl Origins {
    /// These from now on.
    pub fn set(&self, origins: Vec<String>) {
        *self.0.write() = origins;
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    /// Whether this is one of them. Neither schemes nor hosts have a case.
    pub(crate) fn have(&self, origin: &str) -> bool {
        let origins = self.0.read();
        origins
            .iter()
            .any(|listed| listed.eq_ignore_ascii_case(origin))
    }
}

/// Settings of the edge, already checked.
#[derive(Clone)]
pub struct Config {
    /// Where browsers reach the server, such as `https://netra.example`; none where the `Host`
    /// that they name is to be taken.
    pub public_origin: Option<String>,
    /// Whether the server itself speaks TLS, so that its own address is `https://…`.
    pub tls: bool,
    /// Origins of other pages that may use the interface.
    pub allowed_origins: Origins,
    /// Who may make an account.
    pub registration: Registration,
    /// Whose tokens are taken besides the server's own.
    pub issuer: Option<IssuerConfig>,
    /// Signs a browser on the loopback address in as the user `local`.
    pub dev: bool,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Life of a refresh token.
    pub refresh_ttl: Duration,
    /// Life of a WebSocket ticket.
    pub ticket_ttl: Duration,
    /// How long a verified token is believed before its session and user are looked up again. What
    /// this server itself revokes, it forgets at once; this bounds what another process revokes.
    pub recheck: Duration,
    /// WebSockets of all users on this node.
    pub max_sockets: usize,
    /// Connections of all kinds on this node; beyond it the oldest on which nobody has signed in
    /// is closed. A quarter of them is never taken by WebSockets and event streams.
    pub max_connections: usize,
    /// Requests of one address that carry no good credentials.
    pub requests_per_address: PerMinute,
    /// Sign-ins of a pair of account and address. No user's and no plan's: before a sign-in nobody knows whose it is,
    /// and another limit for an account would tell that there is one.
    pub logins_per_minute: PerMinute,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Net>,
    /// How long a new connection may take to bring the head of its first request.
    pub header_timeout: Duration,
    /// How long the body of a request may bring nothing, or less than 16 KiB.
    pub body_stall: Duration,
    /// Password checks that may run at once; each holds 19 MiB.
    pub password_checks: usize,
    /// A token that reads `GET /api/metrics` and nothing else.
    pub metrics_token: Option<Secret>,
    /// What stands before `#<code>` in the `docs` of an error.
    pub docs_base: String,
    /// Between two pings of a WebSocket.
    pub heartbeat: Duration,
    /// How long a client may take no byte before its socket is closed.
    pub write_stall: Duration,
}

/// Requests of one address without good credentials, per minute, where nothing else is said.
pub const REQUESTS_PER_ADDRESS: u32 = 3_000;
/// Sign-ins of a pair of account and address, per minute, where nothing else is said.
pub const LOGINS_PER_MINUTE: u32 = 5;

impl Default for Config {
    fn default() -> Self {
        Self {
            public_origin: None,
            tls: false,
            allowed_origins: Origins::default(),
            registration: Registration::Closed,
            issuer: None,
            dev: false,
            access_ttl: Duration::from_secs(15 * 60),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            ticket_ttl: Duration::from_secs(30),
            recheck: Duration::from_secs(60),
            max_sockets: 20_000,
            max_connections: 30_000,
            requests_per_address: REQUESTS_PER_ADDRESS.into(),
            logins_per_minute: LOGINS_PER_MINUTE.into(),
            trusted_proxies: Vec::new(),
            header_timeout: Duration::from_secs(10),
            body_stall: Duration::from_secs(30),
            password_checks: 4,
            metrics_token: None,
            docs_base: "/api/docs".into(),
            heartbeat: Duration::from_millis(netra_protocol::frame::HEARTBEAT_INTERVAL_MS),
            write_stall: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("public_origin", &self.public_origin)
            .field("registration", &self.registration)
            .field("dev", &self.dev)
            .field("metrics_token", &self.metrics_token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}
