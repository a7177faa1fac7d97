//! One server from start to stop: puts the crates together, and takes them apart in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{BackgroundKind, Lag, Runtime, UserExecutionContext};
use netra_engine::agents::Agents;
use netra_engine::{Agent, ExecutionEngineFactory, Infra, NodeMemory};
use netra_events::{Hub, WebSocketBridgeFactory};
use netra_gateway::{OneTimeLink, Parts};
use netra_mcp::ServerConfig;
use netra_model::Models;
use netra_store::secret::{Keyring, ServerSecrets};
use netra_store::{DirLock, Secrets, Store};
use netra_tools::builtin::{AnalysisOperation, analysis_tools, http_fetch};
use netra_tools::{
    Findings, Known, Policy, PublicWeb, Registry, Tool, ToolExecutorFactory, Unusable,
};
use netra_worker::sandbox::{Sandbox, Tier};
use netra_worker::{AnalysisPool, InputFile, ScriptPool};

use crate::accounts;
use crate::config::{Config, Registration};
use crate::doors::{self, Opened};
use crate::embedded;
use crate::exit::{Exit, Problem};
use crate::history::History;
use crate::machine;
use crate::machine_layers;
use crate::metrics::{self, Recorded};
use crate::reload::{Reload, Settable};
use crate::server_file::{Published, ServerFile};
use crate::server_secrets;
use crate::sweep;
use crate::telemetry::{Exporting, Telemetry};
use crate::temp::Temp;
use crate::watch;

/// How often the metrics' histograms are folded.
const FOLD_METRICS: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server has the data folder.
    #[error(
        "the data folder {dir} is in use by another server{}",
        .address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default()
    )]
    DataInUse {
        /// The folder.
        dir: String,
        /// Where the other server answers, if it has said so.
        address: Option<String>,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// In words.
        reason: String,
    },
    /// The Unix socket cannot be listened on.
    #[error("cannot listen on {path}: {reason}")]
    Socket {
        /// Its path.
        path: String,
        /// In words.
        reason: String,
    },
    /// The certificate or its key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] netra_store::Error),
    /// The key file cannot be used.
    #[error(transparent)]
    Keys(#[from] netra_gateway::KeysError),
    /// A model provider's configuration is wrong.
    #[error("models: {0}")]
    Models(netra_model::Error),
    /// The policy files cannot be used.
    #[error("policies: {0}")]
    Policy(netra_tools::Unusable),
    /// The machine does not hold programs from outside as well as the configuration asks for.
    #[error("sandbox.require: {problem}{}", missing_in_words(.missing))]
    Sandbox {
        /// What was found, or why nothing was.
        problem: netra_worker::sandbox::Error,
        /// The layers that are missing, each with how it could be had.
        missing: String,
    },
    /// The file of the server's secrets cannot be used.
    #[error("secrets.server_file: {0}")]
    Secrets(String),
    /// A defect, or something that the system refused.
    #[error("the server cannot start")]
    Other(#[source] anyhow::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::DataInUse { .. } => Exit::DataInUse,
            Error::Address { .. } | Error::Socket { .. } => Exit::Address,
            Error::Models(_)
            | Error::Policy(_)
            | Error::Secrets(_)
            | Error::Sandbox { .. }
            | Error::Tls(_) => Exit::Usage,
            Error::Store(_) | Error::Keys(_) | Error::Other(_) => Exit::Failure,
        };
        Self::new(exit, error)
    }
}

/// What a program that the server is put into has besides what is built in.
#[derive(Default)]
pub struct Further {
    /// Tools.
    pub tools: Vec<Arc<dyn Tool>>,
    /// Agents in Rust.
    pub agents: Vec<Arc<dyn Agent>>,
}

fn missing_in_words(missing: &str) -> String {
    match missing {
        "" => String::new(),
        missing => format!("; missing here: {missing}"),
    }
}

/// A server that is ready. Dropping it without `stop` cuts everything off.
pub struct Node {
    url: String,
    setup_link: Option<String>,
    drain: Duration,
    settable: Settable,
    store: Store,
    runtime: Runtime,
    engine: ExecutionEngineFactory,
    // In the order in which they are let go: first nobody finds the server, last the lock.
    published: Published,
    telemetry: Option<Exporting>,
    temp: Option<Temp>,
    lock: DirLock,
}

