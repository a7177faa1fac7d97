//! Who answers a call of a model: the agent's own model, or else those in its place, in order, each within the run's
//! budgets. What happens on the way there the user is told.

use std::time::Duration;

use async_trait::async_trait;
use netra_context::UserExecutionContext;
use netra_model::{ChatRequest, ChatStream, Chunk, Key, ModelRef, Retry, Witness};

use super::ask::fault;
use crate::budget::Earmark;
use crate::execution::{Fault, Frame};

/// A call whose answer has begun.
pub(super) struct Call<'e> {
    /// Who answers.
    pub(super) model: ModelRef,
    pub(super) stream: ChatStream,
    pub(super) earmark: Earmark<'e>,
    pub(super) cache: Cache,
}

/// What the cache has to do with an answer.
pub(super) enum Cache {
    /// Nothing.
    Off,
    /// It is to be kept for so long.
    Keeps(Key, Duration),
    /// It comes from there.
    Gives,
}

/// Asks until somebody answers.
pub(super) async fn begin<'e>(
    frame: &Frame<'e>,
    ctx: &UserExecutionContext,
    own: &ModelRef,
    mut request: ChatRequest,
) -> Result<Call<'e>, Fault> {
    let models = &frame.execution.infra.models;
    let budget = &frame.execution.budget;
    let mut asked = false;
    let mut candidates = frame.agent.calls.models(own, models).into_iter();
    let mut model = own.clone();
    candidates.next();
    // What a budget makes of it is for one model's call only.
    let wanted = request.max_output_tokens;
    loop {
        request.max_output_tokens = wanted;
        let cache = match frame.agent.calls.cache {
            Some(time) => look_up(frame, &model, &request, time).await,
            None => Err(Cache::Off),
        };
        let cache = match cache {
            Ok(stream) => return cached(frame, model, stream).await,
            Err(cache) => cache,
        };
        if !std::mem::replace(&mut asked, true) {
            frame.execution.counters.model_called();
        }
        let earmark = budget.set_aside(frame, &model, &mut request).await?;
        let told = Told {
            frame,
            earmark: &earmark,
        };
        let error = match models.call(ctx, &model, &request, &told).await {
            Ok(stream) => {
                return Ok(Call {
                    model,
                    stream,
                    earmark,
                    cache,
                });
            }
            Err(error) => error,
        };
        earmark.settle(frame, None).await?;
        // What is shown to a model cannot be shown to one that has no eyes.
        let can = |next: &ModelRef| request.images().next().is_none() || models.images(next);
        let next = match error.is_of_model() {
            true => candidates.find(can),
            false => None,
        };
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

/// The answer that is kept for this call, or else what is to become of the one that comes.
async fn look_up(
    frame: &Frame<'_>,
    model: &ModelRef,
    request: &ChatRequest,
    time: Duration,
) -> Result<ChatStream, Cache> {
    let models = &frame.execution.infra.models;
    let key = Key::of(frame.ctx, model, request).ok_or(Cache::Off)?;
    let mut found = models.cached(&key);
    if found.is_none() {
        found = Box::pin(kept_elsewhere(frame, &key)).await;
    }
    let outcome = if found.is_some() { "hit" } else { "miss" };
    metrics::counter!("netra_model_cache_lookups_total", "outcome" => outcome).increment(1);
    found.ok_or(Cache::Keeps(key, time))
}

/// The answer that another node has got.
async fn kept_elsewhere(frame: &Frame<'_>, key: &Key) -> Option<ChatStream> {
    let infra = &frame.execution.infra;
    let written = infra.store.answer(frame.ctx, key.hash()).await.ok()??;
    infra.models.cached_elsewhere(&written)
}

/// Keeps an answer, here and for the other nodes.
pub(super) async fn keep(frame: &Frame<'_>, key: Key, chunks: &[Chunk], time: Duration) {
    let infra = &frame.execution.infra;
    if infra.store.keeps_answers()
        && let Some(written) = infra.models.to_cache_elsewhere(chunks)
    {
        let kept = infra
            .store
            .answer_keep(frame.ctx, key.hash(), &written, time);
        if let Err(error) = kept.await {
            tracing::debug!(%error, "an answer is kept by this node alone");
        }
    }
    infra.models.cache(key, chunks, time);
}

/// A call that need not be made.
async fn cached<'e>(
    frame: &Frame<'e>,
    model: ModelRef,
    stream: ChatStream,
) -> Result<Call<'e>, Fault> {
    let words = format!("The answer comes from the cache: {model} was asked the same before");
    frame.think_aloud(&words).await?;
    Ok(Call {
        model,
        stream,
        earmark: frame.execution.budget.nothing(),
        cache: Cache::Gives,
    })
}

/// Tells the user, and nobody else; what the tries cost is the earmark's affair.
struct Told<'a, 'e> {
    frame: &'a Frame<'e>,
    earmark: &'a Earmark<'e>,
}

#[async_trait]
impl Witness for Told<'_, '_> {
    fn begins(&self) {
        self.earmark.sent();
    }

    fn failed(&self, error: &netra_model::Error) {
        self.earmark.failed(error);
    }

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
