//! Tool servers that nobody here wrote, from npm and PyPI, behind the real server. `cargo xtask test mcp` installs
//! them and runs these tests.

mod configuration;
mod everything;
mod faults;
mod files;
mod installed;
mod isolation;
pub(super) mod process;
mod python;
mod web;
mod world;
