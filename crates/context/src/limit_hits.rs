//! Which limits users have reached since the server started, by user and limit.

use std::collections::HashMap;

use netra_memory::Scope;
use netra_protocol::id::UserId;
use parking_lot::Mutex;

/// A limit that refuses a user something or ends a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Limit {
    /// Runs at once.
    ConcurrentRuns,
    /// Runs that wait for a slot.
    QueuedRuns,
    /// Runs at once on the node.
    Engines,
    /// The user's memory.
    Memory,
    /// The node's memory.
    NodeMemory,
    /// The deadline of a run.
    RunTimeout,
    /// Steps of an agent.
    Steps,
    /// Tool calls of a run.
    ToolCalls,
    /// Agents within agents.
    Depth,
    /// Crashes that a run survives.
    Attempts,
    /// Sockets and streams at once.
    Sockets,
    /// Requests in a minute.
    Requests,
    /// Messages of a socket.
    Messages,
    /// Money for models in a day.
    BudgetUsd,
    /// Tokens of models in a day.
    BudgetTokens,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::ConcurrentRuns,
        Self::QueuedRuns,
        Self::Engines,
        Self::Memory,
        Self::NodeMemory,
        Self::RunTimeout,
        Self::Steps,
        Self::ToolCalls,
        Self::Depth,
        Self::Attempts,
        Self::Sockets,
        Self::Requests,
        Self::Messages,
        Self::BudgetUsd,
        Self::BudgetTokens,
    ];

    /// Its key in the configuration, without the section.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConcurrentRuns => "concurrent_runs",
            Self::QueuedRuns => "queued_runs",
            Self::Engines => "engines",
            Self::Memory => "memory_mib",
            Self::NodeMemory => "node_memory_mib",
            Self::RunTimeout => "run_timeout_ms",
            Self::Steps => "steps",
            Self::ToolCalls => "tool_calls",
            Self::Depth => "depth",
            Self::Attempts => "attempts",
            Self::Sockets => "sockets",
            Self::Requests => "requests_per_minute",
            Self::Messages => "messages_per_10s",
            Self::BudgetUsd => "budget_usd",
            Self::BudgetTokens => "budget_tokens",
        }
    }
}

/// What each user has reached, and how often. A user who has reached nothing takes no room.
#[derive(Default)]
pub(crate) struct LimitHits(Mutex<HashMap<UserId, [u64; Limit::ALL.len()]>>);

impl LimitHits {
    pub(crate) fn count(&self, user: UserId, limit: Limit) {
        metrics::counter!("netra_limits_hit_total", "limit" => limit.as_str()).increment(1);
        // The table is everybody's.
        let _system = Scope::system().enter();
        self.0.lock().entry(user).or_default()[limit as usize] += 1;
    }

    pub(crate) fn of(&self, user: UserId) -> Vec<(Limit, u64)> {
        let hits = self.0.lock().get(&user).copied().unwrap_or_default();
        let counted = Limit::ALL.into_iter().zip(hits);
        counted.filter(|(_, times)| *times > 0).collect()
    }

    pub(crate) fn users(&self) -> Vec<UserId> {
        self.0.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_counted_for_its_user_in_a_place_of_its_own() {
        let hits = LimitHits::default();
        let (anna, bert) = (UserId::from_parts(1, 1), UserId::from_parts(1, 2));
        for (times, limit) in Limit::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| hits.count(anna, limit));
        }
        let counted = hits.of(anna);
        assert_eq!(counted.len(), Limit::ALL.len());
        for (index, (limit, times)) in counted.into_iter().enumerate() {
            assert_eq!((limit, times), (Limit::ALL[index], index as u64 + 1));
        }
        assert_eq!((hits.of(bert), hits.users()), (Vec::new(), vec![anna]));
    }
}
