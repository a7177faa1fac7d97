//! A model agent: ask the model, make the calls that it wants, give it the results, until it answers
//! without wanting any.

mod calls;
mod context;
mod offer;
mod output;

use netra_context::memory::{self, OverLimit, Reservation};
use netra_model::{Arguments, ChatRequest, Message as Said, ModelRef, ToolCall, ToolSpec};
use netra_protocol::ErrorCode;
use netra_protocol::id::MessageId;
use netra_protocol::message::Content;
use netra_store::{Changes, JournalKind};
use netra_tools::{held_by, shorten};
use serde::Deserialize as _;
use serde_json::{Value, json};

use self::calls::Outcome;
use self::context::{Cut, Talk, Window};
use self::output::{Judged, Output};
use super::ask::{Answer, Audience, ask, fault};
use super::history::conversation_for;
use crate::agents::{Body, Overflow};
use crate::execution::{Fault, Finished, Frame, thought};
use crate::message;

pub(super) use self::offer::tools;
pub(super) use self::output::invalid;

/// The most of a tool's arguments that stand in a message, in bytes of JSON.
const MAX_ARGUMENT_BYTES: usize = 16 * 1024;
/// How often the arguments of a call are held while it is made, besides the answer that they came in: in the
/// conversation, in the journal, by the dispatcher and by the tool.
const CALL_COPIES: usize = 4;
/// What a model is asked that sums a conversation up.
const SUM_UP: &str = "Sum up this conversation for an assistant that goes on with it and sees nothing else of it: \
                      what was asked, what was found out with its numbers and names, what was decided, and what \
                      is still open. Write plain sentences, and nothing that is not in it.";

pub(super) async fn perform(frame: &Frame<'_>) -> Result<Finished, Fault> {
    let mut work = Work::new(frame).await?;
    loop {
        if let Some(finished) = Box::pin(work.round()).await? {
            return Ok(finished);
        }
    }
}

/// A model agent at work.
struct Work<'f, 'e> {
    frame: &'f Frame<'e>,
    model: ModelRef,
    system: String,
    tools: Vec<ToolSpec>,
    output: Output<'e>,
    talk: Talk,
    window: Window,
    rounds: u32,
    /// What the arguments of all calls so far hold, in bytes.
    held: usize,
}

impl<'f, 'e> Work<'f, 'e> {
    async fn new(frame: &'f Frame<'e>) -> Result<Self, Fault> {
        let models = &frame.execution.infra.models;
        let model = models
            .resolve(frame.agent.model.as_deref())
            .map_err(|error| fault(&error))?;
        let talk = Talk::new(conversation_for(frame, &model).await?);
        let dispatcher = &frame.execution.dispatcher;
        dispatcher.settled(frame.ctx, &frame.agent.tools).await;
        let mut tools = offer::offer(frame);
        let native = models.native_schema(&model, !tools.is_empty());
        let output = Output::of(frame.agent, native);
        tools.extend(output.to_call().map(offer::final_answer));
        let mut system = match &frame.agent.body {
            Body::Model { instructions, .. } => instructions.clone(),
            _ => String::new(),
        };
        if let Some(more) = output.instructions() {
            system = format!("{system}\n\n{more}");
        }
        let own = frame.agent.conduct.context_tokens;
        let tokens = models.window(&model).into_iter().chain(own).min();
        let fixed = system.len() + json!(tools).to_string().len();
        Ok(Self {
            window: Window::new(tokens, max_output(frame), fixed),
            frame,
            model,
            system,
            tools,
            output,
            talk,
            rounds: 0,
            held: 0,
        })
    }

