//! A server that runs one program in a sandbox until somebody kills it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use netra_context::runtime::Runtime;
use netra_worker::sandbox::{Policy, Sandbox, Settings, Tier, Without};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Runs the policy, and passes the first line of its program on.
pub(crate) fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    match run(&mut arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            io::stderr().write_all(error.to_string().as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &mut impl Iterator<Item = String>) -> io::Result<()> {
    let mut next = || arguments.next().unwrap_or_default();
    let temp = PathBuf::from(next());
    let without: Without = serde_json::from_str(&next())?;
    let policy: Policy = serde_json::from_str(&next())?;
    let settings = Settings {
        program: std::env::current_exe()?,
        temp,
        cgroup: None,
        require: Tier::None,
        without,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let sandbox = Sandbox::new(settings, Runtime::new());
        let mut running = sandbox.start(policy).await.map_err(io::Error::other)?;
        let stdout = running.take_stdout().ok_or(io::ErrorKind::BrokenPipe)?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        writeln!(io::stdout(), "{}", line.unwrap_or_default())?;
        running.ended().await;
        Ok(())
    })
}
