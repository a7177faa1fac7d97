//! An answer put together from the bytes of a stream: text as it comes, tool calls whole. No I/O.

use std::collections::VecDeque;

use netra_context::memory;
use serde_json::Value;

use super::failure::{self, Complaint};
use super::wire::{CallDelta, Choice, Content, Delta, Event, ToolNames, WireUsage};
use crate::sse::{Broken, Parser};
use crate::{Arguments, Chunk, Done, Error, Secret, StopReason, ToolCall, Usage};

/// Text, thinking and arguments of one answer together, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Tool calls in one answer.
const MAX_TOOL_CALLS: usize = 256;

/// Reads one answer. Feed it with [`Answer::push`] and [`Answer::end`]; take chunks with
/// [`Answer::pop`], those that were complete before an error too.
#[derive(Debug)]
pub(super) struct Answer {
    provider: String,
    key: Option<Secret>,
    names: ToolNames,
    parser: Parser,
    ready: VecDeque<Chunk>,
    calls: Vec<OpenCall>,
    usage: Option<Usage>,
    stop: Option<StopReason>,
    refused: bool,
    bytes: usize,
    finished: bool,
}

/// A tool call whose arguments may still grow.
#[derive(Debug)]
struct OpenCall {
    index: Option<u32>,
    id: String,
    name: String,
    arguments: String,
}

impl Answer {
    pub(super) fn new(provider: String, key: Option<Secret>, names: ToolNames) -> Self {
        Self {
            provider,
            key,
            names,
            parser: Parser::default(),
            ready: VecDeque::new(),
            calls: Vec::new(),
            usage: None,
            stop: None,
            refused: false,
            bytes: 0,
            finished: false,
        }
    }

    /// The next chunk that is complete.
    pub(super) fn pop(&mut self) -> Option<Chunk> {
        self.ready.pop_front()
    }

