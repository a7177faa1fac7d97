//! Where foreign programs get folders of their own.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use netra_context::Runtime;

use crate::config::Config;

/// A folder of one server, not in its data folder: where the server is root, programs are users of
/// their own, who must get through. Dropping it removes it.
pub(crate) struct Temp(PathBuf);

impl Temp {
    /// Where the configuration wants them; none where it has no tool servers.
    pub(crate) fn for_servers(config: &Config, runtime: &Runtime) -> io::Result<Option<Self>> {
        if config.mcp.servers.is_empty() {
            return Ok(None);
        }
        Self::new(runtime, &config.sandbox.temp).map(Some)
    }

    fn new(runtime: &Runtime, above: &Path) -> io::Result<Self> {
        let number = u64::from_le_bytes(runtime.secret_bytes());
        let path = above.join(format!("netra-{number:016x}"));
        DirBuilder::new().mode(0o700).create(&path)?;
        // Whatever the process's mask is.
        std::fs::set_permissions(&path, Permissions::from_mode(0o711))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "a folder is left");
        }
    }
}
