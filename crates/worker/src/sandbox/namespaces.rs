//! Namespaces: what a program cannot see, it cannot reach.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{getegid, geteuid};
use serde::{Deserialize, Serialize};

use super::policy::{Limits, Network};

/// The most files in a program's own folder where that is a file system of its own.
const MOST_FILES: u64 = 65_536;

/// New namespaces that a process is in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// The user and group that made a user namespace too, and are root in it.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Gives all processes that this one starts namespaces of their own, as far as this machine lets it. The first of
/// them must be the only one, and ends all others with itself. `None` when the machine does not.
pub(crate) fn enter(network: Network) -> io::Result<Option<Namespaces>> {
    let mut wanted = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if network == Network::None {
        wanted |= CloneFlags::CLONE_NEWNET;
    }
    if geteuid().is_root() {
        return Ok(unshare(wanted)
            .is_ok()
            .then_some(Namespaces { owner: None }));
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if unshare(wanted | CloneFlags::CLONE_NEWUSER).is_err() {
        return Ok(None);
    }
    map("0", &uid.to_string(), "0", &gid.to_string())?;
    let owner = Some((uid, gid));
    Ok(Some(Namespaces { owner }))
}

/// Becomes who made the user namespace, who has no rights in it, by one more of them: programs behave otherwise when
/// they see that they are root.
pub(crate) fn leave_root((uid, gid): (u32, u32)) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    map(&uid.to_string(), "0", &gid.to_string(), "0")
}

fn map(uid: &str, outer_uid: &str, gid: &str, outer_gid: &str) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {outer_gid} 1"))
}

/// Makes the mounts of the first process of the namespaces: its own folder, which vanishes with it, and a `/proc` that
/// shows what is in the namespace. Where the latter is not allowed, `false`, and the old one stays.
pub(crate) fn arrange(folder: &Path, limits: &Limits, uid: Option<u32>) -> io::Result<bool> {
    const NONE: Option<&str> = None;
    // In a user namespace its owner is root.
    let uid = uid.unwrap_or(0);
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NONE, "/", NONE, private, NONE)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!(
        "size={},nr_inodes={MOST_FILES},mode=0700,uid={uid},gid={uid}",
        limits.disk_bytes
    );
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        plain,
        Some(options.as_str()),
    )?;
    let proc = plain | MsFlags::MS_NOEXEC;
    Ok(mount(Some("proc"), "/proc", Some("proc"), proc, NONE).is_ok())
}
