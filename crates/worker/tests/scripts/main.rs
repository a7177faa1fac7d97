//! Scripts in real worker processes: what they can do, what they cannot, and every limit gone over.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod driver;
mod gathered;
mod limits;
mod sharing;
#[path = "../probe/someone.rs"]
mod someone;
mod steps;
