//! From a fresh clone to a running server: the page, the binary, then `netra serve` in our place.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::node;
use crate::process;
use crate::ui;
use crate::workspace::Workspace;

/// What `netra serve` is told unless the user says otherwise.
const DEFAULTS: [(&str, &str); 2] = [("--listen", "127.0.0.1:8080"), ("--data", "./netra-data")];

#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    debug: bool,
    no_ui: bool,
    serve: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let wish = Wish::read(args)?;
    process::require("cc")?;
    println!("[1/3] web page");
    web_page(workspace, &wish)?;

    let profile = if wish.debug { "debug" } else { "release" };
    println!("[2/3] server ({profile} build; the first takes some minutes)");
    let began = Instant::now();
    let mut build = process::cargo(workspace, &["build", "-p", "netra", "--bin", "netra"]);
    if !wish.debug {
        build.arg("--release");
    }
    process::run(&mut build)?;
    println!("      built in {:.0} s", began.elapsed().as_secs_f64());

    let binary = process::target_folder(workspace)?
        .join(profile)
        .join("netra");
    println!("[3/3] {} serve {}", binary.display(), wish.serve.join(" "));
    let mut serve = process::command(workspace, binary);
    Err(process::become_program(
        serve.arg("serve").args(&wish.serve),
    ))
}

impl Wish {
    fn read(args: &[String]) -> Result<Self> {
        let mut wish = Self::default();
        let mut args = args.iter();
        for arg in args.by_ref() {
            match arg.as_str() {
                "--debug" => wish.debug = true,
                "--no-ui" => wish.no_ui = true,
                "--" => break,
                unknown => bail!(
                    "`cargo xtask up` knows no {unknown}; what is for the server goes after `--`"
                ),
            }
        }
        wish.serve = with_defaults(args.cloned().collect());
        Ok(wish)
    }
}

/// The defaults come first, each only where the user has not said it.
fn with_defaults(given: Vec<String>) -> Vec<String> {
    let mut all = Vec::new();
    for (flag, value) in DEFAULTS {
        let said = given.iter().any(|arg| {
            arg.strip_prefix(flag)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        });
        if !said {
            all.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    all.extend(given);
    all
}

fn web_page(workspace: &Workspace, wish: &Wish) -> Result<()> {
    if wish.no_ui {
        println!("      left out (--no-ui)");
        return Ok(());
    }
    if let Err(problem) = ui::require_sources(workspace).and_then(|()| node::check()) {
        println!("      left out: {problem:#}");
        println!("      The server runs without it. Call `cargo xtask up` again to add it.");
        return Ok(());
    }
    if ui::is_fresh(workspace)? {
        println!("      up to date");
        return Ok(());
    }
    let began = Instant::now();
    if let Err(problem) = ui::build(workspace) {
        bail!("{problem:#}; `cargo xtask up --no-ui` serves without the page");
    }
    println!("      built in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Wish> {
        Wish::read(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_server_gets_its_defaults() {
        let wish = read("--debug").unwrap();
        assert!(wish.debug && !wish.no_ui);
        assert_eq!(
            wish.serve,
            ["--listen", "127.0.0.1:8080", "--data", "./netra-data"]
        );
    }

    #[test]
    fn what_the_user_says_takes_the_place_of_a_default() {
        let wish = read("-- --listen=[::1]:9000 --log debug").unwrap();
        assert_eq!(
            wish.serve,
            [
                "--data",
                "./netra-data",
                "--listen=[::1]:9000",
                "--log",
                "debug"
            ]
        );
        let wish = read("-- --data /tmp/x --listen 0.0.0.0:1").unwrap();
        assert_eq!(wish.serve, ["--data", "/tmp/x", "--listen", "0.0.0.0:1"]);
        let wish = read("-- --data-source x").unwrap();
        assert!(
            wish.serve
                .windows(2)
                .any(|pair| pair == ["--data", "./netra-data"])
        );
    }

    #[test]
    fn arguments_of_the_server_need_the_two_dashes() {
        let error = read("--listen 127.0.0.1:9000").unwrap_err().to_string();
        assert!(error.contains("after `--`"), "{error}");
    }
}
