//! Where log lines go: standard error, as text or JSON.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::config::{Error, LogFormat};

/// Libraries that log what they carry, tokens and prompts among it, below this level. They stay at
/// it whatever level is asked for.
const CAPPED: [&str; 9] = [
    "tungstenite=info",
    "tokio_tungstenite=info",
    "hyper=info",
    "hyper_util=info",
    "h2=info",
    "rustls=info",
    "reqwest=info",
    "rusqlite=info",
    // What servers say stands in its lines from info on.
    "rmcp=error",
];

/// Starts logging for the process. Does nothing when it was started before.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| Error::Invalid(format!("log.level: `{level}`: {error}")))?;
    let filter = CAPPED
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok())
        .fold(filter, EnvFilter::add_directive);
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
