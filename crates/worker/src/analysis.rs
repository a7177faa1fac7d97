//! Work on users' files as the server drives it: one process for a run, one job after the other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use netra_analytics::jobs::InputFile;
use netra_context::UserExecutionContext;
use netra_memory::Scope;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::ANALYSIS_ARGUMENT;
use crate::error::Error;
use crate::frame::MAX_BODY;
use crate::limits::{AnalysisLimits, Config};
use crate::meter::Meter;
use crate::nursery::Nursery;
use crate::process::{End, Lost, Process};
use crate::turns::{Owner, Turns};
use crate::wire::{FromAnalysis, ToAnalysis};

/// What a message may have around the part that the output limit counts.
const ENVELOPE_BYTES: usize = 64 * 1024;

/// The workers that work on users' files; one pool per server. Clones share them.
#[derive(Clone, Debug)]
pub struct AnalysisPool {
    nursery: Arc<Nursery>,
    turns: Turns,
}

/// The process that works on files for one run. It is started with the first job; dropping this kills it.
#[derive(Debug)]
pub struct Analysis {
    pool: AnalysisPool,
    owner: Owner,
    limits: AnalysisLimits,
    /// What its process may have.
    memory_bytes: u64,
    process: Option<Process>,
    /// What that process can read.
    readable: BTreeSet<PathBuf>,
    meter: Meter,
}

/// One job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What to do; the worker's job table knows the names.
    pub op: String,
    /// How.
    pub arguments: Value,
    /// With which files.
    pub inputs: Vec<InputFile>,
}

impl AnalysisPool {
    /// A pool that has started nothing yet. `warm` is not used: the process of a run starts with its first job.
    pub fn new(config: Config) -> AnalysisPool {
        let turns = Turns::new(config.workers);
        let config = Config { warm: 0, ..config };
        AnalysisPool {
            nursery: Arc::new(Nursery::new(config, ANALYSIS_ARGUMENT)),
            turns,
        }
    }

    /// How many processes of this pool the system has now.
    pub fn living_workers(&self) -> usize {
        self.nursery.living()
    }

    /// Prepares a process for one run of this user.
    pub fn open(&self, ctx: &UserExecutionContext, limits: AnalysisLimits) -> Analysis {
        Analysis {
            pool: self.clone(),
            owner: ctx.user_id(),
            limits,
            memory_bytes: limits.memory_bytes,
            process: None,
            readable: BTreeSet::new(),
            meter: Meter::default(),
        }
    }
}

impl Analysis {
    /// Carries out one job, when its turn has come: users take turns, and the last place is for a user who has no job
    /// at work. The wait for it has no limit of its own and counts toward the caller's deadline. `progress` hears the share done (0 to 1) and what is being done.
    ///
    /// If this fails with anything but [`Error::Job`] or [`Error::OutputLimit`], or its future is dropped, the
    /// process is gone, and the next job starts another.
    pub async fn run(
        &mut self,
        job: &Job,
        progress: &mut (dyn FnMut(f32, &str) + Send),
    ) -> Result<Value, Error> {
        self.make_readable(&job.inputs);
        let mut waiting = self.pool.turns.enter(self.owner);
        waiting.come().await;
        let _turn = waiting.taken();
        // Out of its place while it works, so that a dropped future takes the process with it.
        let mut process = match self.process.take() {
            Some(process) => process,
            None => self.spawn().await?,
        };
        let mut metered = Metered {
            meter: &self.meter,
            kept: false,
        };
        let message = ToAnalysis::Job {
            op: job.op.clone(),
            arguments: job.arguments.clone(),
            inputs: job.inputs.clone(),
        };
        process
            .queue(&message)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        let until = Instant::now() + self.limits.wall_time;
        let outcome = loop {
            match timeout_at(until, process.receive_message(self.max_frame())).await {
                Ok(Ok(FromAnalysis::Progress { share, message })) => {
                    progress(share.clamp(0.0, 1.0), &message);
                }
                Ok(Ok(FromAnalysis::Done { result })) => break Ok(result),
                Ok(Ok(FromAnalysis::Failed(error))) => break Err(Error::Job(error)),
                Ok(Ok(FromAnalysis::TooLarge)) => break Err(self.output_limit()),
                Ok(Err(lost)) => return Err(self.lost(lost)),
                Err(_) => return Err(self.time_limit()),
            }
        };
        self.process = Some(process);
        metered.kept = true;
        outcome
    }

    /// Reads the memory of this run's process, also while a job runs.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// A worker cannot be given more to read than it was started with; one that can read all of it takes its place.
    fn make_readable(&mut self, inputs: &[InputFile]) {
        for input in inputs {
            if self.readable.insert(input.path.clone()) {
                self.process = None;
                self.meter.set(None);
            }
        }
    }

    async fn spawn(&mut self) -> Result<Process, Error> {
        let started = self.pool.nursery.worker().await;
        let mut process = started.map_err(Error::Start)?;
        // It stops by itself before its user's memory ends as that stands now. It has more pages than it counts bytes
        // (up to an eighth is lost between blocks), and where those made the user's memory end, the run would end with it.
        let remaining = Scope::current().remaining() / 4 * 3;
        self.memory_bytes = self.limits.memory_bytes.min(remaining);
        let limits = ToAnalysis::Limits {
            memory_bytes: self.memory_bytes,
            output_bytes: self.limits.output_bytes,
            wall_time_ms: u64::try_from(self.limits.wall_time.as_millis()).unwrap_or(u64::MAX),
            files: self.readable.iter().cloned().collect(),
        };
        self.meter.set(process.id());
        process
            .queue(&limits)
            .map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(process)
    }

    fn max_frame(&self) -> usize {
        let output = usize::try_from(self.limits.output_bytes).unwrap_or(MAX_BODY);
        output.min(MAX_BODY) + ENVELOPE_BYTES
    }

    fn lost(&self, lost: Lost) -> Error {
        match lost {
            Lost::Ended(status) => match Lost::end(status) {
                End::Memory => Error::MemoryLimit {
                    limit_bytes: self.memory_bytes,
                },
                End::Time => self.time_limit(),
                End::Other(status) => Error::WorkerDied { status },
            },
            Lost::TooLarge => self.output_limit(),
            Lost::NoRoom(over) => Error::NoRoom(over),
            Lost::Nonsense(what) => Error::Protocol(what),
        }
    }

    fn time_limit(&self) -> Error {
        Error::TimeLimit {
            limit: self.limits.wall_time,
        }
    }

    fn output_limit(&self) -> Error {
        Error::OutputLimit {
            limit_bytes: self.limits.output_bytes,
        }
    }
}

/// Clears the meter of a process that does not outlive its job.
struct Metered<'a> {
    meter: &'a Meter,
    kept: bool,
}

impl Drop for Metered<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.meter.set(None);
        }
    }
}
