//! Who answers a call of a model: the agent's own model, or else those in its place, in order, each within the run's
//! budgets. What happens on the way there the user is told.

use std::time::Duration;

use async_trait::async_trait;
use netra_model::{ChatRequest, ChatStream, ModelRef, Retry, Witness};

use super::ask::fault;
use crate::budget::Earmark;
use crate::execution::{Fault, Frame};

/// A call whose answer has begun.
pub(super) struct Call<'e> {
    /// Who answers.
    pub(super) model: ModelRef,
    pub(super) stream: ChatStream,
    pub(super) earmark: Earmark<'e>,
}

/// Asks until somebody answers.
pub(super) async fn begin<'e>(
    frame: &Frame<'e>,
    own: &ModelRef,
    mut request: ChatRequest,
) -> Result<Call<'e>, Fault> {
    let models = &frame.execution.infra.models;
    let mut candidates = frame.agent.calls.models(own, models).into_iter();
    let mut model = own.clone();
    candidates.next();
    loop {
        let budget = &frame.execution.budget;
        let price = models.price(&model);
        let earmark = budget.set_aside(frame, price, &mut request).await?;
        let told = Told { frame };
        let error = match models.call(frame.ctx, &model, &request, &told).await {
            Ok(stream) => {
                return Ok(Call {
                    model,
                    stream,
                    earmark,
                });
            }
            Err(error) => error,
        };
        if error.may_have_cost() {
            earmark.settle(frame, None).await?;
        } else {
            earmark.give_back(frame).await?;
        }
        let next = candidates.next().filter(|_| error.is_of_model());
        let Some(next) = next else {
            return Err(fault(&error));
        };
        let (from, to) = (model.to_string(), next.to_string());
        frame
            .think_aloud(&format!(
                "{}: {to} answers in place of {from}",
                sentence(&error)
            ))
            .await?;
        metrics::counter!("netra_model_fallbacks_total", "from" => from, "to" => to).increment(1);
        model = next;
    }
}

/// Tells the user, and nobody else.
struct Told<'a, 'e> {
    frame: &'a Frame<'e>,
}

#[async_trait]
impl Witness for Told<'_, '_> {
    async fn retries(&self, retry: Retry<'_>) {
        let Retry {
            model,
            error,
            pause,
            attempt,
            of,
        } = retry;
        let words = format!(
            "{}: {model} is asked again in {} s (try {attempt} of {of})",
            sentence(error),
            seconds(pause)
        );
        // Where the log cannot be written, the call's own next commit says so.
        self.frame.think_aloud(&words).await.ok();
    }
}

/// An error as the beginning of a sentence.
fn sentence(error: &netra_model::Error) -> String {
    let words = error.to_string();
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn seconds(pause: Duration) -> String {
    format!("{:.1}", pause.as_secs_f64())
}
