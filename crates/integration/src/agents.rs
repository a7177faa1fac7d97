//! Agents of tests.

use std::path::Path;

use anyhow::Result;

/// Writes a scripted agent into the folder of agents `dir`: further lines of its manifest, and its code.
///
/// # Errors
/// When it cannot be written.
pub fn script(dir: &Path, name: &str, manifest: &str, code: &str) -> Result<()> {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder)?;
    let head = "description = \"of a test\"\nkind = \"script\"\nscript = \"agent.py\"\n";
    std::fs::write(folder.join("agent.toml"), format!("{head}{manifest}"))?;
    std::fs::write(folder.join("agent.py"), code)?;
    Ok(())
}