    /// One answer of the model, and the calls that it wants. Gives the result where it is one.
    async fn round(&mut self) -> Result<Option<Finished>, Fault> {
        let frame = self.frame;
        self.count_round()?;
        let key = frame.next_key();
        let recorded = Answer::recorded(frame, &key);
        let is_new = recorded.is_none();
        self.fit(&key, is_new).await?;
        let answer = match recorded {
            Some(answer) => answer,
            None => self.ask().await?,
        };
        self.window.learn(&self.talk.said, answer.usage.as_ref());
        let said = match self.output.judge(&answer, is_new)? {
            Judged::Result(result) => {
                return Box::pin(self.finish(key, answer, result)).await.map(Some);
            }
            Judged::Misfit(reply) => Some(reply),
            Judged::Calls => None,
        };
        let held = held_by_calls(&answer.tool_calls);
        let _room = room_for(CALL_COPIES, held)?;
        self.held += held;
        if is_new {
            Box::pin(end_round(frame, key, &answer)).await?;
        }
        let calls = answer.call_ids.into_iter().zip(answer.tool_calls.clone());
        self.talk.said.push(Said::Assistant {
            text: answer.text,
            tool_calls: answer.tool_calls,
            keepsake: answer.keepsake,
        });
        let outcome = match said {
            Some(reply) => Outcome::Told(reply),
            None => Box::pin(calls::make(frame, calls.collect(), &self.talk.said)).await?,
        };
        match outcome {
            Outcome::Told(said) => self.talk.said.extend(said),
            Outcome::Ended { result, told } => {
                return Box::pin(self.stop(result, told)).await.map(Some);
            }
        }
        Ok(None)
    }

    fn count_round(&mut self) -> Result<(), Fault> {
        self.rounds += 1;
        match self.frame.agent.conduct.max_rounds {
            Some(most) if self.rounds > most => {
                let words = format!("the agent may ask its model {most} times, and has");
                Err(Fault::agent(ErrorCode::AgentFailed, words))
            }
            _ => Ok(()),
        }
    }

    async fn ask(&self) -> Result<Answer, Fault> {
        // The request is a copy of the conversation, and what is sent is another.
        let _room = room_for(2, self.held)?;
        let said = self.talk.said.clone();
        let mut request = self.request(self.system.clone(), said, &self.tools);
        request.response_schema = self.output.of_response();
        // What may be sent back is told when it is right.
        let audience = match self.frame.speaks && self.output.is_text() {
            true => Audience::User,
            false => Audience::Agent,
        };
        ask(self.frame, &self.model, request, audience).await
    }

    fn request(&self, system: String, messages: Vec<Said>, tools: &[ToolSpec]) -> ChatRequest {
        let temperature = match &self.frame.agent.body {
            Body::Model { temperature, .. } => *temperature,
            _ => None,
        };
        ChatRequest {
            system: Some(system),
            messages,
            tools: tools.to_vec(),
            temperature,
            max_output_tokens: max_output(self.frame),
            ..ChatRequest::default()
        }
    }

    /// Begins the step of the round with this key. A conversation that is too long for the model is made
    /// to fit before, which is an operation of its own.
    async fn fit(&mut self, key: &str, is_new: bool) -> Result<(), Fault> {
        let frame = self.frame;
        // Ordinals of operations begin at 1.
        let own_key = format!("{key}.0");
        let recorded = frame.recorded(&own_key, JournalKind::Thought);
        let recorded = recorded.and_then(|cut| Cut::deserialize(&cut.value).ok());
        let is_cut = recorded.is_some();
        let cut = match recorded {
            Some(cut) => cut,
            None if is_new => {
                let sums_up = frame.agent.conduct.overflow == Overflow::Summarise;
                self.talk.too_long(&self.window, sums_up)
            }
            None => Cut::default(),
        };
        if cut.is_nothing() {
            return frame.step_for(key);
        }
        let mut changes = Changes::default();
        let mut summary = None;
        if cut.summed_up {
            frame.step_for(&own_key)?;
            let answer = match Answer::recorded(frame, &own_key) {
                Some(answer) => answer,
                None => self.sum_up(&cut).await?,
            };
            changes.journal.push(answer.journal(frame, own_key.clone()));
            summary = Some(answer.text);
        } else {
            // What was told of the cut was told in the step of the round.
            frame.step_for(if is_cut { &own_key } else { key })?;
        }
        if !is_cut {
            let entry = frame.entry(own_key, JournalKind::Thought, json!(cut));
            changes.journal.push(entry);
            let told = frame.emission(thought(&cut.words(&self.window), None));
            frame.commit(changes, vec![told]).await?;
        }
        self.talk.apply(&cut, summary.as_deref());
        match cut.summed_up {
            true => frame.step_for(key),
            false => Ok(()),
        }
    }

