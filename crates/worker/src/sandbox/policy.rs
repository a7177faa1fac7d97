//! What a foreign program may do, and what a machine can hold it to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Files and folders of the system that most programs need and that tell nothing about its users.
pub const SYSTEM_FILES: [&str; 12] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/localtime",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
];

/// One program, and all that it may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment, but for `HOME` and `TMPDIR`, which are its own folder.
    pub environment: BTreeMap<String, String>,
    /// Files and folders that it may read and execute.
    pub read: Vec<PathBuf>,
    /// Files and folders that it may write too, besides its own folder.
    pub write: Vec<PathBuf>,
    /// Where it may connect to.
    pub network: Network,
    /// Whether it may use UNIX sockets with names, by which it would reach other programs of this machine.
    pub unix_sockets: bool,
    /// What it may use.
    pub limits: Limits,
}

/// Where a program may connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nowhere.
    #[default]
    None,
    /// Wherever this machine can.
    Internet,
}

/// What a program, with all that it starts, may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory that is its own, in bytes.
    pub memory_bytes: u64,
    /// Bytes in its folder, and in any one file that it writes elsewhere.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files of each process.
    pub files: u64,
    /// Processor time.
    pub processor: Duration,
    /// Time from its start; none: until it is stopped.
    pub time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes: 512 << 20,
            disk_bytes: 256 << 20,
            processes: 64,
            files: 256,
            processor: Duration::from_secs(600),
            time: None,
        }
    }
}

/// How much of a sandbox a machine gives, the least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Nothing that would hold a foreign program: none is started.
    #[default]
    None,
    /// Landlock, seccomp, limits of the kernel for each process, and a watchdog for all of them together.
    Basic,
    /// And namespaces: it sees no other process, no network and a folder that vanishes with it.
    Namespaces,
    /// And a cgroup: the kernel counts memory and processes of all of them together.
    Full,
}

impl Tier {
    /// As it is written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::None => "none",
            Tier::Basic => "basic",
            Tier::Namespaces => "namespaces",
            Tier::Full => "full",
        }
    }

    /// What a machine of this tier would have to give for a program to be started, where so much is required. With
    /// nothing that would hold one none is started, whatever is required.
    pub(crate) fn lacks(self, required: Tier) -> Option<Tier> {
        let least = required.max(Tier::Basic);
        (self < least).then_some(least)
    }
}

/// What holds one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// The version of Landlock; 0 without.
    pub landlock: u8,
    /// Whether calls of the kernel are filtered.
    pub seccomp: bool,
    /// Whether it has namespaces of its own for processes, mounts, network, IPC and names.
    pub namespaces: bool,
    /// Whether it has a cgroup of its own.
    pub cgroup: bool,
    /// The user that it runs as, where that is not the server's.
    pub uid: Option<u32>,
}

impl Layers {
    /// The tier that these make.
    pub fn tier(&self) -> Tier {
        match (
            self.landlock > 0 && self.seccomp,
            self.namespaces,
            self.cgroup,
        ) {
            (false, _, _) => Tier::None,
            (true, true, true) => Tier::Full,
            (true, true, false) => Tier::Namespaces,
            (true, false, _) => Tier::Basic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_needs_all_of_its_layers() {
        let all = Layers {
            landlock: 7,
            seccomp: true,
            namespaces: true,
            cgroup: true,
            uid: None,
        };
        let tier = |change: fn(&mut Layers)| {
            let mut layers = all;
            change(&mut layers);
            layers.tier()
        };
        assert_eq!(tier(|_| ()), Tier::Full);
        assert_eq!(tier(|layers| layers.cgroup = false), Tier::Namespaces);
        assert_eq!(tier(|layers| layers.namespaces = false), Tier::Basic);
        assert_eq!(tier(|layers| layers.seccomp = false), Tier::None);
        assert_eq!(tier(|layers| layers.landlock = 0), Tier::None);
        assert!(Tier::None < Tier::Basic && Tier::Namespaces < Tier::Full);
    }

    #[test]
    fn with_nothing_to_hold_it_no_program_is_started_and_with_less_than_is_required_neither() {
        use Tier::{Basic, Full, Namespaces, None as Nothing};
        for (found, required, lacks) in [
            (Nothing, Nothing, Some(Basic)),
            (Nothing, Basic, Some(Basic)),
            (Nothing, Full, Some(Full)),
            (Basic, Nothing, None),
            (Basic, Basic, None),
            (Basic, Namespaces, Some(Namespaces)),
            (Namespaces, Namespaces, None),
            (Namespaces, Full, Some(Full)),
            (Full, Full, None),
        ] {
            assert_eq!(found.lacks(required), lacks, "{found:?}, {required:?}");
        }
    }
}
