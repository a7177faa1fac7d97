//! The messages between the server and its workers.

use std::path::PathBuf;

use netra_analytics::jobs::InputFile;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{JobError, ScriptException, Traceback};

/// What a call is answered with.
pub(crate) type Answer = Result<Value, ScriptException>;

/// From the server to a worker that runs a script.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToScript {
    /// Run this script from its beginning.
    Start {
        name: String,
        code: String,
        inputs: Map<String, Value>,
        functions: Vec<String>,
        /// The variable whose value is wanted at the end.
        keeps: Option<String>,
        limits: ScriptLimits,
    },
    /// Say whether this script can be read, without running it.
    Check {
        name: String,
        code: String,
        limits: ScriptLimits,
    },
    /// A snapshot follows: go on from there, where the script waits for an answer.
    Restore {
        functions: Vec<String>,
        keeps: Option<String>,
        limits: ScriptLimits,
    },
    /// The answer to the call that the script waits for.
    Answer(Answer),
    /// The call that the script waits for will be answered later.
    Defer,
    /// Answers to calls that were deferred.
    Resolve(Vec<(u32, Answer)>),
    /// Send a snapshot. The script goes on waiting.
    Snapshot,
}

/// The limits that a worker keeps itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ScriptLimits {
    pub(crate) memory_bytes: u64,
    pub(crate) run_time_us: u64,
    pub(crate) recursion: usize,
    pub(crate) output_bytes: u64,
}

/// From a worker that runs a script.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromScript {
    Printed {
        text: String,
    },
    /// The script waits for the answer to this call.
    Call {
        id: u32,
        name: String,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
        /// How long the script has computed since its start, in microseconds.
        computed_us: u64,
    },
    /// The script waits for deferred calls.
    Waiting {
        pending: Vec<u32>,
        computed_us: u64,
    },
    Finished {
        value: Value,
        /// What the variable that was asked for holds.
        kept: Option<Value>,
    },
    Failed(Failure),
}

/// Why a script ended without a result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Memory,
    Time,
    Output,
    Raised(Traceback),
}

/// From the server to a worker that works on files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToAnalysis {
    /// Always first, and once.
    Limits {
        memory_bytes: u64,
        output_bytes: u64,
        wall_time_ms: u64,
        /// All that the worker will be able to read.
        files: Vec<PathBuf>,
    },
    Job {
        op: String,
        arguments: Value,
        inputs: Vec<InputFile>,
    },
}

/// From a worker that works on files.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromAnalysis {
    Progress { share: f32, message: String },
    Done { result: Value },
    Failed(JobError),
    TooLarge,
}
