//! The policy for one run: what does not depend on the arguments of a call is asked once.

use std::collections::HashMap;
use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_protocol::id::ThreadId;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Policy, Question, Verdict};
use crate::tool::ToolSpec;

/// The policy with what it has said to one run. It holds as long as the run's engine: a user whose role or plan
/// changes meets the change in the next run, or when this one goes on after waiting.
pub(crate) struct RunPolicy {
    policy: Arc<Policy>,
    thread: ThreadId,
    /// By agent and tool.
    known: Mutex<HashMap<(String, String), Verdict>>,
}

impl RunPolicy {
    pub(crate) fn new(policy: Arc<Policy>, thread: ThreadId) -> Self {
        Self {
            policy,
            thread,
            known: Mutex::default(),
        }
    }

    /// As [`Policy::decide`].
    pub(crate) fn decide(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        tool: &ToolSpec,
        arguments: &Value,
    ) -> Verdict {
        let Some(principal) = ctx.principal() else {
            return Verdict::Refused("no user asks".into());
        };
        let question = Question {
            principal,
            tool,
            agent,
            thread: Some(self.thread),
        };
        if self.policy.policies.reads_arguments {
            return self.policy.decide(&question, arguments);
        }
        let key = (agent.to_owned(), tool.name.clone());
        if let Some(verdict) = self.known.lock().get(&key) {
            return verdict.clone();
        }
        let verdict = self.policy.decide(&question, arguments);
        self.known.lock().insert(key, verdict.clone());
        verdict
    }
}
