//! The binary `netra`: a worker where its first argument says so, else the command line.

use std::process::ExitCode;

use netra_worker::{ANALYSIS_ARGUMENT, InputFile, JobError, SCRIPT_ARGUMENT};
use serde_json::Value;

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
        Some(ANALYSIS_ARGUMENT) => netra_worker::analysis_main(analyse),
        _ => netra::cli::main(std::env::args_os()),
    }
}

/// The analyses as the worker calls them.
fn analyse(
    op: &str,
    arguments: Value,
    inputs: &[InputFile],
    progress: &mut dyn FnMut(f32, &str),
) -> Result<Value, JobError> {
    let inputs: Vec<_> = inputs
        .iter()
        .map(|input| netra_analytics::jobs::InputFile {
            name: input.name.clone(),
            media_type: input.media_type.clone(),
            path: input.path.clone(),
        })
        .collect();
    netra_analytics::jobs::run(op, arguments, &inputs, progress).map_err(|error| JobError {
        code: code(error.code).to_owned(),
        message: error.message,
        details: None,
    })
}

/// As it stands on the wire.
const fn code(code: netra_analytics::Code) -> &'static str {
    use netra_analytics::Code;
    match code {
        Code::InvalidInput => "invalid_input",
        Code::UnreadableFile => "unreadable_file",
        Code::UnknownOperation => "unknown_operation",
        Code::Internal => "internal",
    }
}
