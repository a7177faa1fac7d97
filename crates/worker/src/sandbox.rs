//! Programs that nobody here wrote, run for a user and held to a policy.
//!
//! [`Sandbox::start`] runs one: with an environment of its own, no descriptors but its three pipes, and an end that it
//! does not choose. Dropping what it returns ends the program with all that it has started.

pub(crate) mod files;
mod policy;
mod report;
mod running;
pub(crate) mod syscalls;

pub use policy::{Layers, Limits, Network, Policy, SYSTEM_FILES, Tier};
pub use report::{Ended, Reason};
pub use running::{Error, Running, Sandbox, Settings};
