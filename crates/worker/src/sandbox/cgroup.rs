//! A cgroup v2 for one sandbox, below a folder that the operator has delegated.
//!
//! The kernel's own files, written as text; so a plain folder does for a test of what is written, though not of what
//! the kernel then does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::policy::Limits;

/// A cgroup. Dropping this ends all that is in it, and removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below `parent`, with the limits of the whole sandbox.
    pub(crate) fn create(parent: &Path, name: &str, limits: &Limits) -> io::Result<Cgroup> {
        // Where that is so already, or not allowed, the limits below show what follows.
        fs::write(parent.join("cgroup.subtree_control"), "+memory +pids").ok();
        let path = parent.join(name);
        fs::create_dir(&path)?;
        let cgroup = Cgroup { path };
        cgroup.set("memory.max", limits.memory_bytes)?;
        cgroup.set("memory.oom.group", 1)?;
        cgroup.set("pids.max", limits.processes)?;
        // Without swap there is no such file, and nothing to forbid.
        let swap = cgroup.path.join("memory.swap.max");
        if swap.exists() {
            fs::write(swap, "0")?;
        }
        Ok(cgroup)
    }

    /// Where a process writes `0` to move itself in.
    pub(crate) fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Whether the kernel has ended something in it for its memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        events
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count.trim() != "0")
    }

    /// Ends all that is in it.
    pub(crate) fn end_all(&self) {
        fs::write(self.path.join("cgroup.kill"), "1").ok();
    }

    fn set(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.path.join(file), value.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.end_all();
        fs::remove_dir(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_written_and_the_end_is_asked_for() {
        let parent = tempfile::tempdir().unwrap();
        let limits = Limits {
            memory_bytes: 1000,
            processes: 7,
            ..Limits::default()
        };
        let cgroup = Cgroup::create(parent.path(), "one", &limits).unwrap();
        let read = |file: &str| fs::read_to_string(parent.path().join("one").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1000");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(read("memory.oom.group"), "1");
        assert!(!cgroup.ran_out_of_memory());
        fs::write(
            parent.path().join("one/memory.events"),
            "oom 1\noom_kill 1\n",
        )
        .unwrap();
        assert!(cgroup.ran_out_of_memory());
        drop(cgroup);
        assert_eq!(read("cgroup.kill"), "1");
        assert!(
            Cgroup::create(parent.path(), "one", &limits).is_err(),
            "never one twice"
        );
    }
}