/// What everything runs on, and who tells the collector of it, where there is one.
fn observed(config: &Config, recorded: &Recorded) -> Result<(Runtime, Option<Exporting>), Error> {
    let telemetry = config.telemetry.clone().map(Telemetry::new);
    let tracer = telemetry.as_ref().and_then(Telemetry::tracer);
    let runtime = tracer.map_or_else(Runtime::new, Runtime::traced);
    let telemetry = telemetry.map(|telemetry| telemetry.begin(&runtime, recorded));
    Ok((runtime, telemetry.transpose().map_err(other)?))
}

impl Node {
    /// Brings a server up. When this returns, it answers.
    pub async fn start(config: Config) -> Result<Self, Error> {
        Self::start_with(config, Further::default()).await
    }

    /// The same with what whoever puts the server into a program of their own has besides.
    pub async fn start_with(config: Config, further: Further) -> Result<Self, Error> {
        let lock = take_lock(&config)?;
        let Opened { doors, url, tls } = doors::open(&config).await?;

        let recorded = metrics::install().map_err(Error::Other)?;
        let (runtime, telemetry) = observed(&config, &recorded)?;
        let hub = Hub::new();
        let keys = accounts::keys(&config, &runtime)?;
        let store = config.store(&runtime, keys.audit_key(), Arc::clone(&hub) as _)?;
        store.set_limits(config.limits.clone());
        let bridge = WebSocketBridgeFactory::new(&runtime, store.clone(), hub);
        let scripts = ScriptPool::new(pool(&config, config.workers.scripts, config.workers.warm));
        let secrets = secrets(&config, &runtime, &store).await?;
        let temp = Temp::for_servers(&config, &runtime).map_err(other)?;
        let policy = Arc::new(policy(&config)?);
        let users = netra_mcp::Users {
            store: store.clone(),
            secrets: secrets.clone(),
            web: PublicWeb::new(config.fetch_allow.clone()),
            policy: Arc::clone(&policy),
        };
        let sandbox = sandbox(&config, &runtime, temp.as_ref());
        hold(&config, &sandbox).await?;
        let programs: Arc<dyn netra_mcp::Programs> = Arc::new(sandbox);
        let servers = tool_servers(&config, &runtime, &programs, secrets.of_server());
        let servers = Arc::new(servers.with_users(users, &programs));
        let registry = registry_with(&config, policy, further.tools)?;
        let registry = Arc::new(registry.with_tools_of_users(Arc::clone(&servers) as _));
        servers.expect(&registry);
        let tools = tools(&config, (&store, &secrets), &scripts, &registry);
        let models = models(&config)?.with_secrets(secrets.clone());
        let infra = (&runtime, &store, &bridge);
        let engine = engine(&config, infra, tools, scripts, models, further.agents)?;

        store.join().await?;
        // What a stopped server left has its place again before anybody asks for a new one.
        let recovery = UserExecutionContext::for_background(&runtime, BackgroundKind::Recovery);
        engine.recover(&recovery).await.map_err(other)?;
        engine.keep_watch();
        if config.agents_watch {
            watch::start(&runtime, &engine);
        }
        let setup = netra_gateway::setup_token(&runtime, &store).await?;

        let file = ServerFile {
            address: url.clone(),
            pid: std::process::id(),
        };
        sweep::start(&runtime, &store, config.events_days);
        let history = History::default();
        let edge = gateway_config(&config);
        let settable = Settable::of(&store, tls, &edge);
        let parts = Parts {
            runtime: runtime.clone(),
            store: store.clone(),
            lag: late(&config, &runtime),
            bridge,
            engine: engine.clone(),
            tools: Arc::clone(&registry),
            tool_servers: Arc::clone(&servers) as _,
            secrets,
            keys,
            metrics: render(&recorded),
            history: history.told(),
            config: edge,
        };
        runtime.spawn(TaskKind::Listener, async move {
            if let Err(error) = netra_gateway::serve_at(doors, parts).await {
                tracing::error!("the server no longer accepts connections: {error}");
            }
        });
        keep_metrics(&runtime, recorded.clone(), &engine);
        history.keep(&runtime, recorded);
        // They may take as long as they like: nobody waits for them but who wants their tools.
        servers.begin(&registry);
        let published = file.publish(&config.data).map_err(other)?;
        tracing::info!(server.url = %url, data.dir = %config.data.display(), "ready");
        Ok(Self {
            setup_link: setup.map(|token| {
                let base = config.public_origin.as_deref().unwrap_or(&url);
                OneTimeLink::Setup.url(base, &token)
            }),
            url,
            drain: config.drain,
            settable,
            store,
            runtime,
            engine,
            published,
            telemetry,
            temp,
            lock,
        })
    }

