//! The Rust client of the public contract: REST, and events over WebSocket and SSE.
//!
//! It knows the contract's types and nothing of the server. What it does on its own, it does for
//! every caller: errors carry the contract's code; access tokens are renewed before they end, on
//! open sockets too; a start whose answer was lost is asked for again and made once; a subscription
//! notices a gap and a dead line, and a lost connection is taken up again where it broke off.

mod backoff;
mod client;
mod credentials;
mod error;
mod feed;
mod incoming;
mod rest;
mod socket;
mod sse;
mod stream;

pub use backoff::Backoff;
pub use client::Client;
pub use credentials::{Access, TokenSource};
pub use error::{Error, LogRange};
pub use feed::{Feed, Place};
pub use incoming::{Incoming, Ready, Received};
pub use reqwest::Method;
pub use rest::Upload;
pub use socket::{Credential, RunAccepted, Socket, Subscribed};
pub use stream::EventStream;

#[cfg(test)]
mod tests;
