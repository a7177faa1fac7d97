//! Factories, admission, the engine, agents, recovery.
//!
//! Reading order: [`ExecutionEngineFactory`] (admits a run and makes its engine),
//! `start` (what may be refused, then a task of its own), `admission` (who executes and who waits),
//! `attend` (the way to the slot), [`IsolatedExecutionEngine`] (owns one run from start to
//! end), `execution` (what the agents of a run share), `perform` (how each kind of agent works),
//! `custody` (who has what agents keep), `closing`, `let_go` and `ending` (nothing stays open, and a run ends exactly
//! once), `waiting` (a person is
//! asked), `isolation` (who holds what, to be
//! looked at), `spans` (what tracing is told), `recovery` (the one way back, after an answer, a drain or a crash), `authority` (what
//! admins end), [`agents`] (what there is to run). No socket, no status code and no SQL is known here.

pub mod agents;
pub mod order;

mod admission;
mod attend;
mod authority;
mod budget;
mod closing;
mod custody;
mod ending;
mod engine;
mod error;
mod execution;
mod factory;
mod isolation;
mod let_go;
mod live;
mod message;
mod native;
mod nodes;
mod perform;
mod pressure;
mod recovery;
mod request;
mod spans;
mod start;
mod sub_agent;
mod together;
mod turns;
mod usage;
mod version;
mod waiting;

#[cfg(test)]
mod tests;

pub use admission::Refusal;
pub use agents::{Agents, Definition, EmbeddedAgent};
pub use engine::IsolatedExecutionEngine;
pub use error::Error;
pub use factory::{Config, ExecutionEngineFactory, Infra};
pub use isolation::{Census, Holdings};
pub use native::{Agent, AgentCall, AgentSpec, Stopped, Work};
pub use pressure::NodeMemory;
pub use start::Started;