    /// Such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the first admin, once; none when there are users.
    pub fn setup_link(&self) -> Option<&str> {
        self.setup_link.as_deref()
    }

    /// Reads what a running server can take over of another configuration: the limits, those of users for all within a
    /// minute, the origins of other pages, and the certificate. All else is for the next start. Nothing is changed before [`Reload::take_over`].
    ///
    /// # Errors
    /// Where the certificate or its key cannot be used.
    pub fn reload(&self, config: &Config) -> Result<Reload<'_>, Error> {
        self.settable.read(config)
    }

    /// Reads the files of the agents again, for runs that begin from now on, and logs what has changed.
    pub async fn reload_agents(&self) {
        watch::reload(&self.runtime, &self.engine).await;
    }

    /// Takes no new runs, gives the running ones time to end, lets the rest go until the next
    /// start, then everything else. Returns the number of tasks that did not end.
    pub async fn stop(self) -> usize {
        // Nobody is to find a server that is about to go.
        drop(self.published);
        self.engine.drain(self.drain).await;
        let left = self.runtime.drain(Duration::from_secs(5)).await;
        if let Err(error) = self.store.leave().await {
            tracing::warn!(%error, "other nodes are not told that this one is gone");
        }
        if let Some(telemetry) = self.telemetry {
            telemetry.flush().await;
        }
        // Only now may another server have the folder.
        drop(self.engine);
        drop(self.settable);
        drop(self.store);
        drop(self.temp);
        drop(self.lock);
        left
    }
}

fn other(error: impl Into<anyhow::Error>) -> Error {
    Error::Other(error.into())
}

fn take_lock(config: &Config) -> Result<DirLock, Error> {
    let lock = DirLock::take(&config.data).map_err(|error| match error {
        netra_store::Error::InUse { dir } => Error::DataInUse {
            address: ServerFile::read(&config.data).map(|file| file.address),
            dir,
        },
        error => Error::Store(error),
    })?;
    // A killed server's: nobody must go to its address with a token of this folder.
    ServerFile::remove_stale(&config.data).map_err(other)?;
    Ok(lock)
}

/// Who may call which tools: the operator's files, or what is built in.
pub fn policy(config: &Config) -> Result<Policy, Error> {
    let environment = config.environment.as_str();
    match &config.policy {
        Some(dir) => Policy::read(dir, environment),
        None => Policy::shipped(environment),
    }
    .map_err(Error::Policy)
}

/// The tools, built in all of them, under the policy.
pub fn registry(config: &Config) -> Result<Registry, Error> {
    let registry = registry_with(config, Arc::new(policy(config)?), Vec::new())?;
    registry.expect(config.mcp.servers.keys().cloned());
    Ok(registry)
}

/// What the policies name that this server does not have.
pub fn findings(config: &Config, registry: &Registry) -> Findings {
    let specs = registry.specs();
    let servers = &config.mcp.servers;
    let of_servers = servers.values().flat_map(ServerConfig::permissions);
    let of_tools = specs.iter().map(|spec| &spec.permission);
    registry.policy().findings(&Known {
        tools: specs.iter().map(|spec| spec.name.clone()).collect(),
        servers: servers.keys().cloned().collect(),
        permissions: of_tools.chain(of_servers).cloned().collect(),
    })
}

fn registry_with(
    config: &Config,
    policy: Arc<Policy>,
    further: Vec<Arc<dyn Tool>>,
) -> Result<Registry, Error> {
    let operations = netra_analytics::jobs::operations()
        .into_iter()
        .map(|operation| AnalysisOperation {
            name: operation.name.to_string(),
            description: operation.description.to_string(),
            input_schema: operation.input_schema,
            artifact: operation.makes_artifact,
            names_files: operation.names_files,
        });
    let mut tools = netra_tools::builtin::tools();
    let prices = config.price_file.clone().map(|path| InputFile {
        name: netra_analytics::jobs::OWN_PRICES.to_owned(),
        media_type: "application/toml".to_owned(),
        path,
    });
    tools.extend(analysis_tools(operations.collect(), prices));
    let fetch = http_fetch(PublicWeb::new(config.fetch_allow.clone()));
    tools.push(fetch.map_err(|problem| Error::Other(anyhow::anyhow!(problem)))?);
    tools.extend(further);
    let plain_values =
        |(name, server): (&String, &ServerConfig)| (name.clone(), server.place.plain_values());
    let concealed = config.mcp.servers.iter().map(plain_values).collect();
    let registry = Registry::new(tools, policy).map_err(other)?;
    let findings = findings(config, &registry);
    for doubt in &findings.doubts {
        tracing::warn!("policies: {doubt}");
    }
    if !findings.mistakes.is_empty() {
        return Err(Error::Policy(Unusable::Wrong(findings.mistakes)));
    }
    Ok(registry.with_concealed(concealed))
}

