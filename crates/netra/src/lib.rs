//! Composition root, configuration and command line.
//!
//! The only crate that reads arguments, environment and configuration files, and the only one that
//! knows all others. [`node::Node::start`] is how every server comes up: the one of `netra serve`,
//! the private one of `netra run`, and those of the end-to-end tests.

pub mod accounts;
pub mod cli;
pub mod config;
pub mod exit;
pub mod metrics;
pub mod node;
mod reload;
pub mod server_file;
mod server_secrets;
mod sweep;
mod telemetry;
mod temp;
mod watch;

mod doors;
mod embedded;
mod history;
mod logs;
mod machine;
mod machine_layers;

pub use embedded::AGENTS as BUILT_IN_AGENTS;
