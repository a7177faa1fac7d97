//! Agents that are compiled in: by whoever puts the server into a program of their own.

use async_trait::async_trait;
use netra_context::UserExecutionContext;
use netra_protocol::error::{ErrorCode, Failure};
use serde_json::{Value, json};

use crate::execution::{Fault, Frame};
use crate::perform::native::Desk;

pub use crate::perform::code_calls::Call as AgentCall;

/// An agent in Rust. A run that was cut off goes on by doing again what the agent did, and what is done is
/// given to it at once ([`Work`]); so an agent has to ask for the same things in the same order each time,
/// and what it learns from elsewhere it has to learn by a tool.
///
/// ```
/// use netra_engine::{Agent, AgentSpec, Stopped, Work};
/// use serde_json::{Value, json};
///
/// struct Clock;
///
/// #[async_trait::async_trait]
/// impl Agent for Clock {
///     fn name(&self) -> &str {
///         "clock"
///     }
///
///     fn spec(&self) -> AgentSpec {
///         AgentSpec {
///             description: "Tells the time.".to_owned(),
///             tools: vec!["time_now".to_owned()],
///             ..AgentSpec::default()
///         }
///     }
///
///     async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
///         work.think("looking at the clock", None).await?;
///         let clock = work.tool("time_now", json!({})).await?;
///         Ok(json!({ "text": format!("It is {}.", clock["now"]) }))
///     }
/// }
/// ```
#[async_trait]
pub trait Agent: Send + Sync {
    /// To start it by: a lower-case letter, then at most 63 letters, digits, `_` or `-`.
    fn name(&self) -> &str;

    /// What it is; asked for when agents are read.
    fn spec(&self) -> AgentSpec;

    /// Works until it has a result. Its `report_markdown` or `text` is the message in the thread.
    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped>;
}

/// What a compiled-in agent says of itself, as others do in `agent.toml`.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// For people.
    pub description: String,
    /// JSON Schema of what it takes; a text where it says nothing.
    pub input_schema: Option<Value>,
    /// JSON Schema of what it gives. A result that does not fit fails the agent.
    pub output_schema: Option<Value>,
    /// The tools that it may call, and no others.
    pub tools: Vec<String>,
    /// The agents that it may call, and no others.
    pub sub_agents: Vec<String>,
    /// The model that it asks, as `provider/model`; the server's default when absent.
    pub model: Option<String>,
    /// Whether users may start it; others are for agents only.
    pub listed: bool,
}

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            description: String::new(),
            input_schema: None,
            output_schema: None,
            tools: Vec::new(),
            sub_agents: Vec::new(),
            model: None,
            listed: true,
        }
    }
}

/// Why a compiled-in agent could not do something. Give it on with `?` unless [`failure`](Self::failure) says
/// that the agent may go on: what ends or suspends the whole run holds whatever the agent makes of it, and nothing more begins.
#[derive(Debug)]
pub struct Stopped(pub(crate) Fault);

impl Stopped {
    /// Why, where the agent may go another way.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.0 {
            Fault::Agent(failure) => Some(failure),
            Fault::Run(_) | Fault::Waiting => None,
        }
    }
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self(Fault::Agent(failure))
    }
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// What a compiled-in agent works with: what it was asked, and what it may ask for. Each call is an event
/// that the user sees, and an entry in the run's journal.
///
/// Several calls may be at work at once, by [`together`](Self::together) or by joining their futures. A future
/// that is dropped before it is ready lets go of its call: that is closed as one whose outcome is unknown when
/// the agent ends. One that is neither polled nor dropped holds up whoever wants to ask a person.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    frame: &'a Frame<'a>,
    desk: &'a Desk,
}

impl<'a> Work<'a> {
    pub(crate) fn of(frame: &'a Frame<'a>, desk: &'a Desk) -> Self {
        Self { frame, desk }
    }

    /// Who asks, until when, with which rights.
    pub fn ctx(&self) -> &UserExecutionContext {
        self.frame.ctx
    }

    /// What the agent was asked; it fits its schema.
    pub fn input(&self) -> &Value {
        &self.frame.input
    }

    /// The run's files, without content: `id`, `name`, `media_type`, `bytes`.
    pub fn files(&self) -> Value {
        self.frame.files()
    }

    /// Tells the user what is being done; `progress` from 0 to 1.
    ///
    /// # Errors
    /// When the run cannot go on.
    pub async fn think(&self, message: &str, progress: Option<f64>) -> Result<(), Stopped> {
        let message = message.to_owned();
        let think = AgentCall::Think { message, progress };
        self.call(think).await.map(drop)
    }

    /// Calls one of its tools, with an object.
    ///
    /// # Errors
    /// A failure where the tool was refused or failed.
    pub async fn tool(&self, name: &str, arguments: Value) -> Result<Value, Stopped> {
        let Value::Object(arguments) = arguments else {
            let words = "the arguments of a tool are an object";
            return Err(Failure::new(ErrorCode::InvalidInput, words).into());
        };
        let name = name.to_owned();
        self.call(AgentCall::Tool { name, arguments }).await
    }

    /// Lets one of its sub-agents work, with a text or an object, and gives its result.
    ///
    /// # Errors
    /// A failure where the sub-agent failed.
    pub async fn agent(&self, name: &str, input: Value) -> Result<Value, Stopped> {
        let name = name.to_owned();
        self.call(AgentCall::Agent { name, input }).await
    }

    /// Asks its model once.
    ///
    /// # Errors
    /// A failure where the model gave no answer.
    pub async fn ask_model(&self, prompt: &str, system: Option<&str>) -> Result<String, Stopped> {
        let ask = AgentCall::AskModel {
            prompt: prompt.to_owned(),
            system: system.map(str::to_owned),
        };
        match self.call(ask).await? {
            Value::String(text) => Ok(text),
            other => Ok(other.to_string()),
        }
    }

    /// Does one thing.
    ///
    /// # Errors
    /// A failure where it failed.
    pub async fn call(&self, call: AgentCall) -> Result<Value, Stopped> {
        Ok(self.desk.answer(self.frame, call).await?)
    }

    /// Does several things at once, and gives what came of each, in their order.
    ///
    /// # Errors
    /// When the run cannot go on; what one of them fails with is an answer.
    pub async fn together(
        &self,
        calls: Vec<AgentCall>,
    ) -> Result<Vec<Result<Value, Failure>>, Stopped> {
        Ok(self.desk.together(self.frame, calls).await?)
    }
}

/// `echo`: gives the input's text back, with no model and no tools. It shows that a server works, and
/// what it costs without an agent.
pub(crate) struct Echo;

impl Echo {
    pub(crate) const NAME: &str = "echo";
}

#[async_trait]
impl Agent for Echo {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn spec(&self) -> AgentSpec {
        AgentSpec::default()
    }

    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
        match work.input().get("text").and_then(Value::as_str) {
            Some(text) => Ok(json!({ "text": text })),
            None => {
                let words = "there is no text to give back";
                Err(Failure::new(ErrorCode::InvalidInput, words).into())
            }
        }
    }
}