/// What holds programs from outside.
pub(crate) fn sandbox(config: &Config, runtime: &Runtime, temp: Option<&Temp>) -> Sandbox {
    let mut settings = config.sandbox.clone();
    if let Some(temp) = temp {
        temp.path().clone_into(&mut settings.temp);
    }
    Sandbox::new(settings, runtime.clone())
}

/// Refuses to start where the configuration asks for more than this machine gives. Where it asks for nothing, programs
/// from outside are refused one by one, and everything else works.
async fn hold(config: &Config, sandbox: &Sandbox) -> Result<(), Error> {
    let required = config.sandbox.require;
    if required <= Tier::Basic {
        return Ok(());
    }
    let Err(problem) = sandbox.check().await else {
        return Ok(());
    };
    let missing = match sandbox.try_out().await {
        Ok(trial) => machine_layers::missing(&trial.layers, config, required),
        // The problem says it.
        Err(_) => String::new(),
    };
    Err(Error::Sandbox { problem, missing })
}

/// The tool servers of the configuration; none is started yet.
pub(crate) fn tool_servers(
    config: &Config,
    runtime: &Runtime,
    programs: &Arc<dyn netra_mcp::Programs>,
    secrets: &Arc<ServerSecrets>,
) -> netra_mcp::Servers {
    netra_mcp::Servers::new(runtime, config.mcp.clone(), programs, secrets)
}

/// The agents: those that are built in, and those of the folder.
pub fn agents(config: &Config, registry: &Registry, models: &Models) -> Agents {
    agents_with(config, registry, models, Vec::new())
}

fn agents_with(
    config: &Config,
    registry: &Registry,
    models: &Models,
    native: Vec<Arc<dyn Agent>>,
) -> Agents {
    let dir = config.agents.as_deref();
    Agents::load_with(native, embedded::AGENTS, dir, registry, models)
}

/// The providers of language models.
pub fn models(config: &Config) -> Result<Models, Error> {
    Models::new(config.models.clone()).map_err(Error::Models)
}

fn pool(config: &Config, workers: usize, warm: usize) -> netra_worker::Config {
    netra_worker::Config {
        program: config.workers.program.clone(),
        workers,
        warm,
    }
}

async fn secrets(config: &Config, runtime: &Runtime, store: &Store) -> Result<Secrets, Error> {
    let keyring = Keyring::at(runtime, config.secret_keys()).map_err(netra_store::Error::from)?;
    Ok(Secrets::open(store, keyring, server_secrets(config)?).await?)
}

/// What the server has for all users' tools.
pub(crate) fn server_secrets(config: &Config) -> Result<ServerSecrets, Error> {
    let of_server = match &config.server_secrets {
        Some(path) => server_secrets::read(path).map_err(Error::Secrets)?,
        None => BTreeMap::new(),
    };
    Ok(of_server.into())
}

fn tools(
    config: &Config,
    (store, secrets): (&Store, &Secrets),
    scripts: &ScriptPool,
    registry: &Arc<Registry>,
) -> ToolExecutorFactory {
    ToolExecutorFactory::new(netra_tools::Infra {
        registry: Arc::clone(registry),
        store: store.clone(),
        secrets: secrets.clone(),
        analyses: AnalysisPool::new(pool(config, config.workers.analyses, 0)),
        scripts: scripts.clone(),
    })
}

fn engine(
    config: &Config,
    (runtime, store, bridge): (&Runtime, &Store, &WebSocketBridgeFactory),
    tools: ToolExecutorFactory,
    scripts: ScriptPool,
    models: Models,
    native: Vec<Arc<dyn Agent>>,
) -> Result<ExecutionEngineFactory, Error> {
    let models = Arc::new(models);
    let agents = Arc::new(agents_with(config, tools.registry(), &models, native));
    Ok(ExecutionEngineFactory::new(Infra {
        runtime: runtime.clone(),
        store: store.clone(),
        bridge: bridge.clone(),
        tools,
        models,
        agents,
        scripts,
        endpoints: netra_endpoint::Endpoints::new().map_err(other)?,
        config: engine_config(config),
    }))
}

