//! An answer put together from the bytes of a stream, whatever its format: text as it comes, tool
//! calls whole, and limits on all that a provider can make grow. No I/O.

#[cfg(test)]
pub(crate) mod trial;

use std::collections::VecDeque;

use netra_context::memory;
use netra_prices::{Call, Tariff};
use serde_json::Value;

use crate::failure::{self, Complaint};
use crate::names::ToolNames;
use crate::sse::{Broken, Parser};
use crate::{Arguments, Chunk, Done, Error, Keepsake, Secret, StopReason, ToolCall, Usage};

/// Text, thinking and arguments of one answer together, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Tool calls in one answer.
const MAX_TOOL_CALLS: usize = 256;

/// How one provider's events are read.
pub(crate) trait Format: Send {
    /// Takes the data of one event, or a whole answer that came as one document.
    fn event(&mut self, data: &str, draft: &mut Draft) -> Result<(), Error>;

    /// What the provider wants to see again with this answer, asked for once, at its end, and
    /// only where the answer has tool calls.
    fn keepsake(&mut self) -> Option<Value> {
        None
    }
}

/// Reads one answer. Feed it with [`Answer::push`] and [`Answer::end`]; take chunks with
/// [`Answer::pop`], those that were complete before an error too.
pub(crate) struct Answer<F> {
    parser: Parser,
    format: F,
    draft: Draft,
}

impl<F: Format> Answer<F> {
    pub(crate) fn new(format: F, draft: Draft) -> Self {
        Self {
            parser: Parser::default(),
            format,
            draft,
        }
    }

    /// The next chunk that is complete.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        self.draft.ready.pop_front()
    }

    /// Whether the answer is complete, and what still comes does not matter.
    pub(crate) fn finished(&self) -> bool {
        self.draft.finished
    }

    /// Takes bytes of an event stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut events = Vec::new();
        let parsed = self.parser.push(bytes, |data| events.push(data));
        for data in events {
            self.event(&data)?;
        }
        parsed.map_err(|broken| {
            self.draft.malformed(match broken {
                Broken::TooLong => "an event is too long",
                Broken::NotText => "a line is not text",
            })
        })
    }

    /// Takes a whole answer that came as one JSON document.
    pub(crate) fn push_document(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.event(text),
            Err(_) => Err(self.draft.malformed("the answer is not text")),
        }
    }

    /// The provider closed the stream in the proper way. Some never say that they are done, so
    /// a reason to stop counts as the end too.
    pub(crate) fn end(&mut self) -> Result<(), Error> {
        if !self.draft.finished && !self.draft.over && self.draft.stop.is_none() {
            return Err(self.draft.cut());
        }
        self.finish()
    }

    fn event(&mut self, data: &str) -> Result<(), Error> {
        if self.draft.finished || data.trim().is_empty() {
            return Ok(());
        }
        let _room = memory::reserve_for_json(data.as_bytes()).map_err(Error::NoRoom)?;
        self.format.event(data, &mut self.draft)?;
        if self.draft.over {
            return self.finish();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        if self.draft.finished {
            return Ok(());
        }
        let keepsake = if self.draft.calls.is_empty() {
            None
        } else {
            self.format.keepsake()
        };
        self.draft.finish(keepsake)
    }
}

/// What is known of an answer so far.
pub(crate) struct Draft {
    provider: String,
    key: Option<Secret>,
    names: ToolNames,
    tariff: Option<Tariff>,
    ready: VecDeque<Chunk>,
    calls: Vec<OpenCall>,
    usage: Tokens,
    stop: Option<StopReason>,
    refused: bool,
    bytes: usize,
    over: bool,
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

/// What a provider counted; what it did not tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// All of the request, cached ones included.
    pub(crate) input: Option<u64>,
    /// All of the answer, thinking included.
    pub(crate) output: Option<u64>,
    /// The part of the input that was read from the provider's cache.
    pub(crate) cached: Option<u64>,
    /// The part of the input that was written to it.
    pub(crate) cache_write: Option<u64>,
}

impl Draft {
    pub(crate) fn new(
        provider: String,
        key: Option<Secret>,
        names: ToolNames,
        tariff: Option<Tariff>,
    ) -> Self {
        Self {
            provider,
            key,
            names,
            tariff,
            ready: VecDeque::new(),
            calls: Vec::new(),
            usage: Tokens::default(),
            stop: None,
            refused: false,
            bytes: 0,
            over: false,
            finished: false,
        }
    }

