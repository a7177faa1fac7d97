//! The lock of a data folder: one server per folder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::Error;

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
        make_private_dir(dir)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(|error| at(dir, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse {
                dir: dir.display().to_string(),
            }),
            Err(std::fs::TryLockError::Error(error)) => Err(at(dir, &error)),
        }
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
}
