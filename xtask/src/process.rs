//! Starting other programs: to their end, as a stream of lines, or in place of this one.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::workspace::Workspace;

/// How to get a program that may be missing.
const SOURCES: [(&str, &str); 14] = [
    (
        "cargo",
        "install Rust from https://rustup.rs; rust-toolchain.toml picks the version",
    ),
    (
        "cc",
        "the embedded database is C: `apt-get install build-essential` on Debian",
    ),
    (
        "chromium",
        "the page is tested in it: `apt-get install chromium` on Debian, or put Google Chrome in the PATH",
    ),
    (
        "curl",
        "event streams are read by it: `apt-get install curl` on Debian",
    ),
    (
        "faketime",
        "the clock of a server jumps by it: `apt-get install faketime` on Debian",
    ),
    (
        "git",
        "a tool server is made from it: `apt-get install git` on Debian",
    ),
    (
        "nginx",
        "servers are tested behind it: `apt-get install nginx` on Debian",
    ),
    (
        "node",
        "Node 20.19 or newer: https://nodejs.org, or `apt-get install nodejs npm` from Debian 13 on",
    ),
    (
        "npm",
        "npm comes with Node: https://nodejs.org, or `apt-get install npm` from Debian 13 on",
    ),
    (
        "postgresql",
        "the store is tested on it: `apt-get install postgresql` on Debian",
    ),
    (
        "redis-server",
        "nodes are tested with it: `apt-get install redis-server` on Debian",
    ),
    (
        "prometheus",
        "its promtool judges metrics and alerts; without apt-get: `apt-get install prometheus` on Debian",
    ),
    (
        "python3",
        "Python 3.10 or newer: `apt-get install python3 python3-venv` on Debian",
    ),
    (
        "valgrind",
        "it watches the allocator's blocks: `apt-get install valgrind` on Debian",
    ),
];

/// A command that runs in the root of the repository.
pub(crate) fn command(workspace: &Workspace, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace.root());
    command
}

pub(crate) fn cargo(workspace: &Workspace, args: &[&str]) -> Command {
    let mut command = command(workspace, "cargo");
    command.args(args);
    command
}

/// Runs to the end with our output as its own. An exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    bail!("`{}` failed ({status})", shown(command))
}

/// Runs to the end and gives what it printed; what it says on stderr is passed on.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| not_started(command, &error))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}`", shown(command)))
}

/// Runs to the end, passes each line of its output on and shows it to `see`. Gives whether the
/// exit code was 0.
pub(crate) fn watch(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    command.stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| not_started(command, &error))?;
    let pipe = child
        .stdout
        .take()
        .context("the pipe of a child is there once")?;
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        // Not to stdout's handle: tests of the gate must not print counts that a gate would add.
        print!("{text}");
        see(text.trim_end());
        line.clear();
    }
    Ok(child.wait()?.success())
}

/// Becomes the program, so that the terminal and signals are the program's own. Comes back only
/// with an error.
pub(crate) fn become_program(command: &mut Command) -> anyhow::Error {
    let error = command.exec();
    not_started(command, &error)
}

/// Whether a program can be started at all.
pub(crate) fn exists(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok()
}

/// An error that says how to get the program when it is missing.
pub(crate) fn require(program: &str) -> Result<()> {
    if exists(program) {
        Ok(())
    } else {
        Err(missing(program))
    }
}

pub(crate) fn missing(program: &str) -> anyhow::Error {
    let source = SOURCES.iter().find(|(name, _)| *name == program);
    match source {
        Some((_, source)) => anyhow!("`{program}` is missing; {source}"),
        None => anyhow!("`{program}` is missing"),
    }
}

/// Cargo's folder for what it builds, wherever the user has put it.
pub(crate) fn target_folder(workspace: &Workspace) -> Result<PathBuf> {
    let mut metadata = cargo(
        workspace,
        &["metadata", "--no-deps", "--format-version", "1"],
    );
    let metadata: serde_json::Value = serde_json::from_str(&output(&mut metadata)?)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target")?;
    Ok(PathBuf::from(folder))
}

/// A cargo tool of exactly this version, installed below the target folder when it is not there:
/// nothing is changed outside of the repository.
pub(crate) fn tool(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf> {
    let root = target_folder(workspace)?
        .join("tools")
        .join(format!("{name}-{version}"));
    let binary = root.join("bin").join(name);
    if !binary.is_file() {
        println!("installing {name} {version} into {}", root.display());
        let mut install = cargo(
            workspace,
            &["install", "--locked", "--version", version, name],
        );
        run(install.arg("--root").arg(&root))?;
    }
    Ok(binary)
}

fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        let name = Path::new(&*program)
            .file_name()
            .unwrap_or(command.get_program());
        return missing(&name.to_string_lossy());
    }
    anyhow!("cannot start `{}`: {error}", shown(command))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_seen_one_by_one_and_the_exit_code_is_kept() {
        let mut lines = Vec::new();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo one; printf two; exit 3"]);
        let good = watch(&mut shell, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(
            (lines, good),
            (vec!["one".to_owned(), "two".to_owned()], false)
        );
    }

    #[test]
    fn a_failed_command_is_named() {
        let error = run(Command::new("sh").args(["-c", "exit 7"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c exit 7") && error.contains('7'),
            "{error}"
        );
    }

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let error = run(&mut Command::new("/no/such/folder/node"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("https://nodejs.org"), "{error}");
        assert!(!exists("/no/such/folder/node"));
        require("sh").unwrap();
        require("/no/such/folder/node").unwrap_err();
    }
}