/// What one engine is reckoned with where the number of engines goes by the memory.
const MIB_PER_ENGINE: u64 = 1;
/// The most engines of a node, however much memory it has.
const MOST_ENGINES: u64 = 10_000;

fn engine_config(config: &Config) -> netra_engine::Config {
    let memory_mib = config.node_memory_mib.or_else(machine::memory_mib);
    let by_memory = || {
        let mib = memory_mib.unwrap_or(1024);
        usize::try_from((mib / MIB_PER_ENGINE).clamp(1, MOST_ENGINES)).unwrap_or(1)
    };
    let of_process = |mib: u64| NodeMemory::of_process(mib.saturating_mul(1024 * 1024));
    netra_engine::Config {
        engines: config.engines.unwrap_or_else(by_memory),
        node_memory: memory_mib.map_or_else(NodeMemory::default, of_process),
    }
}

/// How late the process is, looked at from now on.
fn late(config: &Config, runtime: &Runtime) -> Lag {
    let lag = Lag::new(config.turn_wait);
    lag.watch(runtime);
    lag
}

fn gateway_config(config: &Config) -> netra_gateway::Config {
    netra_gateway::Config {
        public_origin: config.public_origin.clone(),
        allowed_origins: config.allowed_origins.clone().into(),
        registration: match config.registration {
            Registration::Open => netra_gateway::Registration::Open,
            Registration::Invite => netra_gateway::Registration::Invite,
            Registration::Closed => netra_gateway::Registration::Closed,
        },
        issuer: config.issuer.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        requests_per_address: config.requests_per_address.into(),
        logins_per_minute: config.logins_per_minute.into(),
        tls: config.tls.is_some(),
        dev: config.dev,
        access_ttl: config.access_ttl,
        refresh_ttl: config.refresh_ttl,
        heartbeat: config.heartbeat,
        metrics_token: config.metrics_token.clone(),
        max_connections: for_connections(open_files()),
        ..netra_gateway::Config::default()
    }
}

/// The most files that are asked for, whatever the system would allow.
const MOST_FILES: u64 = 65_536;

/// How many of the open files may be connections. The rest is for the database, the workers and the
/// files that are read and written: an eighth, and at least 512.
fn for_connections(files: usize) -> usize {
    let rest = (files / 8).max(512).min(files / 2);
    files - rest
}

/// The number of files that this process may have open, raised as far as the system allows.
fn open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let now = allowed.current.unwrap_or(MOST_FILES);
    let wanted = allowed
        .maximum
        .map_or(MOST_FILES, |most| most.min(MOST_FILES));
    let raised = Rlimit {
        current: Some(wanted),
        maximum: allowed.maximum,
    };
    let files = if wanted <= now {
        now
    } else if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("no more than {now} files can be open at once: {error}");
        now
    } else {
        wanted
    };
    usize::try_from(files.min(MOST_FILES)).unwrap_or(usize::MAX)
}

fn render(recorded: &Recorded) -> Arc<dyn Fn(bool) -> String + Send + Sync> {
    let recorded = recorded.clone();
    Arc::new(move |as_json| recorded.render(as_json))
}

/// Folds what was recorded, and records what nobody records when it happens.
fn keep_metrics(runtime: &Runtime, recorded: Recorded, engine: &ExecutionEngineFactory) {
    let engine = engine.clone();
    let shutdown = runtime.shutdown().clone();
    runtime.spawn(TaskKind::Sweep, async move {
        let mut turns = tokio::time::interval(FOLD_METRICS);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = turns.tick() => {}
            }
            recorded.fold();
            let lost = engine.census().workers_without_run;
            ::metrics::gauge!("netra_engine_workers_without_run").set(lost as f64);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_may_be_open_as_the_system_allows() {
        let files = open_files() as u64;
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let most = allowed.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
        assert!(files >= most && files > 0, "{files} of {most}");
    }

    #[test]
    fn few_files_are_halved_and_of_many_most_are_for_connections() {
        assert_eq!(for_connections(256), 128);
        assert_eq!(for_connections(1_024), 512);
        assert_eq!(for_connections(20_000), 17_500);
    }
}
