//! The Rust client of the public contract: REST, the WebSocket, and a run's events over SSE.
//!
//! It knows the contract's types and nothing of the server. What it does on its own, it does for
//! every caller: errors carry the contract's code, a subscription notices a gap, a lost connection
//! is taken up again where it broke off.

mod backoff;
mod client;
mod error;
mod feed;
mod run_events;
mod socket;
mod sse;

pub use backoff::Backoff;
pub use client::{Client, Upload};
pub use error::Error;
pub use feed::Feed;
pub use reqwest::Method;
pub use run_events::RunEvents;
pub use socket::{Credential, Incoming, Ready, Received, RunAccepted, Socket, Subscribed};