    async fn sum_up(&self, cut: &Cut) -> Result<Answer, Fault> {
        let text = self.talk.recount(cut, &self.window);
        let mut request = self.request(SUM_UP.to_owned(), vec![Said::user(text)], &[]);
        request.max_output_tokens = Some(self.window.summary_tokens());
        let answer = ask(self.frame, &self.model, request, Audience::Agent).await?;
        if answer.text.trim().is_empty() {
            let words = "the model gave no summary of a conversation that is too long for it";
            return Err(Fault::agent(ErrorCode::AgentFailed, words));
        }
        Ok(answer)
    }

    /// The result that the model gave.
    async fn finish(&self, key: String, answer: Answer, result: Value) -> Result<Finished, Fault> {
        let frame = self.frame;
        let mut finished = match answer.message_id {
            Some(id) => {
                let (text, is_cut) = (&answer.text, answer.is_cut());
                let whole = message::complete(frame, id, text, Vec::new(), is_cut).await?;
                let mut finished = Finished::new(result);
                finished.last.emissions.push(whole.emission);
                finished.last.messages.push(whole.row);
                finished
            }
            // A text that is told while it is written has been told.
            None if self.output.is_text() => Finished::new(result),
            None => self.stop(result, false).await?,
        };
        finished.last.journal.push(answer.journal(frame, key));
        Ok(finished)
    }

    /// A result that the user has not been told as text: it is their message.
    async fn stop(&self, result: Value, told: bool) -> Result<Finished, Fault> {
        let frame = self.frame;
        let mut finished = Finished::new(result);
        if frame.speaks && !told {
            let text = message::text_of_result(&finished.result);
            let id = frame.new_id(MessageId::from_parts);
            let whole = message::complete(frame, id, &text, Vec::new(), false).await?;
            finished.last.emissions.push(whole.emission);
            finished.last.messages.push(whole.row);
        }
        Ok(finished)
    }
}

fn max_output(frame: &Frame<'_>) -> Option<u32> {
    match &frame.agent.body {
        Body::Model {
            max_output_tokens, ..
        } => *max_output_tokens,
        _ => None,
    }
}

/// Sets room aside for so many copies of what is held.
fn room_for(copies: usize, held: usize) -> Result<Reservation, Fault> {
    memory::reserve(copies * held).map_err(|over| no_room(&over))
}

fn no_room(over: &OverLimit) -> Fault {
    Fault::agent(ErrorCode::MemoryLimitExceeded, over.to_string())
}

/// What the arguments of these calls hold, in bytes.
fn held_by_calls(calls: &[ToolCall]) -> usize {
    let held = |call: &ToolCall| match &call.arguments {
        Arguments::Json(value) => held_by(value),
        Arguments::Invalid(text) => text.len(),
    };
    calls.iter().map(held).sum()
}

/// The end of a round in which the model gave no result: its message and the journal, in one commit.
async fn end_round(frame: &Frame<'_>, key: String, answer: &Answer) -> Result<(), Fault> {
    let mut changes = Changes {
        journal: vec![answer.journal(frame, key)],
        ..Changes::default()
    };
    let mut emissions = Vec::new();
    if let Some(id) = answer.message_id {
        let calls = answer.call_ids.iter().zip(&answer.tool_calls);
        let wanted = calls.map(|(tool_call_id, call)| Content::ToolCall {
            tool_call_id: *tool_call_id,
            tool_name: call.name.clone(),
            arguments: shorten(&calls::arguments(&call.arguments), MAX_ARGUMENT_BYTES),
        });
        let (text, is_cut) = (&answer.text, answer.is_cut());
        let whole = message::complete(frame, id, text, wanted.collect(), is_cut).await?;
        emissions.push(whole.emission);
        changes.messages.push(whole.row);
    }
    frame.commit(changes, emissions).await
}
