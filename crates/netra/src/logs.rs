//! Where log lines go: standard error, as text or JSON.

use tracing_subscriber::filter::Directive;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Error, LogFormat};

/// A level that was understood.
pub(crate) struct Filter(EnvFilter);

/// Libraries that log what they carry, tokens and prompts among it, below this level. They stay at
/// it whatever level is asked for.
const CAPPED: [&str; 10] = [
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
    // It says each try to connect; the store says once that Redis is away.
    "fred=off",
];

/// The level of the process's log, to be changed while it runs; none where somebody else had started the log.
pub(crate) struct Level(Option<reload::Handle<EnvFilter, Registry>>);

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|error| Error::Invalid(format!("log.level: `{level}`: {error}")))?;
    Ok(CAPPED
        .iter()
        .filter_map(|directive| directive.parse::<Directive>().ok())
        .fold(filter, EnvFilter::add_directive))
}

impl Level {
    /// Reads another level; it is none yet.
    pub(crate) fn read(level: &str) -> Result<Filter, Error> {
        filter(level).map(Filter)
    }

    /// Logs at this level from now on.
    pub(crate) fn set(&self, Filter(filter): Filter) -> Result<(), Error> {
        let Some(handle) = &self.0 else { return Ok(()) };
        let reloaded = handle.reload(filter);
        reloaded.map_err(|error| Error::Invalid(format!("log.level: {error}")))
    }
}

/// Starts logging for the process. Does nothing when it was started before.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<Level, Error> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = Registry::default().with(filter);
    let started = match format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(is_terminal)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    // The first subscriber of a process stays; a second server in one process uses it too.
    Ok(Level(started.is_ok().then_some(handle)))
}
