//! Who asks, what they may do, until when, and on whose account.
//!
//! [`UserExecutionContext`] is the first argument of everything that reads or changes a user's
//! data. It knows nothing of HTTP, of SQL or of agents.

pub mod duration;
pub mod lag;
pub mod memory;
pub mod pressure;
pub mod principal;
pub mod programs;
pub mod rights;
pub mod runtime;
pub mod trace;

mod accounts;
mod in_use;
mod limit_hits;
mod secret;
mod turn;
mod user_execution_context;

pub use lag::Lag;
pub use limit_hits::Limit;
pub use principal::{BackgroundKind, Principal};
pub use rights::{Right, Rights};
pub use runtime::Runtime;
pub use secret::Secret;
pub use trace::Trace;
pub use user_execution_context::{Origin, RunOrigin, UserExecutionContext};
