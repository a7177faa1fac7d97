//! How many workers there are and what each may use.

use std::path::PathBuf;
use std::time::Duration;

/// How the workers of one kind are run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The program to start: the server's own.
    pub program: PathBuf,
    /// How many may work at once. More wait their turn. At least 1.
    pub workers: usize,
    /// How many idle processes are kept started, besides those at work.
    pub warm: usize,
}

impl Config {
    /// As many workers as the machine has processors, at least 2, and one of them kept warm.
    pub fn new(program: impl Into<PathBuf>) -> Config {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Config {
            program: program.into(),
            workers: processors.max(2),
            warm: 1,
        }
    }
}

/// What one script may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory of its process beyond what an idle worker has, in bytes.
    pub memory_bytes: u64,
    /// Time that it may compute, all in all. Waiting for answers to its calls does not count.
    pub run_time: Duration,
    /// How deep its functions may call each other.
    pub recursion: usize,
    /// Bytes that it may print, all in all, and that one call or its result may have as JSON.
    pub output_bytes: u64,
    /// How often it may call its functions.
    pub suspensions: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 128 << 20,
            run_time: Duration::from_secs(20),
            recursion: 500,
            output_bytes: 8 << 20,
            suspensions: 1_000,
        }
    }
}

/// What the process that works on files for one run may use.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisLimits {
    /// Memory of the process beyond what an idle worker has, in bytes.
    pub memory_bytes: u64,
    /// Time that one job may take, from when it has a worker to its answer.
    pub wall_time: Duration,
    /// Bytes that one job's result may have as JSON.
    pub output_bytes: u64,
}

impl Default for AnalysisLimits {
    fn default() -> AnalysisLimits {
        AnalysisLimits {
            memory_bytes: 512 << 20,
            wall_time: Duration::from_secs(120),
            output_bytes: 32 << 20,
        }
    }
}
