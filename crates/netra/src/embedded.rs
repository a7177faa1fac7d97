//! The agents that every installation has, as they stood in `agents/` when this was built.

use netra_engine::agents::EmbeddedAgent;

/// One for each folder.
pub const AGENTS: &[EmbeddedAgent] = include!(concat!(env!("OUT_DIR"), "/agents.rs"));
