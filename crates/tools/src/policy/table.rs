//! The policy for one run: what does not depend on the arguments of a call is asked once.

use std::collections::HashMap;
use std::sync::Arc;

use netra_context::UserExecutionContext;
use netra_protocol::id::ThreadId;
use netra_store::Rate;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Policy, Question, Verdict};
use crate::tool::ToolSpec;

/// The policy with what it has said to one run. It holds as long as the run's engine: a user whose role or plan
/// changes meets the change in the next run, or when this one goes on after waiting.
pub(crate) struct RunPolicy {
    policy: Arc<Policy>,
    thread: ThreadId,
    decided: Known<Decided>,
    offered: Known<Verdict>,
}

/// Answers by agent and tool.
type Known<T> = Mutex<HashMap<(String, String), T>>;

/// What the policy says of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) verdict: Verdict,
    /// As in [`Explained`](super::Explained).
    pub(crate) rates: Vec<Vec<Rate>>,
}

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
    ) -> Decided {
        let ask = |question: &Question<'_>| {
            let explained = self.policy.explain(question, arguments);
            Decided {
                verdict: explained.verdict,
                rates: explained.rates,
            }
        };
        let known = (!self.policy.policies.reads_arguments).then_some(&self.decided);
        self.ask(ctx, agent, tool, known, ask)
            .unwrap_or_else(|refused| Decided {
                verdict: refused,
                rates: Vec::new(),
            })
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
            .unwrap_or_else(|refused| refused)
    }

    /// What is known of the question, where its answers are kept, or the answer; a refusal where no user asks.
    fn ask<T: Clone>(
        &self,
        ctx: &UserExecutionContext,
        agent: &str,
        tool: &ToolSpec,
        known: Option<&Known<T>>,
        ask: impl FnOnce(&Question<'_>) -> T,
    ) -> Result<T, Verdict> {
        let key = (agent.to_owned(), tool.name.clone());
        if let Some(answer) = known.and_then(|known| known.lock().get(&key).cloned()) {
            return Ok(answer);
        }
        let Some(principal) = ctx.principal() else {
            return Err(Verdict::Refused("no user asks".into()));
        };
        let answer = ask(&Question {
            principal,
            tool,
            agent,
            thread: Some(self.thread),
        });
        if let Some(known) = known {
            known.lock().insert(key, answer.clone());
        }
        Ok(answer)
    }
}
