//! Providers over real connections, each in its own format.

#![expect(clippy::unwrap_used, reason = "tests")]

mod kinds;
mod openai;
mod server;
