//! All tool servers: they are asked for their tools in the background, and asked again when they
//! did not answer or say that something has changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::OptionFuture;
use netra_context::runtime::TaskKind;
use netra_context::{Runtime, UserExecutionContext};
use netra_protocol::id::UserId;
use netra_protocol::tool::{OwnToolServer, PutToolServer, ToolServer, ToolServerScope};
use netra_store::NewToolServer;
use netra_store::secret::ServerSecrets;
use netra_tools::{InvalidTool, NotAdded, Policy, Registry, Source, Tool, ToolSpec};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::config::Config;
use crate::instance::Instance;
use crate::offer::Offers;
use crate::opened::Opened;
use crate::own::{Own, Users};
use crate::program::Programs;
use crate::seats::Seats;
use crate::server::{Known, Server};
use crate::tool::ServerTool;

/// How often idle instances are looked for.
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
        let known = Known::of(&offers);
        let tools = tools(server, &self.seats, offers);
        let mut specs: Vec<ToolSpec> = tools.iter().map(|tool| tool.spec().clone()).collect();
        // The registry's checks are the last word on what is a tool.
        let policy = Policy::shipped("production").map_err(|error| error.to_string())?;
        let registry = Registry::new(Vec::new(), policy).map_err(|error| error.to_string())?;
        let refused = left_out(&registry.learn(name, tools));
        specs.retain(|spec| refused.iter().all(|(name, _)| *name != spec.name));
        server.note_known(known, refused);
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
            let seated = self.seated().await;
            let gone = seated.as_ref().map(|instance| instance.gone());
            match self.ask(seated).await {
                Ok(offers) => {
                    self.learn(offers);
                    pause = FIRST_PAUSE;
                    let calm = Instant::now() + CALM;
                    tokio::select! {
                        () = self.server.changed.notified() => {}
                        // What an instance has said of itself holds as long as it is there.
                        Some(()) = OptionFuture::from(gone) => {}
                    }
                    tokio::time::sleep_until(calm).await;
                }
                Err(why) => {
                    let name = &self.server.name;
                    tracing::warn!(mcp.server = name, why, "a tool server does not answer");
                    self.registry.away(name, &why);
                    self.server.note_away(&why);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// The instance that everybody has, where there is one.
    async fn seated(&self) -> Option<Arc<Instance>> {
        match self.server.config.scope {
            ToolServerScope::Shared => self.seats.seated(&self.server, None).await,
            ToolServerScope::User | ToolServerScope::Run => None,
        }
    }

    async fn ask(&self, seated: Option<Arc<Instance>>) -> Result<Offers, String> {
        let opened = Opened::for_nobody(&self.server, &self.secrets)?;
        self.server.offers(seated, None, &opened).await
    }

    fn learn(&self, offers: Offers) {
        let (known, count) = (Known::of(&offers), offers.taken.len());
        let tools = tools(&self.server, &self.seats, offers);
        let refused = self.registry.learn(&self.server.name, tools);
        self.server.note_known(known, left_out(&refused));
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

#[cfg(test)]
mod tests {
    use netra_protocol::tool::ToolServerState;

    use super::*;
    use crate::scripted_tests::{self, NAME, Scripted, policy, registry, sprout, user};

    /// Longer than whatever is asked because of a change takes.
    const LONG: Duration = CALM.saturating_mul(4);
    const LEAF: &str = "fake__leaf";

    fn servers(runtime: &Runtime, scope: ToolServerScope) -> (Servers, Arc<Scripted>) {
        let (config, programs, scripted) = scripted_tests::server(runtime, scope);
        let config = Config {
            servers: [(NAME.to_owned(), config)].into(),
            ..Config::default()
        };
        let secrets = Arc::new(ServerSecrets::default());
        (Servers::new(runtime, config, &programs, &secrets), scripted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_of_everybodys_instance_is_there_until_that_ends() {
        let runtime = Runtime::new();
        let (servers, scripted) = servers(&runtime, ToolServerScope::Shared);
        let registry = registry();
        servers.expect(&registry);
        servers.begin(&registry);
        registry.settled(&[LEAF.to_owned()]).await;
        let seat = servers.seats.of(&servers.servers[0], None);
        sprout(&user(&runtime), &servers.seats, &seat).await;
        tokio::time::sleep(LONG).await;
        assert!(registry.get(LEAF).is_some(), "the tool has vanished");
        assert_eq!(scripted.listed(), [0, 1], "it was asked twice");
        servers.seats.clear();
        tokio::time::sleep(LONG).await;
        assert!(registry.get(LEAF).is_none(), "nobody has the tool any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_of_one_users_instance_is_there_until_that_ends() {
        let runtime = Runtime::new();
        let (servers, scripted) = servers(&runtime, ToolServerScope::User);
        let registry = registry();
        servers.expect(&registry);
        servers.begin(&registry);
        registry.settled(&[LEAF.to_owned()]).await;
        let (ada, bob) = (user(&runtime), user(&runtime));
        let seat = servers.seats.of(&servers.servers[0], ada.user_id());
        sprout(&ada, &servers.seats, &seat).await;
        drop(seat);
        tokio::time::sleep(LONG).await;
        let has = async |ctx: &UserExecutionContext| {
            let tools = registry.list_for(ctx).await;
            tools.iter().any(|tool| tool.name == LEAF)
        };
        assert!(has(&ada).await && !has(&bob).await);
        let mut listed = scripted.listed();
        listed.sort_unstable();
        assert_eq!(listed, [0, 1, 2], "the user's one, and a fresh one again");
        servers.seats.clear();
        tokio::time::sleep(LONG).await;
        assert!(!has(&ada).await, "nobody has the tool any more");
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_whose_answer_nobody_takes_is_not_asked() {
        let runtime = Runtime::new();
        let (servers, scripted) = servers(&runtime, ToolServerScope::User);
        let registry = registry();
        registry.expect_of_users([NAME.to_owned()]);
        servers.seats.tell(&registry);
        let ctx = user(&runtime);
        let seat = servers.seats.of(&servers.servers[0], ctx.user_id());
        sprout(&ctx, &servers.seats, &seat).await;
        tokio::time::sleep(LONG).await;
        assert!(scripted.listed().is_empty(), "{:?}", scripted.listed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_not_shown_as_ready_before_its_tools_are_there() {
        let runtime = Runtime::new();
        let (servers, _) = servers(&runtime, ToolServerScope::User);
        let server = &servers.servers[0];
        let state = || server.shown(0).state;
        let offers = server.offers(None, None, &Opened::default()).await;
        assert_eq!(offers.unwrap().taken.len(), 1);
        assert_eq!(state(), ToolServerState::Starting);
        let registry = registry();
        servers.expect(&registry);
        servers.begin(&registry);
        registry.settled(&[LEAF.to_owned()]).await;
        assert!(registry.get("fake__sprout").is_some());
        assert_eq!(state(), ToolServerState::Ready);
        assert_eq!(server.shown(0).title.as_deref(), Some("scripted 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_of_a_node_that_has_stopped_are_gone_and_all_that_they_hold() {
        let runtime = Runtime::new();
        let (servers, _) = servers(&runtime, ToolServerScope::Shared);
        let (servers, tools) = (Arc::new(servers), Registry::new(Vec::new(), policy()));
        let of_users = Arc::clone(&servers) as _;
        let registry = Arc::new(tools.unwrap().with_tools_of_users(of_users));
        servers.expect(&registry);
        servers.begin(&registry);
        registry.settled(&[LEAF.to_owned()]).await;
        assert_eq!(runtime.drain(LONG).await, 0);
        let seats = Arc::downgrade(&servers.seats);
        drop((servers, registry));
        assert!(seats.upgrade().is_none(), "they hold each other");
    }

    #[test]
    fn what_instances_are_given_is_not_made_anew_for_each_call() {
        let (servers, _) = servers(&Runtime::new(), ToolServerScope::User);
        let server = &servers.servers[0];
        assert!(Arc::ptr_eq(&server.plain(), &server.plain()));
    }
}
