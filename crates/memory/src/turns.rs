//! How long a thread's turns at a processor are.
//!
//! Not about memory, but it is here because no library offers the call, so that it takes `unsafe`.

use std::io;
use std::mem::size_of;
use std::time::Duration;

/// `struct sched_attr` of Linux, in its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for turns of this length for the calling thread and for all that it starts from now on; none: what the
/// system gives to everybody.
///
/// Whoever asks for short turns gets no more of the processor than before, but gets it sooner when it wakes up: it
/// does not wait for the longer turn of another to end. Linux knows this since 6.12 (`sched_attr::sched_runtime` of
/// `SCHED_OTHER`, between 0.1 and 100 ms); before that, it changes nothing.
///
/// # Errors
/// What the system says, where it refuses.
pub fn take_turns_of(length: Option<Duration>) -> io::Result<()> {
    let mut attributes = attributes()?;
    let nanoseconds = length.map_or(0, |length| length.as_nanos());
    attributes.runtime = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
    // SAFETY: the system reads the struct, whose size stands in it; 0 is the calling thread.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0_u32) })
}

/// What holds for the calling thread.
fn attributes() -> io::Result<Attributes> {
    let size = size_of::<Attributes>();
    let mut attributes = Attributes::default();
    // SAFETY: the system writes at most `size` bytes into the struct, which is as large; 0 is the calling thread.
    checked(unsafe {
        libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0_u32)
    })?;
    Ok(attributes)
}

fn checked(outcome: libc::c_long) -> io::Result<()> {
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that knows turns tells how long they are; one that does not leaves the field as it was.
    fn turns() -> u64 {
        attributes().unwrap().runtime
    }

    #[test]
    fn a_thread_takes_short_turns_and_so_do_those_that_it_starts_until_it_is_taken_back() {
        let thread = std::thread::spawn(|| {
            let before = turns();
            take_turns_of(Some(Duration::from_micros(100))).unwrap();
            let short = turns();
            let child = std::thread::spawn(turns).join().unwrap();
            take_turns_of(None).unwrap();
            (before, short, child, turns())
        });
        let (before, short, child, after) = thread.join().unwrap();
        assert_eq!(before, after);
        if before != 0 {
            assert_eq!((short, child), (100_000, 100_000));
        }
    }
}
