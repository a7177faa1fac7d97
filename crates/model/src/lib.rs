//! Language-model providers behind one trait: a chat request goes in, a stream of chunks comes out.
//!
//! Nothing here knows agents, runs or tools; a tool call is data. No message, log line or error of
//! this crate carries what was asked, what was answered, or a key.

mod answer;
mod anthropic;
mod cache;
mod chat;
mod circuit;
mod config;
mod configured;
mod error;
mod failure;
mod gemini;
mod guard;
mod models;
mod names;
mod openai;
mod own_key;
mod price;
mod remote;
mod retry;
mod schema;
pub mod scripted;
mod sse;
mod trial;

pub use cache::Key;
pub use chat::{
    Arguments, ChatRequest, ChatStream, Chunk, Done, Image, Keepsake, Message, StopReason,
    ToolCall, ToolSpec, Usage,
};
pub use config::{Config, Kind, MaxTokensField, ProviderConfig};
pub use error::Error;
pub use models::{ModelRef, Models, Provider};
pub use netra_context::Secret;
pub use netra_prices::{Call, PriceList, Tariff};
pub use price::{BYTES_PER_TOKEN, Price, tokens_in, tokens_of};
pub use retry::{Retry, Witness};
pub use trial::{Finding, Trial};
