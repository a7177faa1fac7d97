//! What the supervisor of a sandbox says to the server: one line of JSON each, on its standard error.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::policy::{Layers, Tier};

/// How long a line may wait for a server that does not listen.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The program runs, and this holds it.
    Started(Layers),
    /// It does not run, because no more than this would hold it.
    TooWeak { found: Tier, required: Tier },
    /// It could not be run.
    Failed(String),
    /// It has written this to its standard error.
    Said(String),
    /// It has ended, nothing of it runs any more and its folder is gone.
    Ended(Ended),
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Why.
    pub reason: Reason,
    /// The most memory that was seen, in bytes.
    pub peak_bytes: u64,
}

/// Why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// By itself, with this code; 128 and more: by that signal.
    Exited(u8),
    /// Its time was over.
    Time,
    /// It took more memory than it may have.
    Memory,
    /// It wrote more than it may.
    Disk,
    /// It started more processes than it may.
    Processes,
    /// The server wanted it to end, or is gone.
    Stopped,
}

impl Ended {
    /// By the server's wish, as far as is known.
    pub(crate) const STOPPED: Ended = Ended {
        reason: Reason::Stopped,
        peak_bytes: 0,
    };
}

impl Report {
    /// Says it on standard error, once there is room. Nobody may be left to hear it, which is no matter.
    pub(crate) fn tell(&self) {
        let mut stderr = io::stderr();
        let Ok(mut line) = serde_json::to_vec(self) else {
            return;
        };
        line.push(b'\n');
        let mut rest = &line[..];
        while !rest.is_empty() {
            match stderr.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let fd = stderr.as_fd();
                    let mut room = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                    if !matches!(poll(&mut room, Some(&PATIENCE)), Ok(1..)) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }
}
