//! All tool servers: they are asked for their tools in the background, and asked again when they
//! did not answer or say that something has changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use netra_context::runtime::TaskKind;
use netra_context::{Runtime, UserExecutionContext};
use netra_protocol::id::UserId;
use netra_protocol::tool::{OwnToolServer, PutToolServer, ToolServer};
use netra_store::NewToolServer;
use netra_store::secret::ServerSecrets;
use netra_tools::{InvalidTool, NotAdded, Policy, Registry, Source, Tool, ToolSpec};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::offer::Offers;
use crate::opened::Opened;
use crate::own::{Own, Users};
use crate::program::Programs;
use crate::seats::Seats;
use crate::server::Server;
use crate::tool::ServerTool;

/// How often memory is counted and idle instances are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long until a server that did not answer is asked again, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The least time between two askings of a server that says that something has changed.
pub(crate) const CALM: Duration = Duration::from_secs(5);

/// All tool servers of the configuration.
pub struct Servers {
    runtime: Runtime,
    servers: Vec<Arc<Server>>,
    seats: Arc<Seats>,
    secrets: Arc<ServerSecrets>,
    /// None where no user is served.
    own: Option<Arc<Own>>,
}

impl Servers {
    /// Starts nothing yet.
    pub fn new(
        runtime: &Runtime,
        config: Config,
        programs: &Arc<dyn Programs>,
        secrets: &Arc<ServerSecrets>,
    ) -> Self {
        let seats = Seats::new(runtime, config.instances, config.instances_per_user);
        let servers = config.servers.into_iter().map(|(name, config)| {
            Arc::new(Server::new(runtime, name, config, Arc::clone(programs)))
        });
        Self {
            servers: servers.collect(),
            seats: Arc::new(seats),
            secrets: Arc::clone(secrets),
            own: None,
            runtime: runtime.clone(),
        }
    }

    /// With users, who may have servers of their own. A configured server that wants a secret which the server itself
    /// does not have is asked for each user by oneself.
    pub fn with_users(mut self, users: Users, programs: &Arc<dyn Programs>) -> Self {
        let needs_users =
            |server: &mut Arc<Server>| Opened::for_nobody(server, &self.secrets).is_err();
        let of_users = self.servers.extract_if(.., needs_users);
        let of_users = of_users.map(|server| (server.name.clone(), server.config.clone()));
        let own = Own::new(
            &self.runtime,
            users,
            Arc::clone(programs),
            Arc::clone(&self.seats),
            of_users.collect(),
        );
        self.own = Some(Arc::new(own));
        self
    }

    /// Lets agents name the servers' tools before they are there.
    pub fn expect(&self, registry: &Registry) {
        registry.expect(self.servers.iter().map(|server| server.name.clone()));
        let own = self.own.iter().flat_map(|own| own.configured().cloned());
        registry.expect_of_users(own);
    }

    /// Begins to ask the servers for their tools, which go into the registry, and to look after
    /// instances.
    pub fn begin(&self, registry: &Arc<Registry>) {
        self.seats.tell(registry);
        for server in &self.servers {
            let learning = Learning {
                server: Arc::clone(server),
                seats: Arc::clone(&self.seats),
                secrets: Arc::clone(&self.secrets),
                registry: Arc::clone(registry),
            };
            let shutdown = self.runtime.shutdown().clone();
            self.runtime.spawn(TaskKind::Sweep, async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = learning.go_on() => {}
                }
            });
        }
        let (seats, own) = (Arc::clone(&self.seats), self.own.clone());
        let shutdown = self.runtime.shutdown().clone();
        self.runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval(SWEEP_EVERY);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break seats.clear(),
                    _ = turns.tick() => {
                        seats.sweep();
                        own.iter().for_each(|own| own.sweep());
                    }
                }
            }
        });
    }

    /// Starts an instance of one server, asks it for its tools, and makes these calls by the names
    /// that the server knows: to try a server out, with no user and no policy.
    ///
    /// # Errors
    /// In words: there is none of this name, or it does not answer.
    pub async fn try_out(
        &self,
        name: &str,
        calls: Vec<(String, Option<Map<String, Value>>)>,
    ) -> Result<Trial, String> {
        let found = self.servers.iter().find(|server| server.name == name);
        let server = found.ok_or_else(|| format!("there is no tool server `{name}`"))?;
        let opened = Opened::for_nobody(server, &self.secrets)?;
        let (offers, answers) = server.tried(calls, &opened).await?;
        let tools = tools(server, &self.seats, offers);
        let mut specs: Vec<ToolSpec> = tools.iter().map(|tool| tool.spec().clone()).collect();
        // The registry's checks are the last word on what is a tool.
        let policy = Policy::shipped("production").map_err(|error| error.to_string())?;
        let registry = Registry::new(Vec::new(), policy).map_err(|error| error.to_string())?;
        let refused = left_out(&registry.learn(name, tools));
        specs.retain(|spec| refused.iter().all(|(name, _)| *name != spec.name));
        server.note_left_out(refused);
        Ok(Trial {
            server: server.shown(0),
            specs,
            answers,
        })
    }
}

