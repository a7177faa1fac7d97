//! Everything that can be configured, from defaults, a file, the environment and flags.
//!
//! Later layers win: built-in defaults, `netra.toml`, `NETRA__SECTION__KEY`, flags. A key that is
//! not in the catalogue is refused, with the nearest one that is.

mod catalogue;
mod layer;
mod mcp;
mod nearest;
mod raw;
mod report;
mod telemetry;
mod usual;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use netra_context::Runtime;
use netra_protocol::limits::{LimitOverrides, Limits};
use netra_store::audit::Audit;
use netra_store::inspect::Logs;
use netra_store::{AuditKey, Fanout, Store};
use netra_tools::Destination;

pub use catalogue::{CATALOGUE, Key, Kind};
pub use layer::{Layers, environment};
pub use raw::{Environment, LogFormat, Registration};
pub use report::{Setting, Source};
pub use telemetry::Collector;

use raw::Raw;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` ({origin}){}", .nearest.as_ref().map_or_else(
        || "; `netra config print` lists all keys".to_owned(),
        |nearest| format!("; did you mean `{nearest}`?"),
    ))]
    UnknownKey {
        /// As it was written.
        key: String,
        /// The layer that it stands in.
        origin: String,
        /// The most similar key.
        nearest: Option<String>,
    },
    /// A value that does not fit its key, or values that do not fit each other.
    #[error("{0}")]
    Invalid(String),
}

impl From<figment::Error> for Error {
    fn from(error: figment::Error) -> Self {
        // figment puts its profile in front of the key, which nobody has chosen.
        Self::Invalid(error.to_string().replace("default.", ""))
    }
}

/// The validated configuration of a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A Unix socket to listen on besides.
    pub socket: Option<PathBuf>,
    /// Files with the chain of certificates and its private key, where the server speaks TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where browsers reach the server, when that is not where it listens.
    pub public_origin: Option<String>,
    /// Browsers' origins besides the server's own.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<netra_gateway::Net>,
    /// Signs a browser on the loopback address in as `local`.
    pub dev: bool,
    /// How long runs may go on after the server was told to stop.
    pub drain: Duration,
    /// Between two pings of a WebSocket.
    pub heartbeat: Duration,
    /// The folder of the database, the files and the keys.
    pub data: PathBuf,
    /// Days that events stay after their run's end; none: as long as their thread.
    pub events_days: Option<u32>,
    /// PostgreSQL, where the database is not in the data folder.
    pub database: Option<netra_store::Postgres>,
    /// Active engines of the node; none: by its memory.
    pub engines: Option<usize>,
    /// Memory of the node in MiB; none: what the machine or its control group has.
    pub node_memory_mib: Option<u64>,
    /// Limits of users that have no others.
    pub limits: Limits,
    /// Requests of one address in a minute that carry no good credentials.
    pub requests_per_address: u32,
    /// Sign-ins in a minute of each pair of account and address.
    pub logins_per_minute: u32,
    /// How long a task may wait for its turn before work is refused.
    pub turn_wait: Duration,
    /// Who may make an account.
    pub registration: Registration,
    /// What access tokens are signed with in place of the server's own key.
    pub hs256_secret: Option<netra_model::Secret>,
    /// Whose tokens are taken besides the server's own.
    pub issuer: Option<netra_gateway::IssuerConfig>,
    /// Life of an access token.
    pub access_ttl: Duration,
    /// Life of a sign-in that is not refreshed.
    pub refresh_ttl: Duration,
    /// Providers of language models.
    pub models: netra_model::Config,
    /// Where the prices in it come from.
    pub price_file: Option<PathBuf>,
    /// Folder of agents besides the built-in ones.
    pub agents: Option<PathBuf>,
    /// Whether that folder is looked at for changes.
    pub agents_watch: bool,
    /// What policies know this server as.
    pub environment: Environment,
    /// Folder of policy files, in place of the built-in ones.
    pub policy: Option<PathBuf>,
    /// Hosts that `http_fetch` may reach besides public addresses.
    pub fetch_allow: Vec<Destination>,
    /// What holds programs from outside.
    pub sandbox: netra_worker::sandbox::Settings,
    /// The key file of users' secrets, where it is not in the data folder.
    pub secret_key_file: Option<PathBuf>,
    /// Secrets of the server for its users' tools: a TOML file.
    pub server_secrets: Option<PathBuf>,
    /// Tool servers.
    pub mcp: netra_mcp::Config,
    /// How log lines look.
    pub log_format: LogFormat,
    /// A level, or directives by module.
    pub log_level: String,
    /// Lets a scraper read the metrics.
    pub metrics_token: Option<netra_model::Secret>,
    /// Where traces and metrics go by OTLP; none: nowhere.
    pub telemetry: Option<Collector>,
    /// Worker processes.
    pub workers: Workers,
}

/// Worker processes: how many, and what one may use.
#[derive(Debug, Clone)]
pub struct Workers {
    /// The program that is started with the worker arguments.
    pub program: PathBuf,
    /// Script processes at the same time.
    pub scripts: usize,
    /// Script processes that wait ready.
    pub warm: usize,
    /// Analysis processes at the same time.
    pub analyses: usize,
}

/// The key file of users' secrets in the data folder.
pub const SECRET_KEYS: &str = "secret-keys";

impl Config {
    /// Reads all layers.
    pub fn load(layers: Layers) -> Result<Self, Error> {
        Self::from_raw(layers.merge()?, layers.variables())
    }

    /// The defaults with another data folder: for tests and private servers.
    pub fn for_data(data: &Path) -> Result<Self, Error> {
        Self::load(Layers::new().flag("data.dir", "data", data.display().to_string()))
    }

    /// The key file of users' secrets.
    pub fn secret_keys(&self) -> PathBuf {
        let in_folder = || self.data.join(SECRET_KEYS);
        self.secret_key_file.clone().unwrap_or_else(in_folder)
    }

    /// Opens the store where the configuration says.
    pub fn store(
        &self,
        runtime: &Runtime,
        audit_key: AuditKey,
        fanout: Arc<dyn Fanout>,
    ) -> Result<Store, netra_store::Error> {
        let config = netra_store::Config {
            dir: self.data.clone(),
            audit_key,
            turn_wait: self.turn_wait,
        };
        match &self.database {
            None => Store::open(runtime, config, fanout),
            Some(server) => Store::open_on(runtime, config, server, fanout),
        }
    }

    /// Whether there may be anything to read: a folder that is not there, or without its database, has nothing yet.
    pub fn has_database(&self) -> bool {
        match self.database {
            None => self.data.join("netra.db").exists(),
            // The keys without which nothing there is of any use are in the folder all the same.
            Some(_) => self.data.is_dir(),
        }
    }

    /// The logs of all users, to be checked.
    pub fn logs(&self) -> Result<Logs, netra_store::Error> {
        match &self.database {
            None => Logs::open(&self.data),
            Some(server) => Logs::open_on(server),
        }
    }

    /// The audit, to be checked.
    pub fn audit(&self) -> Result<Audit, netra_store::Error> {
        match &self.database {
            None => Audit::open(&self.data),
            Some(server) => Audit::open_on(server),
        }
    }

    fn from_raw(raw: Raw, variables: &[(String, String)]) -> Result<Self, Error> {
        let listen = address(&raw.server.listen)?;
        if raw.server.dev && !listen.ip().is_loopback() {
            return Err(Error::Invalid(format!(
                "server.dev signs everybody in who can reach the server, so it needs a loopback \
                 address; {listen} is none"
            )));
        }
        check_limits(&raw.limits.user)?;
        if raw.server.heartbeat_ms < 1_000 {
            let words = "server.heartbeat_ms must be at least 1000";
            return Err(Error::Invalid(words.into()));
        }
        if raw.data.events_days == Some(0) {
            return Err(Error::Invalid("data.events_days must be at least 1".into()));
        }
        if raw.limits.engines == Some(0) {
            return Err(Error::Invalid("limits.engines must be at least 1".into()));
        }
        if raw.limits.requests_per_minute_and_address == Some(0) {
            let words = "limits.requests_per_minute_and_address must be at least 1";
            return Err(Error::Invalid(words.into()));
        }
        if raw.limits.logins_per_minute == 0 {
            let words = "limits.logins_per_minute must be at least 1";
            return Err(Error::Invalid(words.into()));
        }
        if raw.limits.turn_wait_ms == 0 {
            let words = "limits.turn_wait_ms must be at least 1";
            return Err(Error::Invalid(words.into()));
        }
        if raw.limits.node_memory_mib == Some(0) {
            let words = "limits.node_memory_mib must be at least 1";
            return Err(Error::Invalid(words.into()));
        }
        Ok(Self {
            listen,
            socket: raw.server.socket,
            tls: match (raw.server.tls_certificate, raw.server.tls_key) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                _ => {
                    let words = "server.tls_certificate and server.tls_key belong together";
                    return Err(Error::Invalid(words.into()));
                }
            },
            public_origin: raw.server.public_origin,
            allowed_origins: origins(raw.server.allowed_origins)?,
            trusted_proxies: proxies(&raw.server.trusted_proxies)?,
            dev: raw.server.dev,
            drain: Duration::from_millis(raw.server.drain_ms),
            heartbeat: Duration::from_millis(raw.server.heartbeat_ms),
            data: raw.data.dir,
            events_days: raw.data.events_days,
            database: raw.database.resolve(raw.redis)?,
            engines: raw.limits.engines,
            node_memory_mib: raw.limits.node_memory_mib,
            limits: raw.limits.user,
            requests_per_address: raw
                .limits
                .requests_per_minute_and_address
                .unwrap_or(netra_gateway::REQUESTS_PER_ADDRESS),
            logins_per_minute: raw.limits.logins_per_minute,
            turn_wait: Duration::from_millis(raw.limits.turn_wait_ms),
            registration: raw.auth.registration,
            hs256_secret: raw.auth.hs256_secret()?,
            issuer: raw.auth.issuer.resolve()?,
            access_ttl: Duration::from_millis(raw.auth.access_ttl_ms),
            refresh_ttl: Duration::from_millis(raw.auth.refresh_ttl_ms),
            price_file: raw.models.price_file()?,
            models: raw.models.resolve()?,
            agents: raw.agents.dir,
            agents_watch: raw.agents.watch.unwrap_or(raw.server.dev),
            environment: raw.server.environment,
            policy: raw.policy.dir,
            fetch_allow: destinations(&raw.tools.fetch.allow)?,
            sandbox: sandbox(raw.sandbox, &raw.workers)?,
            secret_key_file: raw.secrets.key_file,
            server_secrets: raw.secrets.server_file,
            mcp: raw.mcp.resolve(variables)?,
            log_format: raw.log.format,
            log_level: raw.log.level,
            metrics_token: raw.metrics.token.map(netra_model::Secret::new),
            telemetry: raw.telemetry.resolve()?,
            workers: workers(raw.workers)?,
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, Error> {
    let numeric = text.replace("localhost:", "127.0.0.1:");
    numeric.parse().map_err(|_| {
        Error::Invalid(format!(
            "server.listen: `{text}` is no address with a port, such as 127.0.0.1:8080"
        ))
    })
}

/// `*` is none: who may speak to the server is named.
fn origins(texts: Vec<String>) -> Result<Vec<String>, Error> {
    match texts.iter().find(|text| !netra_gateway::is_origin(text)) {
        None => Ok(texts),
        Some(text) => Err(Error::Invalid(format!(
            "server.allowed_origins: `{text}` is no origin, such as https://app.example: scheme, host, and port \
             where it is not the usual one"
        ))),
    }
}

fn proxies(texts: &[String]) -> Result<Vec<netra_gateway::Net>, Error> {
    let nets = texts.iter().map(|text| text.parse::<netra_gateway::Net>());
    let nets = nets.collect::<Result<_, String>>();
    nets.map_err(|problem| Error::Invalid(format!("server.trusted_proxies: {problem}")))
}

fn destinations(texts: &[String]) -> Result<Vec<Destination>, Error> {
    let parse = |text: &String| Destination::parse(text);
    let destinations = texts.iter().map(parse).collect::<Result<_, _>>();
    destinations.map_err(|problem| Error::Invalid(format!("tools.fetch.allow: {problem}")))
}

fn check_limits(limits: &Limits) -> Result<(), Error> {
    if let Some((name, least)) = LimitOverrides::from(limits).too_low() {
        return Err(Error::Invalid(format!(
            "limits.{name} must be at least {least}"
        )));
    }
    if limits.run_timeout_ms > limits.run_timeout_max_ms {
        return Err(Error::Invalid(format!(
            "limits.run_timeout_ms ({}) is over limits.run_timeout_max_ms ({})",
            limits.run_timeout_ms, limits.run_timeout_max_ms
        )));
    }
    Ok(())
}

fn sandbox(
    raw: raw::Sandbox,
    workers: &raw::Workers,
) -> Result<netra_worker::sandbox::Settings, Error> {
    Ok(netra_worker::sandbox::Settings {
        program: worker_program(workers)?,
        temp: raw.temp.unwrap_or_else(std::env::temp_dir),
        cgroup: raw.cgroup,
        require: raw.require,
        without: netra_worker::sandbox::Without::NOTHING,
    })
}

/// This program, unless another is named.
fn worker_program(raw: &raw::Workers) -> Result<PathBuf, Error> {
    raw.program
        .clone()
        .map_or_else(std::env::current_exe, Ok)
        .map_err(|error| {
            Error::Invalid(format!(
                "this program's own path is not known ({error}): set workers.program"
            ))
        })
}

fn workers(raw: raw::Workers) -> Result<Workers, Error> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let program = worker_program(&raw)?;
    let scripts = raw.scripts.unwrap_or(cores.max(2) * 2);
    let analyses = raw.analyses.unwrap_or(cores.max(2) + 1);
    if scripts == 0 || analyses == 0 {
        return Err(Error::Invalid(
            "workers.scripts and workers.analyses must be at least 1".into(),
        ));
    }
    Ok(Workers {
        program,
        scripts,
        warm: raw.warm.min(scripts),
        analyses,
    })
}

#[cfg(test)]
mod tests;
