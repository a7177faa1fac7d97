//! Where log lines go: standard error, as text or JSON.

use tracing_subscriber::EnvFilter;

use crate::config::{Error, LogFormat};

/// Starts logging for the process. Does nothing when it was started before.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| Error::Invalid(format!("log.level: `{level}`: {error}")))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // The first subscriber of a process stays; a second server in one process uses it too.
    started.ok();
    Ok(())
}
