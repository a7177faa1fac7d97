//! Tools and the only way to call them: registry, permission layers, the dispatcher of one run.
//!
//! A tool never decides whether it may be called, and nobody calls a tool but the
//! [`Dispatcher`]: it checks, asks a person where one is to be asked, announces, runs, records.
//! What has no rule is refused.

mod consent;
mod dispatcher;
mod executor;
mod layers;
mod past;
mod policy;
mod public_web;
mod redact;
mod registry;
mod rest;
mod said;
mod schema;
mod scope;
mod servers;
mod shelf;
mod short;
mod span;
mod tool;

pub mod builtin;

pub use dispatcher::{Caller, Dispatcher, Done, Error, Request, audit_of_call};
pub use executor::{Infra, ToolExecutorFactory};
pub use past::{Past, call_begun, call_closed};
pub use policy::{Explained, Findings, Known, Policy, Question, Unusable, Verdict};
pub use public_web::{Destination, PublicWeb, Refusal, Target, place_of};
pub use redact::Redaction;
pub use registry::{InvalidTool, Registry};
pub use rest::Rest;
pub use said::Voice;
pub use schema::Schema;
pub use scope::RunScope;
pub use servers::{NotAdded, ToolServers, UserTools};
pub use shelf::{ALL_OF_USERS, OF_USERS, Source};
pub use short::{bytes_of, cut_text, held_by, shorten};
pub use tool::{Call, Tool, ToolSpec};
