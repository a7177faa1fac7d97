//! Programs that Debian has: where they are, and installing them where we may.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// The full path of the first of these programs that there is; the package is installed where
/// there is none, this is Debian, and we are root.
pub(crate) fn program(workspace: &Workspace, names: &[&str], package: &str) -> Result<String> {
    if let Some(path) = find(names)? {
        return Ok(path);
    }
    if !process::exists("apt-get") || process::output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(process::missing(package));
    }
    println!("installing {package}");
    apt_get(workspace, &["update", "-q"])?;
    apt_get(
        workspace,
        &["install", "-qy", "--no-install-recommends", package],
    )?;
    match find(names)? {
        Some(path) => Ok(path),
        None => bail!("apt-get has installed {package}, but it is not in the PATH"),
    }
}

fn apt_get(workspace: &Workspace, args: &[&str]) -> Result<()> {
    let mut apt_get = process::command(workspace, "apt-get");
    process::run(apt_get.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A program of a package that is unpacked into a folder of ours and not installed: nothing of it is started, and
/// nothing outside of the folder changes.
pub(crate) fn unpacked(
    workspace: &Workspace,
    program: &str,
    package: &str,
    folder: &Path,
) -> Result<PathBuf> {
    let program = folder.join(program);
    if program.is_file() {
        return Ok(program);
    }
    if !process::exists("apt-get") {
        return Err(process::missing(package));
    }
    println!("fetching {package}");
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let download = || {
        let mut fetch = process::command(workspace, "apt-get");
        process::run(fetch.args(["download", "-q", package]).current_dir(folder))
    };
    if download().is_err() {
        // The lists may be old, or not be there yet.
        apt_get(workspace, &["update", "-q"])?;
        download()?;
    }
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = process::command(workspace, "dpkg-deb");
            process::run(unpack.arg("-x").arg(&file).arg(folder))?;
            std::fs::remove_file(&file)?;
        }
    }
    match program.is_file() {
        true => Ok(program),
        false => bail!("the package {package} has no {}", program.display()),
    }
}

/// The full path of the first of these programs that there is.
fn find(names: &[&str]) -> Result<Option<String>> {
    let script = "for name; do command -v \"$name\" && exit; done; true";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).args(names);
    let path = process::output(&mut shell)?.trim().to_owned();
    Ok(Some(path).filter(|path| !path.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_that_is_there_is_found_with_its_path() {
        let found = find(&["no-such-program", "cat", "ls"]).unwrap().unwrap();
        assert!(found.starts_with('/') && found.ends_with("/cat"), "{found}");
        assert_eq!(find(&["no-such-program"]).unwrap(), None);
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        for package in [
            "chromium",
            "curl",
            "faketime",
            "nginx",
            "prometheus",
            "redis-server",
        ] {
            let error = process::missing(package).to_string();
            assert!(
                error.contains(&format!("apt-get install {package}")),
                "{error}"
            );
        }
    }
}
