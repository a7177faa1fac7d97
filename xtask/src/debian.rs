//! Programs that Debian has: where they are, and installing them where we may.

use std::process::Command;

use anyhow::{Result, bail};

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
    for args in [
        &["update", "-q"][..],
        &["install", "-qy", "--no-install-recommends", package],
    ] {
        let mut install = process::command(workspace, "apt-get");
        process::run(install.args(args).env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    match find(names)? {
        Some(path) => Ok(path),
        None => bail!("apt-get has installed {package}, but it is not in the PATH"),
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
        for package in ["chromium", "curl", "faketime", "nginx"] {
            let error = process::missing(package).to_string();
            assert!(
                error.contains(&format!("apt-get install {package}")),
                "{error}"
            );
        }
    }
}
