//! Where foreign programs get folders of their own.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netra_context::Runtime;

use crate::config::Config;

/// What the names of such folders begin with.
const PREFIX: &str = "netra-";
/// A folder that is younger may be one whose server has not locked it yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder of one server, not in its data folder: where the server is root, programs are users of
/// their own, who must get through. Dropping it removes it; what a killed server has left, the next one removes.
pub(crate) struct Temp {
    path: PathBuf,
    /// Locked as long as its server is there.
    _lock: File,
}

impl Temp {
    /// Where the configuration wants them; none where it has no tool servers.
    pub(crate) fn for_servers(config: &Config, runtime: &Runtime) -> io::Result<Option<Self>> {
        if config.mcp.servers.is_empty() {
            return Ok(None);
        }
        remove_left(&config.sandbox.temp, YOUNG);
        Self::new(runtime, &config.sandbox.temp).map(Some)
    }

    fn new(runtime: &Runtime, above: &Path) -> io::Result<Self> {
        let number = u64::from_le_bytes(runtime.secret_bytes());
        let path = above.join(format!("{PREFIX}{number:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        // Whatever the process's mask is.
        std::fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        let lock = File::open(&path)?;
        lock.try_lock().map_err(io::Error::other)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a folder is left");
        }
    }
}

/// Removes the folders that no server has any more: of this user, and at least so old.
fn remove_left(above: &Path, age: Duration) {
    let entries = std::fs::read_dir(above).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(is_name)) {
        let path = entry.path();
        match is_left(&path, age) {
            Ok(true) => {}
            Ok(false) | Err(_) => continue,
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "what a killed server left is removed")
            }
            Err(error) => tracing::warn!(path = %path.display(), %error, "a folder is left"),
        }
    }
}

fn is_name(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX);
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_left(path: &Path, age: Duration) -> io::Result<bool> {
    // Not what a link leads to: everybody may make one here.
    let found = std::fs::symlink_metadata(path)?;
    let own = rustix::process::geteuid().as_raw();
    let old = found.modified()?.elapsed().unwrap_or_default() >= age;
    if !found.is_dir() || found.uid() != own || !old {
        return Ok(false);
    }
    Ok(File::open(path)?.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_leaves_a_folder_until_the_next_one_starts() {
        let above = tempfile::tempdir().unwrap();
        let runtime = Runtime::new();
        let here = Temp::new(&runtime, above.path()).unwrap();
        let killed = Temp::new(&runtime, above.path()).unwrap();
        std::fs::write(killed.path().join("file"), "x").unwrap();
        let left = killed.path().to_owned();
        // As the kernel does for a killed process: the lock is gone, the folder is not.
        let Temp { path, _lock: lock } = &killed;
        lock.unlock().unwrap();
        assert_eq!(path, &left);
        let foreign = above.path().join("netra-notes");
        std::fs::create_dir(&foreign).unwrap();

        remove_left(above.path(), YOUNG);
        assert!(left.exists(), "it may be one that is being made");
        remove_left(above.path(), Duration::ZERO);
        assert!(!left.exists() && here.path().exists() && foreign.exists());
    }
}
