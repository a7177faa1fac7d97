//! The binary `netra`, as cargo built it beside the tests.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::database;

/// Variables that make model providers where the configuration names none.
const PROVIDERS: [&str; 5] = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "OLLAMA_HOST",
];

/// The path of the binary. Fails when it is not there: a test does not build.
pub fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe().context("this program's path is not known")?;
    let folder = this.parent().context("a program is in a folder")?;
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    let profile = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let binary = profile.join("netra");
    if !binary.is_file() {
        bail!(
            "{} is not there: build it with `cargo build -p netra --bin netra` (in the same \
             profile), or call `cargo xtask test integration`, which does",
            binary.display()
        );
    }
    Ok(binary)
}

/// The binary with these arguments, an environment without our variables, and nothing on its
/// standard input.
pub fn run_netra(arguments: &[&str]) -> Result<Command> {
    run_program(&binary()?, arguments)
}

/// The same with another build of it.
pub(crate) fn run_program(program: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    #[expect(
        clippy::disallowed_methods,
        reason = "what a developer has set must not change tests"
    )]
    let ours = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("NETRA_") || PROVIDERS.contains(&name.as_ref())
    });
    for (name, _) in ours {
        command.env_remove(name);
    }
    let mut words = arguments.iter().skip_while(|word| **word != "--data");
    if let Some(data) = words.nth(1) {
        command.envs(database::settings(Path::new(data))?);
    }
    Ok(command)
}

/// Runs the binary to its end with this on its standard input.
pub async fn output(arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = run_netra(arguments)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input closes it; that is no failure here.
        stdin.write_all(input.as_bytes()).await.ok();
    }
    tokio::time::timeout(crate::PATIENCE, child.wait_with_output())
        .await
        .with_context(|| format!("netra {arguments:?} did not end"))?
        .context("netra could not be waited for")
}
