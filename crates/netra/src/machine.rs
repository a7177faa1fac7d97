//! How much memory this machine has for the server: its own, or what a control group leaves of it.

use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;

/// The memory that this process may use, in MiB: the machine's, or the least that a control group around the process
/// allows. None where the system does not tell.
pub(crate) fn memory_mib() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.as_deref().and_then(total_mib);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = limits_of(&groups)
        .into_iter()
        .filter_map(|file| {
            std::fs::read_to_string(file)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|bytes| bytes / MIB);
    allowed.chain(machine).min()
}

fn total_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// The files in which the process's control groups, and those around them, say how much memory they allow: those of
/// version 2, whose line is `0::/path`, and those of version 1, whose line names the controller.
fn limits_of(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(
            group
                .ancestors()
                .map(|at| Path::new(root).join(at).join(name)),
        );
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        assert!(memory_mib().unwrap() > 0);
        assert_eq!(total_mib("MemFree: 1 kB\nMemTotal:    2048 kB\n"), Some(2));
    }

    #[test]
    fn the_limits_of_all_groups_around_the_process_count() {
        let shown = |groups: &str| -> Vec<String> {
            let files = limits_of(groups);
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect()
        };
        assert_eq!(
            shown("0::/system.slice/netra.service\n"),
            [
                "/sys/fs/cgroup/system.slice/netra.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            shown("5:cpu,cpuacct:/a\n4:memory:/b\n"),
            [
                "/sys/fs/cgroup/memory/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert_eq!(shown("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }
}
