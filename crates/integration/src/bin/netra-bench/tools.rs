//! `tools`: what the layers around a tool cost. Measured inside of one process, which is an example of the tools.

use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use crate::report::{self, Report};

pub(crate) async fn tools(programs: &Path, json: bool) -> Result<()> {
    let mut report = Report::new(json);
    let measured = report::of_program(&mut Command::new(programs.join("layers"))).await?;
    report.add("layers", measured);
    report.end()
}
