//! The studies of a log: every number is computed once more in these tests, from the rows, without the crate.
#![expect(clippy::unwrap_used, reason = "tests")]

mod columnar;
#[path = "../files/mod.rs"]
mod files;
mod outlook;
mod parts;
mod repeats;
mod traffic;
