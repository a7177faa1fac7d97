//! Reading and analysing files of users: exact statistics over LLM usage logs, costs against a dated price list, SQL over
//! tables, charts.
//!
//! The crate is pure: no network, no threads, no clock but for the time that a query may take. It runs inside a worker
//! process with a hard memory limit, so every buffer here has a bound, and a log is read once, as a stream, into compact
//! columns. It never invents a number: what a log does not hold is `null` in the result and named in `missing` with the
//! reason.

mod anomalies;
mod arguments;
mod baseline;
mod chart;
mod columnar;
mod columns;
mod cost;
mod dimension;
mod drivers;
mod error;
mod figure;
mod forecast;
mod growth;
mod inspect;
pub mod jobs;
mod json_rows;
mod latency;
mod lines;
mod log;
mod objects;
mod operations;
mod output;
mod pareto;
mod profile;
mod prompts;
mod rate_limits;
mod read;
mod repeats;
mod series;
mod sql;
mod stats;
mod table;
mod tally;
mod times;
mod what_if;

pub use error::{Code, Error};
use netra_prices as prices;
