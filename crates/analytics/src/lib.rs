//! Reading and analysing LLM usage logs: exact statistics over untrusted files, costs against a dated price list, charts.
//!
//! The crate is pure: no network, no threads, no clock. It runs inside a worker process with a hard memory limit, so every
//! buffer here has a bound and a file is read once, as a stream, into compact columns. It never invents a number: what a log
//! does not hold is `null` in the result and named in `missing` with the reason.

mod arguments;
mod chart;
mod columns;
mod cost;
mod error;
mod inspect;
pub mod jobs;
mod json_rows;
mod lines;
mod log;
mod output;
mod prices;
mod profile;
mod read;
mod stats;
mod table;
mod tally;
mod times;
mod what_if;

pub use error::{Code, Error};
