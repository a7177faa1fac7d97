//! One file per resource: what is asked, whom it is asked for, what is answered.

pub(crate) mod account;
pub(crate) mod admin;
pub(crate) mod agents;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod invites;
pub(crate) mod isolation;
pub(crate) mod keys;
pub(crate) mod me;
pub(crate) mod metrics;
pub(crate) mod plans;
pub(crate) mod runs;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod threads;
pub(crate) mod tool_servers;
pub(crate) mod upload;
pub(crate) mod usage;
