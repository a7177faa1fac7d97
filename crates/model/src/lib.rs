//! Language-model providers behind one trait: a chat request goes in, a stream of chunks comes out.
//!
//! Nothing here knows agents, runs or tools; a tool call is data. No message, log line or error of
//! this crate carries what was asked, what was answered, or a key.

mod chat;
mod config;
mod error;
mod guard;
mod models;
mod openai;
pub mod scripted;
mod sse;

pub use chat::{
    Arguments, ChatRequest, ChatStream, Chunk, Done, Image, Keepsake, Message, StopReason,
    ToolCall, ToolSpec, Usage,
};
pub use config::{Config, MaxTokensField, ProviderConfig};
pub use error::Error;
pub use models::{ModelInfo, ModelRef, Models, Provider};
pub use netra_context::Secret;
