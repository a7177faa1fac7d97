//! Every type that leaves the process: ids, events, request and response bodies, error codes.
//!
//! No runtime and no I/O live here, and no decision: a type in this crate is a promise to clients.

pub mod id;
pub mod time;

pub mod error;
pub mod page;

pub mod account;
pub mod admin;
pub mod agent;
pub mod approval;
pub mod audit;
pub mod event;
pub mod file;
pub mod frame;
pub mod isolation;
pub mod limits;
pub mod message;
pub mod model;
pub mod run;
pub mod secret;
pub mod thread;
pub mod tool;
pub mod usage;

pub use error::{ErrorBody, ErrorCode, Failure};
pub use event::{Event, EventKind, WireEvent};
pub use page::{AsOf, Page};
pub use time::Timestamp;
