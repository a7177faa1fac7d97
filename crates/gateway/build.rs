//! Lists the files of `ui/dist` for embedding. It builds nothing: without the folder the list is
//! empty and the server says how to get the page.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?
        } else {
            found.push(path)
        }
    }
    Ok(())
}

fn variable(name: &str) -> Result<String, std::env::VarError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo tells a build script its folders this way only"
    )]
    std::env::var(name)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked when it runs: a folder that was written down when it was built may be that of another checkout.
    let dist = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("../../ui/dist");
    // An empty folder is what cargo can watch; where it cannot be made, this runs at each build.
    fs::create_dir_all(&dist).ok();
    let mut found = Vec::new();
    if dist.is_dir() {
        files(&dist, &mut found)?;
    }
    found.sort();
    let mut list = String::from("const ASSETS: &[Asset] = &[\n");
    for path in &found {
        let name = path
            .strip_prefix(&dist)?
            .to_string_lossy()
            .replace('\\', "/");
        writeln!(
            list,
            "    ({name:?}, include_bytes!({:?})),",
            path.to_string_lossy()
        )?;
    }
    list.push_str("];\n");
    let out = variable("OUT_DIR")?;
    fs::write(Path::new(&out).join("ui_assets.rs"), list)?;
    println!("cargo::rerun-if-changed=../../ui/dist");
    Ok(())
}