/// What came of trying a server out.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The server, with its tools.
    pub server: ToolServer,
    /// Its tools as agents are told of them.
    pub specs: Vec<ToolSpec>,
    /// The answers to the calls, as the server gave them.
    pub answers: Vec<Result<Value, String>>,
}

#[async_trait]
impl netra_tools::UserTools for Servers {
    async fn of(&self, ctx: &UserExecutionContext) -> Vec<Source> {
        match &self.own {
            Some(own) => own.of(ctx).await,
            None => Vec::new(),
        }
    }
}

#[async_trait]
impl netra_tools::ToolServers for Servers {
    fn list(&self) -> Vec<ToolServer> {
        let shown = |server: &Arc<Server>| server.shown(self.seats.instances_of(&server.name));
        let own = self.own.iter().flat_map(|own| own.listed());
        let mut all: Vec<_> = self.servers.iter().map(shown).chain(own).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    async fn own(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<OwnToolServer>, netra_store::Error> {
        match &self.own {
            Some(own) => own.list(ctx).await,
            None => Ok(Vec::new()),
        }
    }

    fn judge(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        wanted: PutToolServer,
    ) -> Result<NewToolServer, NotAdded> {
        match &self.own {
            Some(own) => own.judge(ctx, name, wanted),
            None => netra_tools::ToolServers::judge(&(), ctx, name, wanted),
        }
    }

    fn forget_own(&self, user: UserId) {
        self.own.iter().for_each(|own| own.forget(user));
    }

    fn forget(&self, user: UserId) {
        self.forget_own(user);
        self.seats.forget(user);
    }
}

pub(crate) fn tools(
    server: &Arc<Server>,
    seats: &Arc<Seats>,
    offers: Offers,
) -> Vec<Arc<dyn Tool>> {
    let tool = |offer| -> Arc<dyn Tool> {
        Arc::new(ServerTool {
            offer,
            server: Arc::clone(server),
            seats: Arc::clone(seats),
        })
    };
    offers.taken.into_iter().map(tool).collect()
}

/// The asking of one server.
struct Learning {
    server: Arc<Server>,
    seats: Arc<Seats>,
    secrets: Arc<ServerSecrets>,
    registry: Arc<Registry>,
}

impl Learning {
    async fn go_on(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let opened = Opened::for_nobody(&self.server, &self.secrets);
            let offers = match &opened {
                Ok(opened) => self.server.offers(None, opened).await,
                Err(why) => Err(why.clone()),
            };
            match offers {
                Ok(offers) => {
                    self.learn(offers);
                    pause = FIRST_PAUSE;
                    self.server.changed.notified().await;
                    tokio::time::sleep(CALM).await;
                }
                Err(why) => {
                    let name = &self.server.name;
                    tracing::warn!(mcp.server = name, why, "a tool server does not answer");
                    self.server.note_away(&why);
                    self.registry.away(name, &why);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    fn learn(&self, offers: Offers) {
        let count = offers.taken.len();
        let tools = tools(&self.server, &self.seats, offers);
        let refused = self.registry.learn(&self.server.name, tools);
        self.server.note_left_out(left_out(&refused));
        tracing::info!(
            mcp.server = self.server.name,
            tools = count,
            "a tool server has answered"
        );
    }
}

/// What the registry has not taken, by name, with the reason.
pub(crate) fn left_out(refused: &[InvalidTool]) -> Vec<(String, String)> {
    let named = |problem: &InvalidTool| match problem {
        InvalidTool::Duplicate(name)
        | InvalidTool::Name(name)
        | InvalidTool::Schema { name, .. } => (name.clone(), problem.to_string()),
    };
    refused.iter().map(named).collect()
}
