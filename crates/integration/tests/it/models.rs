//! Language models behind the real server.

mod real;
