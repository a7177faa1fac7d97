//! Servers of the Model Context Protocol as tools of agents.
//!
//! [`Servers`] asks each configured server for its tools and gives them to the registry. A call goes
//! to an instance of its owner: a user's instance serves that user only. What servers say of
//! themselves was written by strangers; everything is bounded.

mod config;
mod connection;
mod content;
mod ending;
mod instance;
mod lines;
mod listening;
mod offer;
mod opened;
mod own;
mod program;
mod sandboxed;
#[cfg(test)]
mod scripted_tests;
mod seat;
mod seats;
mod server;
mod servers;
mod sign_in;
mod tool;
mod web;
mod words;

pub use config::{
    Address, Command, Config, Era, Given, Grant, GrantChange, Oauth, Place, ServerConfig,
    check_name,
};
pub use offer::fitted;
pub use own::Users;
pub use program::{Program, Programs, Started};
pub use servers::{Servers, Trial};
