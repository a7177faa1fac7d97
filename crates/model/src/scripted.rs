//! A model for tests: it says what the test wrote down, when the test wants it.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use netra_context::UserExecutionContext;

use crate::{
    Arguments, ChatRequest, ChatStream, Chunk, Done, Error, Keepsake, Price, Provider, StopReason,
    ToolCall, Usage,
};

/// A provider whose answers are written in advance.
pub struct ScriptedModel {
    name: String,
    script: Script,
    window: Option<u32>,
    requests: Mutex<Vec<ChatRequest>>,
    open: watch::Sender<usize>,
    price: Option<Price>,
    longest_answer: Option<u32>,
    native_schema: bool,
    images: bool,
}

enum Script {
    InOrder(Mutex<VecDeque<Answer>>),
    ByRequest(Box<dyn Fn(&ChatRequest) -> Answer + Send + Sync>),
}

impl ScriptedModel {
    /// Gives these answers, one for each call, in order. A call beyond the last one fails with
    /// [`Error::NotConfigured`].
    pub fn new(name: impl Into<String>, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::with(
            name,
            Script::InOrder(Mutex::new(answers.into_iter().collect())),
        )
    }

    /// Makes each answer from its request, for tests with several runs at once.
    pub fn from_fn(
        name: impl Into<String>,
        answer: impl Fn(&ChatRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with(name, Script::ByRequest(Box::new(answer)))
    }

    fn with(name: impl Into<String>, script: Script) -> Self {
        let open = watch::channel(0).0;
        Self {
            name: name.into(),
            script,
            window: None,
            requests: Mutex::default(),
            open,
            price: None,
            longest_answer: None,
            native_schema: false,
            images: false,
        }
    }

    /// Asks this price for each model.
    #[must_use]
    pub fn priced(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// Takes so many tokens.
    #[must_use]
    pub fn with_window(mut self, tokens: u32) -> Self {
        self.window = Some(tokens);
        self
    }

    /// Gives answers of so many tokens at most, where nobody says otherwise.
    #[must_use]
    pub fn with_longest_answer(mut self, tokens: u32) -> Self {
        self.longest_answer = Some(tokens);
        self
    }

    /// Says that it holds its answers to a schema. Whether they fit is up to the script.
    #[must_use]
    pub fn with_native_schema(mut self) -> Self {
        self.native_schema = true;
        self
    }

    /// Says that it may be shown pictures.
    #[must_use]
    pub fn with_images(mut self) -> Self {
        self.images = true;
        self
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.requests.lock().clone()
    }

    /// How many streams are open; a stream closes when it is dropped.
    pub fn open_streams(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    fn answer(&self, request: &ChatRequest) -> Answer {
        match &self.script {
            Script::InOrder(answers) => answers.lock().pop_front().unwrap_or_else(|| {
                let reason = "the scripted model has no answer left".to_owned();
                Answer::refuse(Error::NotConfigured(reason))
            }),
            Script::ByRequest(answer) => answer(request),
        }
    }
}

#[async_trait]
impl Provider for ScriptedModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn price(&self, _model: &str) -> Option<Price> {
        self.price
    }

    fn window(&self, _model: &str) -> Option<u32> {
        self.window
    }

    fn longest_answer(&self, _model: &str) -> Option<u32> {
        self.longest_answer
    }

    fn native_schema(&self, _model: &str, _tools: bool) -> bool {
        self.native_schema
    }

    fn images(&self, _model: &str) -> bool {
        self.images
    }

    async fn stream(
        &self,
        _ctx: &UserExecutionContext,
        request: ChatRequest,
    ) -> Result<ChatStream, Error> {
        let answer = self.answer(&request);
        self.requests.lock().push(request);
        if let Some(error) = answer.refused {
            return Err(error);
        }
        let steps = answer.into_steps();
        let open = OpenStream::new(self.open.clone());
        Ok(Box::pin(stream::unfold(
            (steps, open),
            async |(mut steps, open)| {
                loop {
                    match steps.pop_front()? {
                        Step::Say(chunk) => return Some((Ok(chunk), (steps, open))),
                        Step::Fail(error) => return Some((Err(error), (VecDeque::new(), open))),
                        Step::Wait(gate) => gate.pass().await,
                        Step::Hang => std::future::pending().await,
                    }
                }
            },
        )))
    }
}

/// Counts a stream for as long as it lives.
struct OpenStream(watch::Sender<usize>);

impl OpenStream {
    fn new(open: watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// One prepared answer. `Done` is added at its end: with the given reason, or
/// [`StopReason::ToolCalls`] where there are tool calls, else [`StopReason::Stop`].
#[derive(Debug, Clone, Default)]
pub struct Answer {
    refused: Option<Error>,
    steps: VecDeque<Step>,
    usage: Option<Usage>,
    stop: Option<StopReason>,
    keepsake: Option<Keepsake>,
}

#[derive(Debug, Clone)]
enum Step {
    Say(Chunk),
    Fail(Error),
    Wait(Gate),
    Hang,
}

impl Answer {
    /// An empty answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call that fails before there is a stream.
    pub fn refuse(error: Error) -> Self {
        Self {
            refused: Some(error),
            ..Self::default()
        }
    }

    /// Says this text, as one chunk.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.step(Step::Say(Chunk::Text(text.into())))
    }

    /// Thinks this text, as one chunk.
    #[must_use]
    pub fn thinking(self, text: impl Into<String>) -> Self {
        self.step(Step::Say(Chunk::Thinking(text.into())))
    }

    /// Asks for a tool.
    #[must_use]
    pub fn tool_call(self, id: &str, name: &str, arguments: Value) -> Self {
        self.call(id, name, Arguments::Json(arguments))
    }

    /// Asks for a tool with arguments that are not JSON.
    #[must_use]
    pub fn invalid_tool_call(self, id: &str, name: &str, arguments: &str) -> Self {
        self.call(id, name, Arguments::Invalid(arguments.to_owned()))
    }

    /// Goes on when the gate has been opened.
    #[must_use]
    pub fn wait(self, gate: Gate) -> Self {
        self.step(Step::Wait(gate))
    }

    /// Never goes on.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Ends with this error.
    #[must_use]
    pub fn error(self, error: Error) -> Self {
        self.step(Step::Fail(error))
    }

    /// Reports this usage at the end; without it the answer reports none.
    #[must_use]
    pub fn usage(mut self, input_tokens: u64, output_tokens: u64) -> Self {
        let usage = Usage {
            input_tokens,
            output_tokens,
            cached_tokens: None,
            cost_usd: None,
        };
        self.usage = Some(usage);
        self
    }

    /// Stops for this reason.
    #[must_use]
    pub fn stop(mut self, stop: StopReason) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Wants this back with the answer.
    #[must_use]
    pub fn keepsake(mut self, provider: &str, value: Value) -> Self {
        let provider = provider.to_owned();
        self.keepsake = Some(Keepsake { provider, value });
        self
    }

    fn call(self, id: &str, name: &str, arguments: Arguments) -> Self {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.step(Step::Say(Chunk::ToolCall(ToolCall {
            id,
            name,
            arguments,
        })))
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    fn into_steps(self) -> VecDeque<Step> {
        let asks = |step: &Step| matches!(step, Step::Say(Chunk::ToolCall(_)));
        let stop = if self.steps.iter().any(asks) {
            StopReason::ToolCalls
        } else {
            StopReason::Stop
        };
        let done = Done {
            usage: self.usage,
            stop: self.stop.unwrap_or(stop),
            keepsake: self.keepsake,
        };
        let mut steps = self.steps;
        steps.push_back(Step::Say(Chunk::Done(done)));
        steps
    }
}

/// A closed gate and what opens it.
pub fn gate() -> (Gate, Opener) {
    let (opened, reached) = (watch::channel(false).0, watch::channel(false).0);
    let (opened, reached) = (Arc::new(opened), Arc::new(reached));
    let gate = Gate {
        opened: opened.clone(),
        reached: reached.clone(),
    };
    (gate, Opener { opened, reached })
}

/// A place where an answer waits.
#[derive(Debug, Clone)]
pub struct Gate {
    opened: Arc<watch::Sender<bool>>,
    reached: Arc<watch::Sender<bool>>,
}

impl Gate {
    async fn pass(&self) {
        self.reached.send_replace(true);
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.opened.subscribe().wait_for(|opened| *opened).await;
    }
}

/// Opens a gate. A gate whose opener is dropped stays closed.
#[derive(Debug)]
pub struct Opener {
    opened: Arc<watch::Sender<bool>>,
    reached: Arc<watch::Sender<bool>>,
}

impl Opener {
    /// Waits until an answer stands before the gate.
    pub async fn reached(&self) {
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// Lets it, and all that come later, through.
    pub fn open(&self) {
        self.opened.send_replace(true);
    }
}