    /// Whether the answer is complete, and what still comes does not matter.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Takes bytes of an event stream.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut events = Vec::new();
        let parsed = self.parser.push(bytes, |data| events.push(data));
        for data in events {
            self.event(&data)?;
        }
        parsed.map_err(|broken| {
            self.malformed(match broken {
                Broken::TooLong => "an event is too long",
                Broken::NotText => "a line is not text",
            })
        })
    }

    /// Takes a whole answer that came as one JSON document.
    pub(super) fn push_document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.event(text),
            Err(_) => Err(self.malformed("the answer is not text")),
        }
    }

    /// The provider closed the stream in the proper way. Some never say that they are done, so
    /// a reason to stop counts as the end too.
    pub(super) fn end(&mut self) -> Result<(), Error> {
        if !self.finished && self.stop.is_none() {
            return Err(Error::Cut {
                provider: self.provider.clone(),
            });
        }
        self.finish()
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed {
            provider: self.provider.clone(),
            what,
        }
    }

    fn event(&mut self, data: &str) -> Result<(), Error> {
        if self.finished || data.trim().is_empty() {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            return self.finish();
        }
        let _room = memory::reserve_for_json(data.as_bytes()).map_err(Error::NoRoom)?;
        let event: Event =
            serde_json::from_str(data).map_err(|_| self.malformed("an event is not as agreed"))?;
        if let Some(error) = event.error.filter(|error| !error.is_null()) {
            let complaint = Complaint::read(&error, self.key.as_ref());
            return Err(failure::from_stream(&self.provider, complaint));
        }
        if let Some(usage) = event.usage.and_then(usage) {
            self.usage = Some(usage);
        }
        // Only one answer is ever asked for, so there is at most one choice.
        match event.choices.unwrap_or_default().into_iter().next() {
            Some(choice) => self.choice(choice),
            None => Ok(()),
        }
    }

    fn choice(&mut self, choice: Choice) -> Result<(), Error> {
        if let Some(delta) = choice.delta {
            self.delta(delta)?;
        }
        if let Some(reason) = choice.finish_reason {
            self.stop = Some(stop_reason(reason));
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta) -> Result<(), Error> {
        for thought in [delta.reasoning_content, delta.reasoning]
            .into_iter()
            .flatten()
        {
            if let Value::String(thought) = thought {
                self.text(Chunk::Thinking, thought)?;
                break;
            }
        }
        match delta.content {
            Some(Content::Text(text)) => self.text(Chunk::Text, text)?,
            Some(Content::Parts(parts)) => self.parts(parts)?,
            None => {}
        }
        if let Some(refusal) = delta.refusal.filter(|refusal| !refusal.is_empty()) {
            self.refused = true;
            self.text(Chunk::Text, refusal)?;
        }
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call)?;
        }
        Ok(())
    }

    fn parts(&mut self, parts: Vec<Value>) -> Result<(), Error> {
        for part in parts {
            if let Some(text) = part.get("text").and_then(Value::as_str) {
                self.text(Chunk::Text, text.to_owned())?;
            }
            for thought in part
                .get("thinking")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                if let Some(text) = thought.get("text").and_then(Value::as_str) {
                    self.text(Chunk::Thinking, text.to_owned())?;
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, chunk: fn(String) -> Chunk, text: String) -> Result<(), Error> {
        if !text.is_empty() {
            self.count(text.len())?;
            self.ready.push_back(chunk(text));
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(self.malformed("the answer is too long"));
        }
        Ok(())
    }

    fn call(&mut self, delta: CallDelta) -> Result<(), Error> {
        let (name, arguments) = match delta.function {
            Some(function) => (function.name.unwrap_or_default(), function.arguments),
            None => (String::new(), None),
        };
        let arguments = match arguments {
            Some(Value::String(text)) => text,
            // Some servers send the object itself instead of its text.
            Some(value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
            _ => String::new(),
        };
        let id = delta.id.unwrap_or_default();
        self.count(id.len() + name.len() + arguments.len())?;
        let position = match self.position(delta.index, &id) {
            Some(position) => position,
            None if self.calls.len() == MAX_TOOL_CALLS => {
                return Err(self.malformed("too many tool calls"));
            }
            None => {
                let (id, name) = (String::new(), String::new());
                self.calls.push(OpenCall {
                    index: delta.index,
                    id,
                    name,
                    arguments: String::new(),
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[position];
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(&arguments);
        Ok(())
    }

    /// Which open call a piece belongs to. Servers that number nothing, or everything 0, are
    /// told apart by ids; a piece with neither continues the last call.
    fn position(&self, index: Option<u32>, id: &str) -> Option<usize> {
        let same_id = |call: &OpenCall| id.is_empty() || call.id.is_empty() || call.id == id;
        match index {
            Some(_) => self
                .calls
                .iter()
                .rposition(|call| call.index == index && same_id(call)),
            None if id.is_empty() => self.calls.len().checked_sub(1),
            None => self.calls.iter().rposition(|call| call.id == id),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.finished {
            return Ok(());
        }
        if self.stop.is_none() && self.bytes == 0 {
            return Err(self.malformed("the answer is empty"));
        }
        let mut calls = std::mem::take(&mut self.calls);
        if calls.iter().any(|call| call.name.is_empty()) {
            return Err(self.malformed("a tool call has no name"));
        }
        calls.sort_by_key(|call| call.index);
        let stop = self.stop.take().unwrap_or(StopReason::Unknown);
        let stop = match stop {
            StopReason::Stop | StopReason::Unknown if !calls.is_empty() => StopReason::ToolCalls,
            StopReason::Stop | StopReason::Unknown if self.refused => StopReason::Refusal,
            other => other,
        };
        for (number, call) in calls.into_iter().enumerate() {
            let id = if call.id.is_empty() {
                format!("call_{number}")
            } else {
                call.id
            };
            let name = self.names.ours(call.name);
            let _room =
                memory::reserve_for_json(call.arguments.as_bytes()).map_err(Error::NoRoom)?;
            let arguments = Arguments::parse(&call.arguments);
            self.ready.push_back(Chunk::ToolCall(ToolCall {
                id,
                name,
                arguments,
            }));
        }
        self.ready.push_back(Chunk::Done(Done {
            usage: self.usage.take(),
            stop,
            keepsake: None,
        }));
        self.finished = true;
        Ok(())
    }
}

fn usage(wire: WireUsage) -> Option<Usage> {
    Some(Usage {
        input_tokens: wire.prompt_tokens?,
        output_tokens: wire.completion_tokens?,
        cached_tokens: wire
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens),
        cost_usd: None,
    })
}

fn stop_reason(reason: String) -> StopReason {
    match reason.as_str() {
        "stop" => StopReason::Stop,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::ContentFilter,
        _ => StopReason::Other(reason),
    }
}
