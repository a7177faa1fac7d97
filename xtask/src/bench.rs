//! Benchmarks of netra-integration in release builds.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::postgres::Server;
use crate::workspace::Workspace;
use crate::{debian, process};

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
    let programs = programs(workspace, &args[0])?;
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
    bench.args(args).args(programs);
    if !is_on_postgres(args) {
        return Err(process::become_program(&mut bench));
    }
    // The server is to end with it, so this program stays.
    let server = Server::durable(workspace)?;
    process::run(server.shown_to(&mut bench))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the rows of the server under load are to be in PostgreSQL.
fn is_on_postgres(args: &[String]) -> bool {
    let mut pairs = args.iter().zip(args.iter().skip(1));
    pairs.any(|(option, value)| option == "--database" && value == "postgres")
        || args.iter().any(|arg| arg == "--database=postgres")
}

/// Builds what some benchmarks measure besides the server, and says to them where it is: a prototype is where the
/// thing that it is held against is at home.
fn programs(workspace: &Workspace, benchmark: &str) -> Result<Vec<OsString>> {
    let (package, examples) = match benchmark {
        "events" => ("netra-store", &["append"][..]),
        "isolation" => ("netra-engine", &["counted", "uncounted", "measured"][..]),
        "tools" => ("netra-tools", &["layers"][..]),
        "http" => {
            let wrk = debian::program(workspace, &["wrk"], "wrk")?;
            return Ok(vec!["--wrk".into(), wrk.into()]);
        }
        _ => return Ok(Vec::new()),
    };
    let mut build = process::cargo(workspace, &["build", "--release", "-p", package]);
    for example in examples {
        build.args(["--example", example]);
    }
    process::run(&mut build)?;
    let folder = process::target_folder(workspace)?.join("release/examples");
    Ok(match benchmark {
        "events" => vec!["--append".into(), folder.join("append").into()],
        _ => vec!["--programs".into(), folder.into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_told_from_the_arguments() {
        let on_postgres = |line: &str| {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            is_on_postgres(&args)
        };
        assert!(on_postgres("runs --database postgres --seconds 5"));
        assert!(on_postgres("runs --database=postgres"));
        assert!(!on_postgres("runs --database sqlite") && !on_postgres("runs postgres"));
    }

    #[test]
    fn a_benchmark_must_be_named() {
        let workspace = Workspace::at(std::path::Path::new("/no/such/folder"));
        for args in [&[][..], &["--release".to_owned()][..]] {
            let error = run(&workspace, args).unwrap_err().to_string();
            assert!(error.contains("bench runs"), "{error}");
        }
    }
}
