//! Who holds what on a node, for admins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::UserId;
use crate::time::Timestamp;

/// What everybody holds on this node now, and what must be nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Isolation {
    /// When this was looked at.
    pub at: Timestamp,
    /// The users who hold anything, or have reached a limit since the start; who holds the most
    /// memory is first.
    pub users: Vec<UserHoldings>,
    /// All of them together.
    pub node: NodeHoldings,
    /// What must be 0.
    pub must_be_zero: MustBeZero,
}

/// What one user holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserHoldings {
    /// Who.
    pub user_id: UserId,
    /// Whose name it is; none where the account is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Execution slots.
    pub slots: Slots,
    /// Memory; none where the user has no request, socket, run or program here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryHoldings>,
    /// Worker processes.
    pub workers: u64,
    /// Open WebSockets.
    pub sockets: u64,
    /// Open event streams.
    pub streams: u64,
    /// How often the user has reached each limit since the start, by its key in the configuration.
    /// Limits that were never reached are absent.
    pub limits_hit: BTreeMap<String, u64>,
}

/// Execution slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slots {
    /// Runs that execute.
    pub running: u64,
    /// Runs that wait for a slot.
    pub queued: u64,
    /// Runs that wait for a person; they hold no slot.
    pub waiting: u64,
    /// How many may execute at once.
    pub allowed: u64,
}

/// Memory of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryHoldings {
    /// Bytes in the server; none where the server does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
    /// Bytes in worker processes.
    pub worker_bytes: u64,
    /// Bytes in programs of tool servers.
    #[serde(default)]
    pub program_bytes: u64,
    /// The most bytes of all three since the user's memory was last empty; none as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// The most that the user may hold.
    pub limit_bytes: u64,
}

/// What all users hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeHoldings {
    /// Slots of the node; `allowed` is the most engines at once.
    pub slots: Slots,
    /// Bytes in the server that are accounted for; none where the server does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
    /// Those of them that belong to no user; none as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_bytes: Option<u64>,
    /// Bytes in programs of tool servers, those included that serve everybody.
    #[serde(default)]
    pub program_bytes: u64,
    /// Worker processes with a run.
    pub workers: u64,
    /// Open WebSockets and event streams.
    pub connections: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
}

/// What must be 0. Looked at several times, and the least of it counts, because runs come and go
/// meanwhile: what stays above 0 is a defect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MustBeZero {
    /// Engines that were made and not released, and that no run has: created − cleaned − active.
    pub engines_lost: u64,
    /// Slots and places in queues that no run has.
    pub seats_without_run: u64,
    /// Tasks that drive a run which is not there any more.
    pub tasks_without_run: u64,
    /// Worker processes that are neither ready for a run nor known to one.
    pub workers_without_run: u64,
    /// Events that were about to reach another user, and were stopped, since the start.
    pub foreign_events: u64,
}

impl MustBeZero {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("engines_lost", self.engines_lost),
            ("seats_without_run", self.seats_without_run),
            ("tasks_without_run", self.tasks_without_run),
            ("workers_without_run", self.workers_without_run),
            ("foreign_events", self.foreign_events),
        ]
    }

    /// What is in this and in the other look.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self {
            engines_lost: self.engines_lost.min(other.engines_lost),
            seats_without_run: self.seats_without_run.min(other.seats_without_run),
            tasks_without_run: self.tasks_without_run.min(other.tasks_without_run),
            workers_without_run: self.workers_without_run.min(other.workers_without_run),
            foreign_events: self.foreign_events.min(other.foreign_events),
        }
    }
}
