//! One call of a model: its answer is streamed to the user as it is written, counted and returned.

use futures::StreamExt as _;
use netra_context::UserExecutionContext;
use netra_model::{
    ChatRequest, ChatStream, Chunk, Done, Keepsake, ModelRef, StopReason, ToolCall, Usage,
};
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::{MessageId, ToolCallId};
use netra_store::{JournalEntry, JournalKind};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answerer::{self, Cache};
use crate::budget::Earmark;
use crate::execution::{Fault, Frame, unwritten};
use crate::message;
use crate::spans::Asking;

/// How much a model may think before the user is told, in bytes.
const THOUGHT_BYTES: usize = 600;

/// What a model answered. It is kept in the run's journal, so that it need not be asked again.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    /// `provider/model`.
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) tool_calls: Vec<ToolCall>,
    /// The ids of the calls, in their order.
    pub(super) call_ids: Vec<ToolCallId>,
    pub(crate) stop: StopReason,
    /// The message that the text was streamed into; none where it was not streamed, or is empty.
    #[serde(skip)]
    pub(super) message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// The price list that its cost is by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    price_source: Option<String>,
    /// What the model wants back where this answer stands in a later request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keepsake: Option<Keepsake>,
    /// Whether it was given before, and so has cost nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cached: bool,
}

impl Answer {
    /// What is kept of the call.
    pub(super) fn journal(&self, frame: &Frame<'_>, key: String) -> JournalEntry {
        frame.entry(key, JournalKind::ModelCall, json!(self))
    }

    /// What an earlier attempt was answered.
    pub(super) fn recorded(frame: &Frame<'_>, key: &str) -> Option<Self> {
        let recorded = frame.recorded(key, JournalKind::ModelCall)?;
        Self::deserialize(&recorded.value).ok()
    }
}

pub(super) fn fault(error: &netra_model::Error) -> Fault {
    Fault::Agent(Failure::new(error.code(), error.to_string()))
}

/// Where the answer's text goes while it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// To the user, as a message.
    User,
    /// To the agent that asked, and nobody else.
    Agent,
}

/// Asks the model once; another one may answer in its place.
pub(super) async fn ask(
    frame: &Frame<'_>,
    model: &ModelRef,
    request: ChatRequest,
    audience: Audience,
) -> Result<Answer, Fault> {
    let asking = Asking::begin(frame, model, &request);
    let own = asking.context(frame.ctx);
    let ctx = own.as_deref().unwrap_or(frame.ctx);
    let answered = answer(frame, ctx, (model, request), audience).await;
    asking.end(frame, &answered);
    answered
}

async fn answer(
    frame: &Frame<'_>,
    ctx: &UserExecutionContext,
    (model, request): (&ModelRef, ChatRequest),
    audience: Audience,
) -> Result<Answer, Fault> {
    let call = Box::pin(answerer::begin(frame, ctx, model, request)).await?;
    let mut listening = Listening {
        frame,
        audience,
        thought: String::new(),
        answer: Answer {
            price_source: frame.execution.infra.models.price_source(&call.model),
            cached: matches!(call.cache, Cache::Gives),
            ..Answer::empty(&call.model)
        },
        earmark: call.earmark,
    };
    match listening.listen(call.stream).await {
        Ok(()) => {
            let Listening {
                answer, earmark, ..
            } = listening;
            earmark.settle(frame, answer.usage.as_ref()).await?;
            if answer.is_cut() {
                let model = &answer.model;
                let words = format!("The answer of {model} was cut at the limit of its tokens");
                frame.think_aloud(&words).await?;
            }
            if let Cache::Keeps(key, time) = call.cache {
                Box::pin(answerer::keep(frame, key, &answer.chunks(), time)).await;
            }
            Ok(answer)
        }
        Err(fault) => {
            listening.earmark.settle(frame, None).await?;
            Err(fault)
        }
    }
}

