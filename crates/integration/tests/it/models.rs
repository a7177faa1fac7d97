//! Language models behind the real server.

mod listed;
mod real;
