//! The real binary as a server: for signals, limits of the system and exit codes.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use netra_client::Client;
use netra_protocol::account::{Plan, Role};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::binary::{binary, output, run_program};
use crate::user::TestUser;

/// How the process is started.
#[derive(Debug, Default, Clone)]
pub struct Options {
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Further arguments of `serve`.
    pub arguments: Vec<String>,
    /// The server's program, where it is not the `netra` that cargo built beside the tests.
    pub program: Option<PathBuf>,
    /// Where its log goes on from start to start; none: a file that goes with the process.
    pub log: Option<PathBuf>,
    /// The largest file that it may write, in KiB; writing more fails as on a full disk.
    pub file_kib: Option<u64>,
}

/// `netra serve` that is ready.
pub struct TestProcess {
    child: Child,
    url: String,
    data: PathBuf,
    log: PathBuf,
    _log_folder: tempfile::TempDir,
}

impl TestProcess {
    /// On this data folder.
    pub async fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, Options::default()).await
    }

    /// The same with other options.
    pub async fn start_with(data: &Path, options: Options) -> Result<Self> {
        let log_folder = tempfile::tempdir()?;
        let log = options
            .log
            .clone()
            .unwrap_or_else(|| log_folder.path().join("log"));
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        let mut child = command(data, &options)?
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()?;
        let stdout = child
            .stdout
            .take()
            .context("standard output was asked for")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(crate::PATIENCE, lines.next_line()).await??;
        let url = line
            .as_deref()
            .and_then(|line| line.strip_prefix("ready "))
            .map(str::to_owned);
        let Some(url) = url else {
            let said = std::fs::read_to_string(&log)?;
            let last = said.lines().rev().take(20).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!("not ready: {line:?}\n{last}");
        };
        Ok(Self {
            child,
            url,
            data: data.to_owned(),
            log,
            _log_folder: log_folder,
        })
    }

    /// Such as `http://127.0.0.1:40001`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// A new user, made by the command line beside the running server.
    pub async fn user(&self, name: &str) -> Result<TestUser> {
        self.user_as(name, Role::User).await
    }

    /// The same with this role.
    pub async fn user_as(&self, name: &str, role: Role) -> Result<TestUser> {
        self.user_on(name, role, Plan::Free).await
    }

    /// The same on this plan.
    pub async fn user_on(&self, name: &str, role: Role, plan: Plan) -> Result<TestUser> {
        let data = self.data.to_string_lossy();
        let (role, plan) = (role.as_str(), plan.as_str());
        let words = ["user", "add", name, "--role", role, "--plan", plan];
        let id = said(&[&words[..], &["--data", &data]].concat()).await?;
        let token = said(&["token", name, "--data", &data]).await?;
        Ok(TestUser {
            id: id.parse()?,
            name: name.to_owned(),
            client: Client::new(&self.url, Some(token))?,
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Ok(kill_process(pid.context("the process has ended")?, signal)?)
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        Ok(tokio::time::timeout(crate::PATIENCE, self.child.wait()).await??)
    }
}

fn command(data: &Path, options: &Options) -> Result<Command> {
    let folder = data.to_string_lossy();
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--data", &folder];
    arguments.extend(options.arguments.iter().map(String::as_str));
    let program = match &options.program {
        Some(program) => program.clone(),
        None => binary()?,
    };
    let mut command = match options.file_kib {
        None => run_program(&program, &arguments)?,
        Some(kib) => {
            // With the signal ignored, writing over the limit is an error as on a full disk.
            let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
            let mut command = Command::new("sh");
            command.args(["-c", &script]).arg(program).args(&arguments);
            command.stdin(Stdio::null()).kill_on_drop(true);
            command
        }
    };
    command.env(crate::TURN_WAIT, crate::TURN_WAIT_MS);
    command.envs(
        options
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
    Ok(command)
}

/// What the binary prints, without the line end; fails when it fails.
async fn said(arguments: &[&str]) -> Result<String> {
    let output = output(arguments, "").await?;
    if !output.status.success() {
        bail!(
            "netra {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
