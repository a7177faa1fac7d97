//! `cargo xtask`: the only door for people and CI. It builds, checks and starts; it never ships.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is its interface"
)]

mod agents;
mod bench;
mod browser;
mod chaos;
mod clients;
mod contract;
mod coverage;
mod debian;
mod deps;
mod finding;
mod gate;
mod help;
mod licences;
mod mcp;
mod models;
mod monitoring;
mod node;
mod openapi;
mod part;
mod postgres;
mod process;
mod python;
mod tally;
mod tidy;
mod ui;
mod up;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = args.split_first() else {
        print!("{}", help::OVERVIEW);
        return Ok(ExitCode::from(2));
    };
    // What follows `--` belongs to the program that is started, its `--help` too.
    let ours = rest.iter().take_while(|arg| *arg != "--");
    if ours.clone().any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", help::of(command)?);
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = Workspace::find()?;
    match command.as_str() {
        "up" => up::run(&workspace, rest),
        "test" => gate::run(&workspace, rest),
        "ui" => ui::run(&workspace, rest),
        "openapi" => openapi::run(&workspace, rest),
        "bench" => bench::run(&workspace, rest),
        "coverage" => coverage::run(&workspace, rest),
        "tidy" => tidy::run(&workspace, rest),
        "deps" => deps::run(&workspace, rest),
        "help" | "--help" | "-h" => {
            let text = rest
                .first()
                .map_or(Ok(help::OVERVIEW), |topic| help::of(topic))?;
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => anyhow::bail!("there is no command `{unknown}`; `cargo xtask help` lists them"),
    }
}
