//! The one end-to-end test program: a module per resource.

mod admin;
mod api_guide;
mod approvals;
mod auth;
mod authors;
mod backend;
mod bad_input;
mod calls;
mod cancel;
mod cli;
mod contract;
mod data_tools;
mod events;
mod expect;
mod files;
mod gathered;
mod guide;
mod health;
mod http_agents;
mod idempotency;
mod isolation;
mod keys;
mod limits;
mod logs;
mod machine;
mod mcp;
mod memory;
mod metrics;
mod models;
mod on_postgres;
mod operator;
mod optimizer;
mod practice;
mod processes;
mod resume;
mod runs;
mod scripts;
mod security;
mod tail;
mod telemetry;
mod threads;
mod tls;
mod tools;
mod verify;

/// Every test ends with this.
type Test = anyhow::Result<()>;
