//! What runs in worker processes, and the pools that own those processes.
//!
//! Scripts (Python, by monty) and work on users' files never run in the server: they run in processes of the same
//! program that start with an empty environment, have hard limits for memory and time, speak frames over their
//! standard input and output, serve one run and are thrown away.
//!
//! The program must begin its `main` by looking at its first argument: [`SCRIPT_ARGUMENT`] means
//! [`subprocess_main`], [`ANALYSIS_ARGUMENT`] means [`analysis_main`], and in both cases nothing else may have been
//! set up before or may write to standard output. Its global allocator must be `netra_memory::Allocator`; a worker
//! without it refuses to work.

mod analysis;
mod analysis_worker;
mod confine;
mod error;
mod frame;
mod limits;
mod meter;
mod nursery;
mod process;
mod room;
pub mod sandbox;
mod script;
mod script_worker;
mod seats;
mod turns;
mod value;
mod wire;

pub use analysis::{Analysis, AnalysisPool, Job};
pub use analysis_worker::{JobFn, analysis_main};
pub use error::{Error, JobError, ScriptException, Traceback};
pub use limits::{AnalysisLimits, Config, Limits};
pub use meter::Meter;
pub use netra_analytics::jobs::InputFile;
pub use script::{Script, ScriptPool, Source, Step};
pub use script_worker::subprocess_main;

/// The first argument of a process that runs a script.
pub const SCRIPT_ARGUMENT: &str = "subprocess";
/// The first argument of a process that works on users' files.
pub const ANALYSIS_ARGUMENT: &str = "analyze-worker";
