//! What the calls of a run's models may come to: set aside in the store before each, and settled after it.

use netra_events::Emission;
use netra_model::{ChatRequest, Chunk, Price, Usage, tokens_in, tokens_of};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::event::EventKind;
use netra_protocol::limits::Limits;
use netra_store::{Amount, Bound, Budgets, Changes, Error, Reserved, Settlement, Shortage};
use parking_lot::Mutex;
use serde_json::json;

use crate::agents::Definition;
use crate::engine::WARN_AT;
use crate::execution::{Fault, Frame, unwritten};

/// The longest answer of an agent that names no `max_output_tokens`, where a budget bounds it, in tokens.
const MAX_OUTPUT_TOKENS: u32 = 4_096;

/// What bounds the calls of one run. Owned by its execution.
pub(crate) struct Budget {
    budgets: Budgets,
    /// Calls that went away before they ended, with what they are taken to have used.
    cut_off: Mutex<Vec<Settlement>>,
    /// The limits that the user was warned of.
    warned: Mutex<Vec<&'static str>>,
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
            warned: Mutex::default(),
        }
    }

    /// What is to be settled with the run's next commit.
    pub(crate) fn take_cut_off(&self) -> Vec<Settlement> {
        std::mem::take(&mut *self.cut_off.lock())
    }

    /// For a call that is not made.
    pub(crate) fn nothing(&self) -> Earmark<'_> {
        Earmark {
            budget: self,
            price: None,
            reserved: None,
            input_tokens: 0,
            lost_tokens: 0,
            heard_bytes: 0,
        }
    }

    /// Sets aside what the call may come to. Where nothing is bounded, nothing is written.
    pub(crate) async fn set_aside<'b>(
        &'b self,
        frame: &Frame<'_>,
        price: Option<Price>,
        request: &mut ChatRequest,
    ) -> Result<Earmark<'b>, Fault> {
        let mut earmark = self.nothing();
        earmark.price = price;
        earmark.input_tokens = tokens_of(request);
        if self.budgets.is_none() {
            return Ok(earmark);
        }
        let most = *request.max_output_tokens.get_or_insert(MAX_OUTPUT_TOKENS);
        let amount = earmark.amount(earmark.input_tokens, u64::from(most));
        let run = frame.execution.emitter.run();
        let store = &frame.execution.infra.store;
        match store.reserve(frame.ctx, run, self.budgets, amount).await {
            Ok(reserved) => earmark.reserved = Some(reserved),
            Err(Error::BudgetExceeded(shortage)) => return Err(refused(&shortage)),
            Err(error) => return Err(unwritten(&error)),
        }
        Ok(earmark)
    }

    /// The warnings that are due once a call has used so much, each once in a run.
    fn warnings(&self, reserved: &Reserved, used: Amount) -> Vec<Emission> {
        let mut warned = self.warned.lock();
        let mut emissions = Vec::new();
        for (limit, used, allowed) in self.budgets.reached(reserved, used, WARN_AT) {
            if !warned.contains(&limit) {
                warned.push(limit);
                emissions.push(Emission::of_run(EventKind::LimitWarning {
                    limit: limit.to_owned(),
                    used,
                    allowed,
                }));
            }
        }
        emissions
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

/// What is set aside for one call. Dropped, it is settled with the run's next commit.
pub(crate) struct Earmark<'b> {
    budget: &'b Budget,
    price: Option<Price>,
    /// None where nothing is bounded, and once it is settled.
    reserved: Option<Reserved>,
    /// About what the request has.
    input_tokens: u64,
    /// What requests had that were read, and not answered to the end.
    lost_tokens: u64,
    /// What came of the answer.
    heard_bytes: u64,
}

impl Earmark<'_> {
    /// So many tries before have failed when the provider had read the request, and may have cost that.
    pub(crate) fn lost(&mut self, tries: u32) {
        self.lost_tokens = self.input_tokens.saturating_mul(u64::from(tries));
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

    /// The call has ended: what it used, as its provider counted it, or else about what there was.
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

    /// The call has failed and has cost nothing.
    pub(crate) async fn give_back(mut self, frame: &Frame<'_>) -> Result<(), Fault> {
        self.close(frame, Amount::default()).await
    }

    async fn close(&mut self, frame: &Frame<'_>, used: Amount) -> Result<(), Fault> {
        let Some(reserved) = self.reserved.take() else {
            return Ok(());
        };
        let warnings = self.budget.warnings(&reserved, used);
        let changes = Changes {
            settled: vec![Settlement { reserved, used }],
            ..Changes::default()
        };
        frame.commit(changes, warnings).await
    }

    fn amount(&self, input_tokens: u64, output_tokens: u64) -> Amount {
        let price = self
            .price
            .map(|price| price.of(input_tokens, output_tokens));
        Amount::new(input_tokens.saturating_add(output_tokens), price)
    }

    fn told(&self, usage: &Usage) -> Amount {
        let input = usage.input_tokens.saturating_add(self.lost_tokens);
        let output = usage.output_tokens;
        match usage.cost_usd {
            Some(usd) => {
                let lost = self
                    .price
                    .map_or(0.0, |price| price.of(self.lost_tokens, 0));
                Amount::new(input.saturating_add(output), Some(usd + lost))
            }
            None => self.amount(input, output),
        }
    }

    /// The request was sent, and a part of the answer came.
    fn about(&self) -> Amount {
        let input = self.input_tokens.saturating_add(self.lost_tokens);
        self.amount(input, tokens_in(self.heard_bytes))
    }
}

impl Drop for Earmark<'_> {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            let used = self.about();
            self.budget
                .cut_off
                .lock()
                .push(Settlement { reserved, used });
        }
    }
}
