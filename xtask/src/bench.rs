//! Benchmarks of netra-integration in release builds.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    if args.first().is_none_or(|name| name.starts_with('-')) {
        bail!("name a benchmark, such as `cargo xtask bench runs`");
    }
    process::require("cc")?;
    // The server under load is a process of its own, so its binary must be there and as new.
    process::run(&mut process::cargo(
        workspace,
        &["build", "--release", "-p", "netra", "--bin", "netra"],
    ))?;
    let events = args.first().is_some_and(|name| name == "events");
    let append = if events {
        // SQL is at home in the store, so its bare prototype is there too.
        let example = ["--release", "-p", "netra-store", "--example", "append"];
        process::run(&mut process::cargo(
            workspace,
            &[&["build"], &example[..]].concat(),
        ))?;
        let folder = process::target_folder(workspace)?;
        vec!["--append".into(), folder.join("release/examples/append")]
    } else {
        Vec::new()
    };
    let mut bench = process::cargo(
        workspace,
        &[
            "run",
            "--release",
            "-p",
            "netra-integration",
            "--bin",
            "netra-bench",
            "--",
        ],
    );
    Err(process::become_program(bench.args(args).args(append)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_must_be_named() {
        let workspace = Workspace::at(std::path::Path::new("/no/such/folder"));
        for args in [&[][..], &["--release".to_owned()][..]] {
            let error = run(&workspace, args).unwrap_err().to_string();
            assert!(error.contains("bench runs"), "{error}");
        }
    }
}
