//! Where things are in the repository, and which files of it are ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Folders that hold what was built, fetched or written by a running server.
const NOT_SOURCE: [&str; 6] = [
    "target",
    "node_modules",
    ".git",
    "dist",
    "netra-data",
    "coverage",
];

/// The repository that this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The folder above xtask. It is known from the build, so the door opens from any folder.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask has no folder above it")?;
        if !root.join("Cargo.toml").is_file() {
            bail!(
                "{} is gone: the repository was moved, build again",
                root.display()
            );
        }
        Ok(Self::at(root))
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// One of a test, with these files.
    #[cfg(test)]
    pub(crate) fn with_files(root: &Path, files: &[(&str, &str)]) -> Self {
        let workspace = Self::at(root);
        for (path, text) in files {
            let path = workspace.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        workspace
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    pub(crate) fn read(&self, relative: &str) -> Result<String> {
        let path = self.path(relative);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Files with this ending under `folder`, as sorted paths relative to the root. A folder that
    /// does not exist has no files.
    pub(crate) fn files(&self, folder: &str, ending: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.collect(&self.path(folder), ending, &mut found)?;
        found.sort();
        Ok(found)
    }

    fn collect(&self, folder: &Path, ending: &str, found: &mut Vec<String>) -> Result<()> {
        if !folder.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !NOT_SOURCE.iter().any(|skipped| name == *skipped) {
                    self.collect(&entry.path(), ending, found)?;
                }
            } else if kind.is_file() && name.to_string_lossy().ends_with(ending) {
                let path = entry.path();
                let relative = path.strip_prefix(&self.root)?;
                found.push(relative.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }

    /// Names of the folders in `folder`, sorted.
    pub(crate) fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.path(folder);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_or_fetched_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in [
            "a/src/lib.rs",
            "a/target/x.rs",
            "a/node_modules/p/y.rs",
            "a/notes.md",
        ] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), "").unwrap();
        }
        let workspace = Workspace::at(root);
        assert_eq!(workspace.files("a", ".rs").unwrap(), ["a/src/lib.rs"]);
        assert_eq!(workspace.files("absent", ".rs").unwrap(), [""; 0]);
        assert_eq!(
            workspace.folders("a").unwrap(),
            ["node_modules", "src", "target"]
        );
    }

    #[test]
    fn the_door_knows_its_house() {
        assert!(
            Workspace::find()
                .unwrap()
                .path("xtask/Cargo.toml")
                .is_file()
        );
    }
}
