//! The hard limit of a worker ends its process, so this test has no harness: it starts itself as the worker.

use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicUsize;

use netra_memory::{Allocator, worker};

#[global_allocator]
static GLOBAL: Allocator = Allocator::new();
static LIVE: AtomicUsize = AtomicUsize::new(0);

const MIB: usize = 1 << 20;
/// The code by which the worker ends at its limit.
const AT_THE_LIMIT: i32 = 65;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("worker-within") => allocate(&[9, 9]),
        Some("worker-beyond") => allocate(&[9, 2]),
        Some("worker-absurd") => allocate(&[1 << 30]),
        _ => {
            check("worker-within", 0);
            check("worker-beyond", AT_THE_LIMIT);
            check("worker-absurd", AT_THE_LIMIT);
            ExitCode::SUCCESS
        }
    }
}

/// Starts this program in one of its other roles.
fn check(role: &str, expected: i32) {
    let program = std::env::current_exe().ok();
    let status = program.and_then(|program| Command::new(program).arg(role).status().ok());
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(expected),
        "{role}"
    );
}

/// Holds 9 MiB and frees them, then holds what is asked for, under a limit of 10 MiB. "Within" frees in between.
fn allocate(mebibytes: &[usize]) -> ExitCode {
    if worker::arm(&LIVE, AT_THE_LIMIT).is_err() {
        return ExitCode::FAILURE;
    }
    worker::set_limit(worker::live_bytes() + 10 * MIB);
    let mut held: Vec<Vec<u8>> = Vec::new();
    for mebibytes in mebibytes {
        if *mebibytes == 9 {
            held.clear();
        }
        held.push(vec![1; mebibytes * MIB]);
    }
    if held.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
