//! The folder that a program has for itself: made before it, measured while it runs, gone after it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::order::about_path;
use super::tree;

/// How many times longer than a measurement nothing is measured, so that it takes a small share of the time.
const REST: u32 = 10;

/// A program's own folder. Dropping this removes it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// When it is time to measure again.
    next: Instant,
}

impl Folder {
    /// Makes it for its user alone.
    pub(crate) fn create(path: PathBuf, uid: Option<u32>) -> io::Result<Folder> {
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(about_path(&path))?;
        let next = Instant::now();
        let folder = Folder { path, next };
        if uid.is_some() {
            std::os::unix::fs::chown(&folder.path, uid, uid)?;
        }
        Ok(folder)
    }

    /// Whether there is more in it than this, counting what these processes have open and removed. What cannot be
    /// looked into counts as too much.
    pub(crate) fn is_over(&mut self, bytes: u64, processes: &[u32]) -> bool {
        let begun = Instant::now();
        if begun < self.next {
            return false;
        }
        let inside = size(&self.path, bytes).unwrap_or(u64::MAX);
        let removed = processes
            .iter()
            .map(|process| tree::removed_bytes(*process));
        let total = removed.fold(inside, u64::saturating_add);
        let took = begun.elapsed().min(Duration::from_secs(1));
        self.next = Instant::now() + took * REST;
        total > bytes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            unlock(&self.path);
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// Bytes on the disk below this folder; counted no further than needed to see that they are too many.
fn size(folder: &Path, enough: u64) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed since its parent was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let Ok(metadata) = entry
                .as_ref()
                .map_err(drop)
                .and_then(|entry| entry.metadata().map_err(drop))
            else {
                continue;
            };
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if bytes > enough {
                return Ok(bytes);
            }
            if let (true, Ok(entry)) = (metadata.is_dir(), entry) {
                open.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

/// Opens folders that the program has locked. Only when nothing of it runs any more.
fn unlock(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o700)).ok();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_measured_and_goes_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("one");
        let mut folder = Folder::create(path.clone(), None).unwrap();
        assert!(
            Folder::create(path.clone(), None).is_err(),
            "never one twice"
        );
        fs::create_dir_all(path.join("deep/er")).unwrap();
        assert!(!folder.is_over(100_000, &[]));
        fs::write(path.join("deep/er/file"), vec![1; 200_000]).unwrap();
        folder.next = Instant::now();
        assert!(folder.is_over(100_000, &[]));
        fs::set_permissions(path.join("deep"), Permissions::from_mode(0o000)).unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
