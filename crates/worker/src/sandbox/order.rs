//! What the server says to the supervisor of a sandbox.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::namespaces::Namespaces;
use super::policy::{Policy, Tier};

/// The longest order, in bytes.
const MAX_ORDER: usize = 1 << 20;

/// In front of what the program will read from its standard input, and twice: the supervisor reads it and, in a
/// process of its own, what becomes the program. So no secret in it stands in anybody's arguments or environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) policy: Policy,
    /// The server's process; the sandbox ends with it.
    pub(crate) server: u32,
    /// Where the program's own folder is made.
    pub(crate) temp: PathBuf,
    /// The name of that folder, and of the cgroup.
    pub(crate) name: String,
    /// The user and group to become.
    pub(crate) uid: Option<u32>,
    /// A folder of cgroup v2 that was delegated to the server.
    pub(crate) cgroup: Option<PathBuf>,
    /// Less than this is an error.
    pub(crate) require: Tier,
    /// In place of the program: try to get out.
    pub(crate) trial: bool,
    /// What must not be used, though the machine has it.
    pub(crate) without: Without,
}

/// Layers that are left out, so that it can be seen what the others hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "any of them, each by itself")]
pub struct Without {
    /// No namespaces.
    pub namespaces: bool,
    /// No Landlock.
    pub landlock: bool,
    /// No seccomp.
    pub seccomp: bool,
    /// No limits of the kernel for each process.
    pub rlimits: bool,
    /// Nobody watches what all processes use together.
    pub watchdog: bool,
    /// No other user where the server is root.
    pub uid: bool,
}

impl Without {
    /// All layers.
    pub const NOTHING: Without = Without {
        namespaces: false,
        landlock: false,
        seccomp: false,
        rlimits: false,
        watchdog: false,
        uid: false,
    };
}

/// What the supervisor has arranged, told to what becomes the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arranged {
    /// The new namespaces whose first process it is.
    pub(crate) namespaces: Option<Namespaces>,
    /// Where it writes `0` to be in its cgroup.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Order {
    /// The program's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.temp.join(&self.name)
    }

    /// As it goes over the line: its length, then itself.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let length = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_ORDER);
        let length = length.ok_or_else(|| io::Error::other("the order is too large"))?;
        Ok([&length.to_le_bytes()[..], &body].concat())
    }

    /// Reads an order off standard input and not one byte of what follows it.
    pub(crate) fn receive() -> io::Result<Order> {
        let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_ORDER {
            return Err(io::Error::other("not an order"));
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

/// An error that says what it is about.
pub(crate) fn about(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// The same for a path.
pub(crate) fn about_path(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    about(path.display())
}
