//! Puts the files of `agents/` into the program, so that every installation has them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let agents = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../../agents");
    // A folder that is named here is looked into as a whole.
    println!("cargo:rerun-if-changed={}", agents.display());
    let mut by_agent: BTreeMap<String, Vec<(String, PathBuf)>> = BTreeMap::new();
    for (name, path) in entries(&agents.canonicalize()?)? {
        if path.is_dir() {
            collect(&path, "", by_agent.entry(name).or_default())?;
        }
    }
    let code = code(&by_agent).map_err(io::Error::other)?;
    std::fs::write(PathBuf::from(variable("OUT_DIR")?).join("agents.rs"), code)
}

fn variable(name: &str) -> io::Result<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "how cargo speaks to build scripts"
    )]
    std::env::var(name).map_err(io::Error::other)
}

/// Names and paths in a folder, by name; hidden ones are left out.
fn entries(dir: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut entries = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.insert(name, entry.path());
        }
    }
    Ok(entries)
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for (name, path) in entries(dir)? {
        let below = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{below}/"), files)?;
        } else {
            files.push((below, path));
        }
    }
    Ok(())
}

fn code(by_agent: &BTreeMap<String, Vec<(String, PathBuf)>>) -> Result<String, std::fmt::Error> {
    let mut code = String::from("&[\n");
    for (agent, files) in by_agent {
        writeln!(code, "    EmbeddedAgent {{ name: {agent:?}, files: &[")?;
        for (name, path) in files {
            writeln!(code, "        ({name:?}, include_str!({path:?})),")?;
        }
        code.push_str("    ] },\n");
    }
    code.push_str("]\n");
    Ok(code)
}
