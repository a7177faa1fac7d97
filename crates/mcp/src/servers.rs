//! All tool servers: they are asked for their tools in the background, and asked again when they
//! did not answer or say that something has changed.

use std::sync::Arc;
use std::time::Duration;

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_protocol::id::UserId;
use netra_protocol::tool::ToolServer;
use netra_tools::{InvalidTool, Policy, Registry, Tool, ToolSpec};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::offer::Offers;
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
const CALM: Duration = Duration::from_secs(5);

/// All tool servers of the configuration.
pub struct Servers {
    runtime: Runtime,
    servers: Vec<Arc<Server>>,
    seats: Arc<Seats>,
}

impl Servers {
    /// Starts nothing yet.
    pub fn new(runtime: &Runtime, config: Config, programs: &Arc<dyn Programs>) -> Self {
        let seats = Seats::new(runtime, config.instances, config.instances_per_user);
        let servers = config.servers.into_iter().map(|(name, config)| {
            Arc::new(Server::new(runtime, name, config, Arc::clone(programs)))
        });
        Self {
            servers: servers.collect(),
            seats: Arc::new(seats),
            runtime: runtime.clone(),
        }
    }

    /// Begins to ask the servers for their tools, which go into the registry, and to look after
    /// instances.
    pub fn begin(&self, registry: &Arc<Registry>) {
        for server in &self.servers {
            let learning = Learning {
                server: Arc::clone(server),
                seats: Arc::clone(&self.seats),
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
        if self.servers.is_empty() {
            return;
        }
        let (seats, shutdown) = (Arc::clone(&self.seats), self.runtime.shutdown().clone());
        self.runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval(SWEEP_EVERY);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break seats.clear(),
                    _ = turns.tick() => seats.sweep(),
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
        let (offers, answers) = server.tried(calls).await?;
        let tools = tools(server, &self.seats, offers);
        let specs = tools.iter().map(|tool| tool.spec().clone()).collect();
        // The registry's checks are the last word on what is a tool.
        let policy = Policy::shipped("production").map_err(|error| error.to_string())?;
        let registry = Registry::new(Vec::new(), policy).map_err(|error| error.to_string())?;
        server.note_left_out(left_out(&registry.learn(name, tools)));
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

impl netra_tools::ToolServers for Servers {
    fn list(&self) -> Vec<ToolServer> {
        let shown = |server: &Arc<Server>| server.shown(self.seats.instances_of(&server.name));
        self.servers.iter().map(shown).collect()
    }

    fn forget(&self, user: UserId) {
        self.seats.forget(user);
    }
}

fn tools(server: &Arc<Server>, seats: &Arc<Seats>, offers: Offers) -> Vec<Arc<dyn Tool>> {
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
    registry: Arc<Registry>,
}

impl Learning {
    async fn go_on(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.server.offers().await {
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
fn left_out(refused: &[InvalidTool]) -> Vec<(String, String)> {
    let named = |problem: &InvalidTool| match problem {
        InvalidTool::Duplicate(name)
        | InvalidTool::Name(name)
        | InvalidTool::Schema { name, .. } => (name.clone(), problem.to_string()),
    };
    refused.iter().map(named).collect()
}
