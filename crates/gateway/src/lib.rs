//! The edge: HTTP, server-sent events and the WebSocket over the crates below, and the embedded
//! page. The only crate that knows status codes.
//!
//! Reading order: [`router`] (paths and layers), `extract` (how a request gets its context),
//! `error` (how an error gets its status), `routes` (a file per resource), `ws` and `sse` (events),
//! `auth` (who asks), `charge` (on whose memory account). It never decides what an agent may do, and never touches SQL.

mod address;
mod archive;
mod auth;
mod charge;
mod config;
mod cors;
mod cursor;
mod error;
mod extract;
mod json;
mod layers;
mod limit;
mod openapi;
mod overload;
mod router;
mod routes;
mod serve;
mod sse;
mod state;
mod trace;
mod ui;
mod ws;

pub use address::Net;
pub use auth::issuer::IssuerConfig;
pub use auth::keys::{Error as KeysError, Keys};
pub use auth::link::{OneTimeLink, reset_token};
pub use auth::origin::is_origin;
pub use auth::passwords::{Refused as PasswordRefused, hash_password};
pub use auth::setup::setup_token;
pub use config::{
    Config, LOGINS_PER_MINUTE, Origins, PerMinute, REQUESTS_PER_ADDRESS, Registration,
};
pub use openapi::openapi;
pub use router::router;
pub use serve::transport::{Door, FreshCertificate, Tls};
pub use serve::{serve, serve_at};
pub use state::{History, Metrics, Parts};

#[cfg(test)]
mod tests;
