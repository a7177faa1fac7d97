//! What the calls of a run's models may come to: set aside in the store before each, and settled after it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use netra_events::Emission;
use netra_model::{ChatRequest, Chunk, ModelRef, Price, Usage, tokens_in, tokens_of};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_store::{
    Amount, Bound, Budgets, Changes, Error, ReservationId, Reserved, Settlement, Shortage,
};
use parking_lot::Mutex;
use serde_json::json;

use crate::agents::Definition;
use crate::engine::WARN_AT;
use crate::execution::{Fault, Frame, unwritten};

/// What an answer is bounded to for a budget, in tokens, where neither the agent says how long it may be nor anybody
/// knows it of the model, or where there is no room for that. All models take it.
const MAX_OUTPUT_TOKENS: u32 = 4_096;

/// What bounds the calls of one run. Owned by its execution.
pub(crate) struct Budget {
    budgets: Budgets,
    /// Calls that went away before they were settled, with what they are taken to have used.
    cut_off: Mutex<Vec<Settlement>>,
}

impl Budget {
    /// That of the user for the day, and that which the run's own agent has.
    pub(crate) fn of(limits: &Limits, agent: &Definition) -> Self {
        let budgets = Budgets {
            day: Bound::new(limits.budget_tokens, limits.budget_usd),
            run: agent.calls.budget,
        };
        Self {
            budgets,
            cut_off: Mutex::default(),
        }
    }

    /// What is to be settled with the run's next commit.
    pub(crate) fn cut_off(&self) -> Vec<Settlement> {
        self.cut_off.lock().clone()
    }

    /// A commit has settled these.
    pub(crate) fn settled(&self, settled: &[Settlement]) {
        if !settled.is_empty() {
            self.cut_off.lock().retain(|one| !settled.contains(one));
        }
    }

    /// For a call that is not made.
    pub(crate) fn nothing(&self) -> Earmark<'_> {
        Earmark {
            budget: self,
            price: None,
            open: None,
            reserved: None,
            used: None,
            input_tokens: 0,
            sent: AtomicU64::new(0),
            heard_bytes: 0,
        }
    }

    /// Sets aside what a call of this model may come to, and bounds its answer to that. Where nothing is bounded,
    /// nothing is written.
    pub(crate) async fn set_aside<'b>(
        &'b self,
        frame: &Frame<'_>,
        model: &ModelRef,
        request: &mut ChatRequest,
    ) -> Result<Earmark<'b>, Fault> {
        let models = &frame.execution.infra.models;
        let mut earmark = self.nothing();
        earmark.price = models.price(model);
        earmark.input_tokens = tokens_of(request);
        if self.budgets.is_none() {
            return Ok(earmark);
        }
        let named = request.max_output_tokens;
        let known = named.or_else(|| models.longest_answer(model));
        let mut longest = known.unwrap_or(MAX_OUTPUT_TOKENS);
        let mut shortage = earmark.reserve(frame, longest).await?;
        if shortage.is_some() && named.is_none() && longest > MAX_OUTPUT_TOKENS {
            longest = MAX_OUTPUT_TOKENS;
            shortage = earmark.reserve(frame, longest).await?;
        }
        request.max_output_tokens = Some(longest);
        match shortage {
            None => Ok(earmark),
            Some(shortage) => Err(refused(&shortage)),
        }
    }

    /// The warnings that are due once a call has used so much, each once in a run.
    fn warnings(&self, frame: &Frame<'_>, reserved: &Reserved, used: Amount) -> Vec<Emission> {
        let reached = self.budgets.reached(reserved, used, WARN_AT).into_iter();
        let warned = &frame.execution.warned;
        let due = reached.filter(|(limit, ..)| warned.is_first(limit));
        let warning = |(limit, used, allowed): (&str, f64, f64)| {
            Emission::of_run(EventKind::LimitWarning {
                limit: limit.to_owned(),
                used,
                allowed,
            })
        };
        due.map(warning).collect()
    }
}

/// The limits that the user was warned of in a run, by earlier engines of it too.
#[derive(Default)]
pub(crate) struct Warned(Mutex<BTreeSet<String>>);

impl Warned {
    /// Whether this is the first warning of the limit; the next one is not.
    pub(crate) fn is_first(&self, limit: &str) -> bool {
        self.0.lock().insert(limit.to_owned())
    }
}

fn refused(shortage: &Shortage) -> Fault {
    metrics::counter!("netra_model_budget_refused_total", "limit" => shortage.limit).increment(1);
    let failure = Failure::new(ErrorCode::BudgetExceeded, shortage.to_string());
    Fault::Run(failure.with_details(json!({
        "limit": shortage.limit,
        "used": shortage.used,
        "wanted": shortage.wanted,
        "allowed": shortage.allowed,
    })))
}

