//! The allocator's part in a worker process: a hard limit, counted exactly, that ends the process.
//!
//! A worker runs what is not trusted, and there it is right to end the process: nobody else lives in it. Once armed,
//! every block is counted in one counter that the interpreter in the worker may read too, and an allocation beyond
//! the limit ends the process with a code by which the parent knows why.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ledger::Tag;

/// Marks blocks that were allocated after arming. No account can have this line.
pub(crate) const TAG: Tag = Tag::from_bits(u64::MAX);

struct Armed {
    live: &'static AtomicUsize,
    exit_code: i32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Why a worker could not be armed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program does not use [`crate::Allocator`], so that no limit would hold.
    #[error("the accounting allocator is not the global allocator of this program")]
    NotInstalled,
    /// Arming can happen once in the life of a process.
    #[error("the worker is armed already")]
    Armed,
    /// SQLite is in use already, so that its memory cannot be counted any more.
    #[error("the memory of SQLite cannot be counted: it is in use already")]
    SqliteInUse,
}

/// Counts every block allocated from now on in `live`, and ends the process with `exit_code` when the limit is
/// passed or the system has no more memory. There is no way back: only a worker process may call this.
pub fn arm(live: &'static AtomicUsize, exit_code: i32) -> Result<(), Error> {
    ARMED
        .set(Armed { live, exit_code })
        .map_err(|_| Error::Armed)?;
    let before = live.load(Ordering::Relaxed);
    let probe = std::hint::black_box(Box::new([0_u8; 40]));
    let counted = live.load(Ordering::Relaxed) != before;
    drop(probe);
    if counted {
        Ok(())
    } else {
        Err(Error::NotInstalled)
    }
}

/// Lets SQLite take its memory from Rust's global allocator, so that it is counted and limited like all else. Before
/// anything is asked of SQLite.
pub fn count_sqlite() -> Result<(), Error> {
    if crate::sqlite::count() {
        Ok(())
    } else {
        Err(Error::SqliteInUse)
    }
}

/// Sets the limit, in live bytes of the whole process counted since arming; `usize::MAX` for none.
pub fn set_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Live bytes of this process, counted since arming; 0 when it is not armed.
pub fn live_bytes() -> usize {
    ARMED
        .get()
        .map_or(0, |armed| armed.live.load(Ordering::Relaxed))
}

/// Whether this process counts as a worker.
pub fn is_armed() -> bool {
    ARMED.get().is_some()
}

/// Closes every descriptor that the process was started with, but for standard input, output and error: whoever
/// started the server may have left some open, and none of them is a worker's business. Not about memory, but it is
/// here because nothing in the program owns those descriptors, so that closing them takes `unsafe`.
///
/// Only for the very beginning of a worker process: later it would close what the program itself has opened.
pub fn close_inherited() -> std::io::Result<()> {
    // SAFETY: the call takes three numbers. A worker has opened nothing itself when it calls this.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Counts a new block if this process is a worker, and ends the process if that is too much.
#[inline]
pub(crate) fn charge(bytes: usize) -> bool {
    let Some(armed) = ARMED.get() else {
        return false;
    };
    let live = armed
        .live
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if live > LIMIT.load(Ordering::Relaxed) {
        end(armed);
    }
    true
}

/// Counts a change in the size of a block that was allocated after arming.
#[inline]
pub(crate) fn change(delta: i64) {
    if let Ok(bytes) = usize::try_from(delta) {
        charge(bytes);
    } else if let Some(armed) = ARMED.get() {
        armed
            .live
            .fetch_sub(delta.unsigned_abs() as usize, Ordering::Relaxed);
    }
}

/// The system has refused memory: in a worker that ends the process like the limit does.
#[cold]
pub(crate) fn refused() {
    if let Some(armed) = ARMED.get() {
        end(armed);
    }
}

/// Ends the process at once: no destructor, no buffer and no panic, all of which could allocate.
#[cold]
#[inline(never)]
fn end(armed: &Armed) -> ! {
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(armed.exit_code) }
}
