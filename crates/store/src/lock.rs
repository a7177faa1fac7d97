//! The lock of a data folder: one server per folder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use crate::error::Error;

/// How often a lock that is held is tried, and the time between. A server that is killed while it
/// starts a worker leaves its lock to that child, until the child has become another program.
const TRIES: u32 = 25;
const BETWEEN: Duration = Duration::from_millis(20);

/// Held by the server of a data folder; let go when dropped or when the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the folder's lock, and makes the folder where it is absent.
    ///
    /// # Errors
    /// `InUse` when another process holds it; `Unavailable` when the folder cannot be written.
    pub fn take(dir: &Path) -> Result<Self, Error> {
        Self::take_with(dir, || std::thread::sleep(BETWEEN))
    }

    /// Whether somebody holds the folder's lock at this moment. Neither waits nor makes anything,
    /// and those who ask do not take each other for the holder. A server that wants the lock in the
    /// same moment tries again.
    #[must_use]
    pub fn is_held(dir: &Path) -> bool {
        let asked = File::open(dir.join("lock")).map(|file| file.try_lock_shared());
        matches!(asked, Ok(Err(std::fs::TryLockError::WouldBlock)))
    }

    fn take_with(dir: &Path, mut pause: impl FnMut()) -> Result<Self, Error> {
        make_private_dir(dir)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|error| at(dir, &error))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(std::fs::TryLockError::WouldBlock) => pause(),
                Err(std::fs::TryLockError::Error(error)) => return Err(at(dir, &error)),
            }
        }
        Err(Error::InUse {
            dir: dir.display().to_string(),
        })
    }
}

fn at(path: &Path, error: &std::io::Error) -> Error {
    Error::Unavailable(format!("{}: {error}", path.display()))
}

/// Makes a folder that only this user may enter.
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| at(dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirLock::take(dir.path()).unwrap();
        assert!(matches!(
            DirLock::take(dir.path()),
            Err(Error::InUse { .. })
        ));
        drop(held);
        assert!(DirLock::take(dir.path()).is_ok());
    }

    #[test]
    fn to_ask_for_a_holder_does_not_make_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!DirLock::is_held(dir.path()));
        assert!(!dir.path().join("lock").exists());
        let held = DirLock::take(dir.path()).unwrap();
        assert!(DirLock::is_held(dir.path()));
        drop(held);
        let other = File::open(dir.path().join("lock")).unwrap();
        other.lock_shared().unwrap();
        assert!(!DirLock::is_held(dir.path()), "another one who asks");
    }

    #[test]
    fn a_server_that_starts_right_after_a_kill_gets_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut held = Some(DirLock::take(dir.path()).unwrap());
        // The killed server's child becomes another program.
        let taken = DirLock::take_with(dir.path(), || drop(held.take()));
        assert!(taken.is_ok());
    }
}
