//! Agents behind HTTP endpoints: the protocol, and the client that speaks it.
//!
//! Such an agent works in turns. Netra posts all that the agent needs to go on, and the endpoint
//! answers with what it wants done, or with its result ([`Turn`], [`Step`]). Whatever the agent wants
//! remembered travels with the turns, so an endpoint keeps nothing, and nothing reaches Netra that
//! Netra has not asked for. `docs/agents-http.md` is written for those who write such agents.

mod address;
mod answer;
mod client;
mod error;
mod wire;

pub use address::Endpoint;
pub use answer::{Answer, MAX_ANSWER_BYTES};
pub use client::Endpoints;
pub use error::Error;
pub use wire::{Answered, Call, Offer, PROTOCOL, Said, Step, Turn};
