//! Line coverage by cargo-tarpaulin. Its ptrace engine needs none of LLVM's tools, which the
//! pinned toolchain does not bring.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

const VERSION: &str = "0.37.5";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let wish = arguments(args)?;
    process::require("cc")?;
    let tarpaulin = process::tool(workspace, "cargo-tarpaulin", VERSION)?;
    let folder = process::target_folder(workspace)?.join("coverage");
    std::fs::create_dir_all(&folder)?;
    // A folder of its own, because instrumented and ordinary builds would replace each other.
    let mut command = process::command(workspace, tarpaulin);
    command
        .arg("tarpaulin")
        .args(["--engine", "ptrace", "--skip-clean"]);
    command.arg("--target-dir").arg(folder.join("build"));
    command.arg("--output-dir").arg(&folder);
    command.args(["--out", "Html", "--out", "Json", "--out", "Stdout"]);
    command.args(["--exclude-files", "crates/integration/*"]);
    process::run(command.args(wish))?;
    println!("reports in {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Crate names first, then whatever is tarpaulin's own.
fn arguments(args: &[String]) -> Result<Vec<String>> {
    let end = args
        .iter()
        .position(|arg| arg == "--")
        .unwrap_or(args.len());
    let (crates, rest) = args.split_at(end);
    if let Some(flag) = crates.iter().find(|name| name.starts_with('-')) {
        bail!("{flag} is for tarpaulin: put it after `--`");
    }
    let mut wish = Vec::new();
    if crates.is_empty() {
        wish.extend(
            [
                "--workspace",
                "--exclude",
                "xtask",
                "--exclude-files",
                "xtask/*",
            ]
            .map(str::to_owned),
        );
    }
    for name in crates {
        wish.extend(["--packages".to_owned(), name.clone()]);
    }
    wish.extend(rest.iter().skip(1).cloned());
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<String>> {
        arguments(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn crates_and_the_arguments_of_the_tool_are_kept_apart() {
        assert_eq!(
            read("").unwrap(),
            [
                "--workspace",
                "--exclude",
                "xtask",
                "--exclude-files",
                "xtask/*"
            ]
        );
        assert_eq!(
            read("netra-store netra-events -- --timeout 300").unwrap(),
            [
                "--packages",
                "netra-store",
                "--packages",
                "netra-events",
                "--timeout",
                "300"
            ]
        );
        assert!(
            read("--timeout 300")
                .unwrap_err()
                .to_string()
                .contains("after `--`")
        );
    }
}
