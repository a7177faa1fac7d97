//! Programs that nobody here wrote, run for a user and held to a policy.
//!
//! [`Sandbox::start`] runs one, in three steps of the same program: the server starts a supervisor
//! ([`SANDBOX_ARGUMENT`]), which starts what gives up all that the policy does not grant ([`STAGE_ARGUMENT`]) and then
//! becomes the program. Nothing happens between fork and exec, so that a start costs the same however large the
//! server is. Dropping what `start` returns ends the program with all that it has started, and so does the end of
//! the server.

mod cgroup;
pub(crate) mod files;
mod folder;
mod leftovers;
mod namespaces;
mod order;
mod policy;
mod report;
mod running;
mod spare_user;
mod stage;
mod supervisor;
pub(crate) mod syscalls;
pub(crate) mod tree;
mod trial;

pub use leftovers::Processes;
pub use order::Without;
pub use policy::{Layers, Limits, Network, Policy, SYSTEM_FILES, Tier};
pub use report::{Ended, Reason};
pub use running::{Error, Running, Sandbox, Settings};
pub use stage::stage_main;
pub use supervisor::supervisor_main;
pub use trial::{Attempt, Trial};

/// The first argument of a process that holds a foreign program.
pub const SANDBOX_ARGUMENT: &str = "sandbox";
/// The first argument of a process that becomes a foreign program.
pub const STAGE_ARGUMENT: &str = "sandbox-stage";
