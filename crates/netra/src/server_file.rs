//! `DIR/server.json`: the address of the server that holds a data folder.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "server.json";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFile {
    /// Such as `http://127.0.0.1:8080`.
    pub address: String,
    /// The server's process.
    pub pid: u32,
}

impl ServerFile {
    /// The one in this folder; none when there is none, or it cannot be read.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(dir.join(NAME)).ok()?).ok()
    }

    /// Removes the one that a killed server left behind. For whoever holds the folder's lock.
    pub fn remove_stale(dir: &Path) -> std::io::Result<()> {
        match std::fs::remove_file(dir.join(NAME)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes it for the life of the guard, readable by the owner only. A reader sees all of it or
    /// nothing.
    pub fn publish(&self, dir: &Path) -> std::io::Result<Published> {
        let path = dir.join(NAME);
        let new = dir.join(format!(".{NAME}.{}", self.pid));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.write_all(b"\n")?;
        std::fs::rename(&new, &path)?;
        Ok(Published { path })
    }
}

/// Removes the file on drop.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
}

impl Drop for Published {
    fn drop(&mut self) {
        // A file that stays behind is noticed by its reader: nobody answers at its address.
        std::fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_private_and_goes_with_its_guard() {
        let dir = tempfile::tempdir().unwrap();
        let file = ServerFile {
            address: "http://127.0.0.1:1".into(),
            pid: 7,
        };
        let published = file.publish(dir.path()).unwrap();
        assert_eq!(ServerFile::read(dir.path()), Some(file));
        let mode = std::fs::metadata(dir.path().join(NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(published);
        assert_eq!(ServerFile::read(dir.path()), None);
    }
}
