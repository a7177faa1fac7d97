//! The binary `netra`: a worker or what holds a foreign program where its first argument says
//! so, else the command line.

use std::process::ExitCode;

use netra_worker::sandbox::{self, SANDBOX_ARGUMENT, STAGE_ARGUMENT};
use netra_worker::{ANALYSIS_ARGUMENT, SCRIPT_ARGUMENT};

/// Counts every block by its owner, and holds workers to their limits.
#[global_allocator]
static GLOBAL: netra_memory::Allocator = netra_memory::Allocator::new();

fn main() -> ExitCode {
    // Where the kernel does not agree, the program works as well and only holds more memory.
    netra_memory::use_small_pages();
    // Workers first: they must find nothing set up, and standard output is theirs.
    match std::env::args_os()
        .nth(1)
        .as_deref()
        .and_then(std::ffi::OsStr::to_str)
    {
        Some(SCRIPT_ARGUMENT) => netra_worker::subprocess_main(),
        Some(ANALYSIS_ARGUMENT) => netra_worker::analysis_main(netra_analytics::jobs::run),
        Some(SANDBOX_ARGUMENT) => sandbox::supervisor_main(),
        Some(STAGE_ARGUMENT) => {
            let arranged = std::env::args_os().nth(2).unwrap_or_default();
            sandbox::stage_main(&arranged.to_string_lossy())
        }
        _ => netra::cli::main(std::env::args_os()),
    }
}
