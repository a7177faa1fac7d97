//! `events`: the way of an event, and sockets at rest, each beside a bare prototype.

mod fanout;
mod idle;
mod latency;
mod line;
mod replay;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::note;
use crate::report::{self, Report};

const ALL: [&str; 5] = ["fanout", "append", "latency", "idle", "replay"];

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