/// What is set aside for one call, and all that is known of what the call costs, its tries before the last one too.
/// Dropped, it is settled with the run's next commit.
pub(crate) struct Earmark<'b> {
    budget: &'b Budget,
    price: Option<Price>,
    /// None where nothing is bounded, and once the store has settled it.
    open: Option<ReservationId>,
    /// What the store said when it was set aside.
    reserved: Option<Reserved>,
    /// What the call comes to, once that is known.
    used: Option<Amount>,
    /// About what the request has.
    input_tokens: u64,
    /// How often the provider may have read the request by now.
    sent: AtomicU64,
    /// What came of the answer.
    heard_bytes: u64,
}

impl Earmark<'_> {
    /// Sets the request aside with an answer of so many tokens; gives what there is no room for.
    async fn reserve(
        &mut self,
        frame: &Frame<'_>,
        output_tokens: u32,
    ) -> Result<Option<Shortage>, Fault> {
        let amount = self.amount(self.input_tokens, u64::from(output_tokens));
        let run = frame.execution.emitter.run();
        let store = &frame.execution.infra.store;
        let id = ReservationId::new(frame.ctx.runtime());
        // Dropped before the store has answered, or failed, the call is not made: the request was never sent.
        self.open = Some(id);
        let budgets = self.budget.budgets;
        match store.reserve(frame.ctx, run, id, budgets, amount).await {
            Ok(reserved) => {
                self.reserved = Some(reserved);
                Ok(None)
            }
            Err(Error::BudgetExceeded(shortage)) => {
                self.open = None;
                Ok(Some(shortage))
            }
            Err(error) => Err(unwritten(&error)),
        }
    }

    /// The request goes out: dropped from here on, it counts.
    pub(crate) fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// The request that went out last has come to nothing. It counts only where the provider may have worked on it.
    pub(crate) fn failed(&self, error: &netra_model::Error) {
        if !error.may_have_cost() {
            self.sent.fetch_sub(1, Relaxed);
        }
    }

    /// Notes a piece of the answer.
    pub(crate) fn hear(&mut self, chunk: &Chunk) {
        let bytes = match chunk {
            Chunk::Text(piece) | Chunk::Thinking(piece) => piece.len(),
            Chunk::ToolCall(call) => call.name.len() + call.arguments.to_text().len(),
            Chunk::Done(_) => 0,
        };
        self.heard_bytes += bytes as u64;
    }

    /// The call has ended: what it used, as its provider counted it, or else about what there was, which is nothing where
    /// no request counts.
    pub(crate) async fn settle(
        mut self,
        frame: &Frame<'_>,
        usage: Option<&Usage>,
    ) -> Result<(), Fault> {
        let used = match usage {
            Some(usage) => self.told(usage),
            None => self.about(),
        };
        self.close(frame, used).await
    }

    /// Whoever is dropped here leaves it to the run's next commit; a second settlement changes nothing.
    async fn close(&mut self, frame: &Frame<'_>, used: Amount) -> Result<(), Fault> {
        let Some(id) = self.open else {
            return Ok(());
        };
        self.used = Some(used);
        let warnings = self.reserved.as_ref();
        let warnings = warnings.map(|reserved| self.budget.warnings(frame, reserved, used));
        let changes = Changes {
            settled: vec![Settlement { id, used }],
            ..Changes::default()
        };
        frame.commit(changes, warnings.unwrap_or_default()).await?;
        self.open = None;
        Ok(())
    }

    fn amount(&self, input_tokens: u64, output_tokens: u64) -> Amount {
        let price = self
            .price
            .map(|price| price.of(input_tokens, output_tokens));
        Amount::new(input_tokens.saturating_add(output_tokens), price)
    }

    /// What so many requests of the call have.
    fn requests(&self, number: u64) -> u64 {
        self.input_tokens.saturating_mul(number)
    }

    /// The last request was answered, and its provider counted that; those before were read perhaps.
    fn told(&self, usage: &Usage) -> Amount {
        let lost = self.requests(self.sent.load(Relaxed).saturating_sub(1));
        let input = usage.input_tokens.saturating_add(lost);
        let output = usage.output_tokens;
        match usage.cost_usd {
            Some(usd) => {
                let lost = self.price.map_or(0.0, |price| price.of(lost, 0));
                Amount::new(input.saturating_add(output), Some(usd + lost))
            }
            None => self.amount(input, output),
        }
    }

    /// The requests that count, and the part of an answer that came.
    fn about(&self) -> Amount {
        let input = self.requests(self.sent.load(Relaxed));
        self.amount(input, tokens_in(self.heard_bytes))
    }
}

impl Drop for Earmark<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.open.take() {
            let used = self.used.unwrap_or_else(|| self.about());
            let settlement = Settlement { id, used };
            self.budget.cut_off.lock().push(settlement);
        }
    }
}
