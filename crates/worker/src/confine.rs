//! What a worker process does to itself before it touches anything that is not trusted.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use monty_types::{BASELINE_MEMORY, LIVE_MEMORY, OOM_EXIT_CODE};
use rustix::process::{Resource, Rlimit, getpriority_process, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::sandbox::{files, syscalls};

/// Room above the limit at which the interpreter stops a script by itself, so that it can word the error.
const HEADROOM_BYTES: u64 = 4 << 20;
/// Mappings beyond live bytes: fragments, caches of the allocator, stacks.
const MAPPING_SLACK_BYTES: u64 = 64 << 20;
/// Stack of the thread that works. Deep data and deep calls need it; untouched pages cost nothing.
const STACK_BYTES: usize = 64 << 20;
/// Processor time beyond the limit on computing, before the kernel ends a worker whose server is gone.
const CPU_SLACK: Duration = Duration::from_secs(3);

/// How far a worker stands back for whoever else wants the processor. The server hands work on and waits; it must
/// not wait for a computation to have used up its turn.
pub(crate) const STANDS_BACK: i32 = 10;

/// Lets this thread, and whatever it starts, stand back for the server.
///
/// A lower priority alone does not do: the kernel lets a computation use up its turn now and then, and whoever wakes
/// up beside it waits for some milliseconds. So the server's turns are short ([`netra_memory::take_turns_of`]) and
/// these are not, and one processor stays the server's own, where there are several.
pub(crate) fn stand_back() -> io::Result<()> {
    rustix::process::nice(STANDS_BACK)?;
    netra_memory::take_turns_of(None)?;
    let mut processors = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|processor| processors.is_set(*processor));
    if let Some(first) = first.filter(|_| processors.count() > 1) {
        processors.unset(first);
        sched_setaffinity(None, &processors)?;
    }
    Ok(())
}

/// What a confined worker can still do to itself.
#[derive(Debug)]
pub(crate) struct Confined {
    /// Opened while files could be opened.
    status: File,
}

/// Gives up what a worker never needs, and begins to count its memory: it keeps the descriptors that it was started
/// with, and can read these files and no other. A worker that cannot do this must not work.
///
/// Only while the process has one thread: the others would keep what this one gives up.
pub(crate) fn confine(files: &[PathBuf]) -> io::Result<Confined> {
    netra_memory::worker::close_inherited()?;
    rustix::thread::set_no_new_privs(true)?;
    // It has started so; where the server's thread could not stand back, this does.
    if getpriority_process(None)? < STANDS_BACK {
        setpriority_process(None, STANDS_BACK)?;
    }
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    let status = File::open("/proc/self/status")?;
    let readable = files::Allowed {
        read: files.to_vec(),
        ..files::Allowed::default()
    };
    // Where the kernel has no Landlock, `netra doctor` says what follows from it.
    files::restrict(&readable).map_err(io::Error::other)?;
    let calls = syscalls::Allowed {
        open: !files.is_empty(),
        ..syscalls::Allowed::default()
    };
    syscalls::restrict(calls).map_err(io::Error::other)?;
    netra_memory::worker::arm(&LIVE_MEMORY, OOM_EXIT_CODE).map_err(io::Error::other)?;
    Ok(Confined { status })
}

impl Confined {
    /// Limits this process's memory, beyond what it has now, and ends the process when more is taken.
    pub(crate) fn limit_memory(&mut self, bytes: u64) -> io::Result<()> {
        let baseline = netra_memory::worker::live_bytes();
        BASELINE_MEMORY.store(baseline, Ordering::Relaxed);
        let hard = (baseline as u64)
            .saturating_add(bytes)
            .saturating_add(HEADROOM_BYTES);
        netra_memory::worker::set_limit(usize::try_from(hard).unwrap_or(usize::MAX));
        // The kernel's limit is only a backstop, for what does not come from our allocator: a growing block may exist
        // twice while it moves, hence the factor.
        let mut status = String::new();
        self.status.read_to_string(&mut status)?;
        let ceiling = status_bytes(&status, "VmData:")
            .saturating_add(bytes.saturating_mul(2))
            .saturating_add(MAPPING_SLACK_BYTES);
        set(Resource::Data, ceiling)
    }
}

/// Lets a snapshot be written even by a script that has used up its memory: it is a copy of what is there.
pub(crate) fn allow_snapshot(bytes: u64) {
    let live = netra_memory::worker::live_bytes() as u64;
    let hard = live
        .saturating_add(bytes.saturating_mul(2))
        .saturating_add(HEADROOM_BYTES);
    netra_memory::worker::set_limit(usize::try_from(hard).unwrap_or(usize::MAX));
}

/// Limits the processor time of this process, so that it ends even if nobody is left to kill it.
pub(crate) fn limit_processor(time: Duration) -> io::Result<()> {
    let seconds = time.saturating_add(CPU_SLACK).as_secs();
    // At the lower of the two the process gets a signal of its own, by which the server knows why it ended.
    let limit = Rlimit {
        current: Some(seconds),
        maximum: Some(seconds.saturating_add(1)),
    };
    setrlimit(Resource::Cpu, limit).map_err(io::Error::from)
}

/// Runs the worker's whole work on a thread with a large stack. `None` when it panicked.
pub(crate) fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(work)?;
    Ok(thread.join().ok())
}

/// One line of a process's status file that ends in kB, in bytes; 0 when it is not there.
pub(crate) fn status_bytes(status: &str, field: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        .saturating_mul(1024)
}

pub(crate) fn set(resource: Resource, value: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    setrlimit(resource, limit).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_in_bytes() {
        let status = "Name:\tnetra\nVmData:\t  2048 kB\nRssAnon:\t     12 kB\n";
        assert_eq!(status_bytes(status, "VmData:"), 2048 * 1024);
        assert_eq!(status_bytes(status, "RssAnon:"), 12 * 1024);
        assert_eq!(status_bytes(status, "VmSwap:"), 0);
    }
}
