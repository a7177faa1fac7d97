//! `events`: the way of an event, and sockets at rest, each beside a bare prototype.

mod fanout;
mod idle;
mod latency;
mod line;
mod replay;

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::note;
use crate::report::{self, Report};

const ALL: [&str; 5] = ["fanout", "append", "latency", "idle", "replay"];

/// The bare prototype as a process of its own, killed when dropped.
pub(crate) struct Bare {
    child: Child,
    pub(crate) url: String,
}

impl Bare {
    pub(crate) async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bare")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("its output was asked for")?;
        let line = BufReader::new(stdout).lines().next_line().await?;
        let url = line
            .as_deref()
            .and_then(|line| line.strip_prefix("ready "))
            .map(str::to_owned);
        let url = url.context("the bare prototype did not start")?;
        Ok(Self { child, url })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Runs the parts that are asked for, all when none are named.
pub(crate) async fn events(only: &[String], append: Option<&Path>, json: bool) -> Result<()> {
    raise_open_files();
    let mut report = Report::new(json);
    for name in report::wanted(&ALL, only)? {
        let measured = match name {
            "fanout" => Box::pin(fanout::measure()).await,
            "append" => appended(append).await,
            "latency" => Box::pin(latency::measure()).await,
            "idle" => Box::pin(idle::measure()).await,
            _ => Box::pin(replay::measure()).await,
        };
        report.add(name, measured.with_context(|| name.to_owned())?);
    }
    report.end()
}

/// Appending is measured where SQL is at home: by an example of the store.
async fn appended(program: Option<&Path>) -> Result<Value> {
    let Some(program) = program else {
        note("append: no program was named with --append; `cargo xtask bench events` does");
        return Ok(json!({ "skipped": "no --append" }));
    };
    report::of_program(&mut Command::new(program)).await
}

/// As many descriptors as the system gives; the server inherits it.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = Rlimit {
        current: Some(65_536),
        maximum: Some(65_536),
    };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let allowed = getrlimit(Resource::Nofile).maximum;
        let most = Rlimit {
            current: allowed,
            maximum: allowed,
        };
        if let Err(error) = setrlimit(Resource::Nofile, most) {
            note(&format!("the number of open files stays as it is: {error}"));
        }
    }
}
