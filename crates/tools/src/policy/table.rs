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
    decided: Known,
    offered: Known,
}

/// Verdicts by agent and tool.
type Known = Mutex<HashMap<(String, String), Verdict>>;

impl RunPolicy {
    pub(crate) fn new(policy: Arc<Policy>, thread: ThreadId) -> Self {
        Self {
            policy,
            thread,
            decided: Known::default(),
            offered: Known::default(),
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
        let ask = |question: &Question<'_>| self.policy.decide(question, arguments);
        let known = (!self.policy.policies.reads_arguments).then_some(&self.decided);
        self.ask(ctx, agent, tool, known, ask)
    }

    /// As [`Policy::offers`].
    pub(crate) fn offers(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        tool: &ToolSpec,
    ) -> Verdict {
        let ask = |question: &Question<'_>| self.policy.offers(question);
        self.ask(ctx, agent, tool, Some(&self.offered), ask)
    }

    /// What is known of the question, where its answers are kept, or the answer.
    fn ask(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        tool: &ToolSpec,
        known: Option<&Known>,
        ask: impl FnOnce(&Question<'_>) -> Verdict,
    ) -> Verdict {
        let key = (agent.to_owned(), tool.name.clone());
        if let Some(verdict) = known.and_then(|known| known.lock().get(&key).cloned()) {
            return verdict;
        }
        let Some(principal) = ctx.principal() else {
            return Verdict::Refused("no user asks".into());
        };
        let verdict = ask(&Question {
            principal,
            tool,
            agent,
            thread: Some(self.thread),
        });
        if let Some(known) = known {
            known.lock().insert(key, verdict.clone());
        }
        verdict
    }
}
