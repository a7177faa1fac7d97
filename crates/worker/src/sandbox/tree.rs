//! A process and all that descends from it, as `/proc` shows them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use crate::confine::status_bytes;

/// What some processes use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) processes: u64,
    pub(crate) memory_bytes: u64,
    /// Of them and of the children that they have waited for.
    pub(crate) processor: Duration,
}

/// In what `/proc` counts processor time: hundredths of a second, whatever the kernel's own clock has.
const TICK: Duration = Duration::from_millis(10);

/// The processes that descend from this one, which itself is not among them.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut found: Vec<u32> = children(of);
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        found.extend(children(process));
        next += 1;
    }
    found
}

/// What these processes use: memory that is their own, swapped out or not, and the largest piece of shared memory.
pub(crate) fn usage(processes: &[u32]) -> Usage {
    let mut usage = Usage::default();
    let mut shared = 0;
    for process in processes {
        // Gone since it was listed: it uses nothing any more.
        let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else {
            continue;
        };
        usage.processes += 1;
        usage.memory_bytes += status_bytes(&status, "RssAnon:") + status_bytes(&status, "VmSwap:");
        shared = shared.max(status_bytes(&status, "RssShmem:"));
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        usage.processor += processor_time(&stat);
    }
    usage.memory_bytes += shared;
    usage
}

/// The four times of a line of `/proc/*/stat`; the name in it may have spaces and brackets.
fn processor_time(stat: &str) -> Duration {
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_ascii_whitespace().skip(11).take(4);
    let ticks: u32 = times.filter_map(|time| time.parse::<u32>().ok()).sum();
    TICK.saturating_mul(ticks)
}

/// Bytes that are this process's alone.
pub(crate) fn own_bytes(process: u32) -> u64 {
    fs::read_to_string(format!("/proc/{process}/status"))
        .map_or(0, |status| status_bytes(&status, "RssAnon:"))
}

/// Bytes in files that a process has open and that have no name any more.
pub(crate) fn removed_bytes(process: u32) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|descriptor| fs::metadata(descriptor.path()).ok())
        .filter(|file| file.is_file() && file.nlink() == 0)
        .map(|file| file.blocks().saturating_mul(512))
        .fold(0, u64::saturating_add)
}

/// How many processes and threads a user has.
pub(crate) fn tasks_of(uid: u32) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| process.metadata().is_ok_and(|own| own.uid() == uid))
        .filter_map(|process| fs::read_dir(process.path().join("task")).ok())
        .map(|tasks| tasks.count() as u64)
        .sum()
}

fn children(of: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| numbers(&list))
        .collect()
}

fn numbers(list: &str) -> Vec<u32> {
    list.split_ascii_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processor_time_stands_behind_any_name() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194304 90 0 0 0 120 30 5 45 20 0 1 0 88 2 1 0";
        assert_eq!(processor_time(stat), Duration::from_secs(2));
        assert_eq!(processor_time(""), Duration::ZERO);
    }

    /// What a process shares with others is not its alone, however much of it it has touched; what it has made is.
    #[test]
    fn own_bytes_are_what_is_the_processs_alone() {
        const MIB: u64 = 1024 * 1024;
        let code = "import mmap, sys\n\
            shared = mmap.mmap(-1, 64 << 20)\n\
            shared.write(b'x' * (32 << 20))\n\
            own = b'' if sys.argv[1] == 'shared' else b'x' * (48 << 20)\n\
            print('there', flush=True)\n\
            sys.stdin.read()\n";
        let bytes = |what: &str| {
            let mut python = Command::new("python3")
                .args(["-c", code, what])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("python3 is needed");
            let mut line = [0; 5];
            python
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut line)
                .unwrap();
            let bytes = (own_bytes(python.id()), usage(&[python.id()]).memory_bytes);
            drop(python.stdin.take());
            python.wait().unwrap();
            bytes
        };
        let ((shared, with_shared), (own, _)) = (bytes("shared"), bytes("own"));
        assert!(shared < 32 * MIB, "{shared}");
        assert!(own >= shared + 47 * MIB, "{shared}, {own}");
        // A foreign program answers for what it shares too.
        assert!(with_shared >= 32 * MIB, "{with_shared}");
    }

    #[test]
    fn children_of_children_are_found_and_counted() {
        // The shell's child lives until its line closes, and the shell waits for it.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "cat; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        shell.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let below = descendants(shell.id());
        assert_eq!(below.len(), 1);
        assert!(descendants(std::process::id()).contains(&below[0]));
        let usage = usage(&below);
        assert_eq!(usage.processes, 1);
        assert!(usage.memory_bytes > 0);
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