    pub(crate) fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed {
            provider: self.provider.clone(),
            what,
        }
    }

    fn cut(&self) -> Error {
        Error::Cut {
            provider: self.provider.clone(),
        }
    }

    /// Reads an event as JSON of the shape that the format has agreed on.
    pub(crate) fn read<'d, T: serde::Deserialize<'d>>(&self, data: &'d str) -> Result<T, Error> {
        serde_json::from_str(data).map_err(|_| self.malformed("an event is not as agreed"))
    }

    /// The error for an error object among the events.
    pub(crate) fn complaint(&self, error: &Value) -> Error {
        failure::from_stream(&self.provider, Complaint::read(error, self.key.as_ref()))
    }

    /// More text of the answer.
    pub(crate) fn text(&mut self, text: String) -> Result<(), Error> {
        self.piece(Chunk::Text, text)
    }

    /// More of what the model thinks aloud.
    pub(crate) fn thinking(&mut self, text: String) -> Result<(), Error> {
        self.piece(Chunk::Thinking, text)
    }

    /// The words of a refusal, which are text too.
    pub(crate) fn refusal(&mut self, text: String) -> Result<(), Error> {
        self.refused |= !text.is_empty();
        self.text(text)
    }

    fn piece(&mut self, chunk: fn(String) -> Chunk, text: String) -> Result<(), Error> {
        if !text.is_empty() {
            self.count(text.len())?;
            self.ready.push_back(chunk(text));
        }
        Ok(())
    }

    /// Counts bytes that are kept of the answer.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > MAX_ANSWER_BYTES {
            return Err(self.malformed("the answer is too long"));
        }
        Ok(())
    }

    /// A piece of a tool call: of the one that it belongs to, or of a new one.
    pub(crate) fn call(
        &mut self,
        index: Option<u32>,
        id: String,
        name: String,
        arguments: &str,
    ) -> Result<(), Error> {
        self.count(id.len() + name.len() + arguments.len())?;
        let position = match self.position(index, &id) {
            Some(position) => position,
            None => self.begin(index)?,
        };
        let call = &mut self.calls[position];
        if call.id.is_empty() {
            call.id = id;
        }
        if call.name.is_empty() {
            call.name = name;
        }
        call.arguments.push_str(arguments);
        Ok(())
    }

    /// A whole tool call, whatever its id.
    pub(crate) fn whole_call(
        &mut self,
        id: String,
        name: String,
        arguments: String,
    ) -> Result<(), Error> {
        self.count(id.len() + name.len() + arguments.len())?;
        let position = self.begin(None)?;
        self.calls[position] = OpenCall {
            index: None,
            id,
            name,
            arguments,
        };
        Ok(())
    }

    fn begin(&mut self, index: Option<u32>) -> Result<usize, Error> {
        if self.calls.len() == MAX_TOOL_CALLS {
            return Err(self.malformed("too many tool calls"));
        }
        self.calls.push(OpenCall {
            index,
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
        });
        Ok(self.calls.len() - 1)
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

    /// What the provider has counted so far; later figures replace earlier ones.
    pub(crate) fn used(&mut self, tokens: Tokens) {
        let known = &mut self.usage;
        known.input = tokens.input.or(known.input);
        known.output = tokens.output.or(known.output);
        known.cached = tokens.cached.or(known.cached);
        known.cache_write = tokens.cache_write.or(known.cache_write);
    }

    /// Why the model stops; more may still come, such as what was used.
    pub(crate) fn stopped(&mut self, reason: StopReason) {
        self.stop = Some(reason);
    }

    /// The provider has said that this is the end.
    pub(crate) fn over(&mut self) {
        self.over = true;
    }

    fn finish(&mut self, keepsake: Option<Value>) -> Result<(), Error> {
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
        let provider = self.provider.clone();
        self.ready.push_back(Chunk::Done(Done {
            usage: self.usage(),
            stop,
            keepsake: keepsake.map(|value| Keepsake { provider, value }),
        }));
        self.finished = true;
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        let tokens = self.usage;
        let (input_tokens, output_tokens) = (tokens.input?, tokens.output?);
        let call = Call {
            input: input_tokens,
            cached: tokens.cached.unwrap_or(0),
            cache_write: tokens.cache_write.unwrap_or(0),
            output: output_tokens,
        };
        Some(Usage {
            input_tokens,
            output_tokens,
            cached_tokens: tokens.cached,
            cost_usd: self.tariff.and_then(|tariff| tariff.cost_usd(call)),
        })
    }
}