impl Answer {
    fn empty(model: &ModelRef) -> Self {
        Self {
            model: model.to_string(),
            text: String::new(),
            tool_calls: Vec::new(),
            call_ids: Vec::new(),
            stop: StopReason::Unknown,
            message_id: None,
            usage: None,
            price_source: None,
            keepsake: None,
            cached: false,
        }
    }

    /// Whether it is not whole, for it was as long as it may be.
    pub(super) fn is_cut(&self) -> bool {
        self.stop == StopReason::MaxTokens
    }

    /// The answer as its provider gave it, but for what the model thought.
    fn chunks(&self) -> Vec<Chunk> {
        let text = (!self.text.is_empty()).then(|| Chunk::Text(self.text.clone()));
        let calls = self.tool_calls.iter().cloned().map(Chunk::ToolCall);
        let done = Chunk::Done(Done {
            usage: self.usage.clone(),
            stop: self.stop.clone(),
            keepsake: self.keepsake.clone(),
        });
        text.into_iter().chain(calls).chain([done]).collect()
    }
}

struct Listening<'a, 'e> {
    frame: &'a Frame<'e>,
    audience: Audience,
    thought: String,
    answer: Answer,
    earmark: Earmark<'e>,
}

impl Listening<'_, '_> {
    /// Takes the whole answer.
    async fn listen(&mut self, mut stream: ChatStream) -> Result<(), Fault> {
        let (ctx, emitter) = (self.frame.ctx, &self.frame.execution.emitter);
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = stream.next() => chunk,
                () = emitter.flush_due() => {
                    emitter.flush(ctx).await.map_err(|error| unwritten(&error))?;
                    continue;
                }
            };
            match chunk {
                Some(Ok(chunk)) => {
                    self.earmark.hear(&chunk);
                    if self.take(chunk).await? {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(fault(&error)),
                // A stream ends after its last chunk, which returned above.
                None => {
                    let error = "the model's answer ended before its end";
                    return Err(Fault::agent(ErrorCode::ModelUnavailable, error));
                }
            }
        }
    }

    /// Takes a chunk; true after the last one.
    async fn take(&mut self, chunk: Chunk) -> Result<bool, Fault> {
        match chunk {
            Chunk::Thinking(piece) => {
                self.thought.push_str(&piece);
                if self.thought.len() >= THOUGHT_BYTES {
                    self.tell_thought().await?;
                }
            }
            Chunk::Text(piece) => {
                self.tell_thought().await?;
                self.answer.text.push_str(&piece);
                if self.audience == Audience::User {
                    let id = self.message().await?;
                    message::write_piece(self.frame, id, &piece).await?;
                }
            }
            Chunk::ToolCall(call) => {
                self.tell_thought().await?;
                let id = self.frame.new_id(ToolCallId::from_parts);
                self.answer.call_ids.push(id);
                self.answer.tool_calls.push(call);
            }
            Chunk::Done(done) => {
                self.tell_thought().await?;
                let counters = &self.frame.execution.counters;
                match &done.usage {
                    _ if self.answer.cached => counters.model_spared(),
                    Some(usage) => {
                        counters.model_used(usage, self.answer.price_source.as_deref());
                    }
                    None => {}
                }
                self.answer.usage = done.usage;
                self.answer.stop = done.stop;
                self.answer.keepsake = done.keepsake;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The message that the text goes to.
    async fn message(&mut self) -> Result<MessageId, Fault> {
        if let Some(id) = self.answer.message_id {
            return Ok(id);
        }
        let id = message::begin(self.frame).await?;
        self.answer.message_id = Some(id);
        Ok(id)
    }

    async fn tell_thought(&mut self) -> Result<(), Fault> {
        if self.thought.trim().is_empty() {
            return Ok(());
        }
        let thought = std::mem::take(&mut self.thought);
        self.frame.think_aloud(thought.trim()).await
    }
}
