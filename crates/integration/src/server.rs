//! A server in the test's own process, with a data folder of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use netra::accounts::{Accounts, NewAccount};
use netra::config::{Config, Layers};
use netra::node::{Further, Node};
use netra_client::Client;
use netra_engine::Agent;
use netra_protocol::account::{Plan, Role, User};
use netra_tools::Tool;

use crate::binary::binary;
use crate::database;
use crate::tool::TestTool;
use crate::user::TestUser;
use crate::{TURN_WAIT, TURN_WAIT_MS};

/// How a server is set up; everything else as by default.
#[derive(Default, Clone)]
pub struct Options {
    settings: Vec<(String, String)>,
    agents: Option<PathBuf>,
    file: Option<PathBuf>,
    tools: Vec<Arc<dyn Tool>>,
    natives: Vec<Arc<dyn Agent>>,
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// One key, such as `limits.steps`, as its environment variable would set it.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        let name = format!("NETRA__{}", key.to_uppercase().replace('.', "__"));
        self.settings.push((name, value.to_string()));
        self
    }

    /// Agents besides the built-in ones.
    #[must_use]
    pub fn agents(mut self, dir: &Path) -> Self {
        self.agents = Some(dir.to_owned());
        self
    }

    /// A configuration file, below all other settings.
    #[must_use]
    pub fn file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// A tool besides the built-in ones.
    #[must_use]
    pub fn tool(mut self, tool: TestTool) -> Self {
        self.tools.push(Arc::new(tool));
        self
    }

    /// An agent in Rust.
    #[must_use]
    pub fn native(mut self, agent: impl Agent + 'static) -> Self {
        self.natives.push(Arc::new(agent));
        self
    }

    /// As variables of an environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    fn config(&self, data: &Path) -> Result<Config> {
        let mut settings = vec![(TURN_WAIT.to_owned(), TURN_WAIT_MS.to_owned())];
        settings.retain(|(name, _)| self.settings.iter().all(|(set, _)| set != name));
        settings.extend(self.settings.clone());
        let mut layers = Layers::new()
            .file(self.file.as_deref())
            .environment([database::settings(data)?, settings].concat())
            .flag("server.listen", "listen", "127.0.0.1:0")
            .flag("data.dir", "data", data.display().to_string())
            // Workers are processes of the binary, not of this test program.
            .flag(
                "workers.program",
                "program",
                binary()?.display().to_string(),
            );
        if let Some(agents) = &self.agents {
            layers = layers.flag("agents.dir", "agents", agents.display().to_string());
        }
        Ok(Config::load(layers)?)
    }
}

/// A server that is ready.
pub struct TestServer {
    node: Node,
    accounts: Accounts,
    config: Config,
    data: tempfile::TempDir,
    users: AtomicU32,
}

impl TestServer {
    /// With the defaults.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::new()).await
    }

    /// With other settings.
    pub async fn start_with(options: Options) -> Result<Self> {
        Self::start_on(tempfile::tempdir()?, options).await
    }

    /// On a data folder that is there already.
    pub async fn start_on(data: tempfile::TempDir, options: Options) -> Result<Self> {
        let config = options.config(data.path())?;
        let further = Further {
            tools: options.tools,
            agents: options.natives,
        };
        let node = Box::pin(Node::start_with(config.clone(), further)).await?;
        let accounts = Accounts::open(&config).map_err(|problem| problem.error)?;
        Ok(Self {
            node,
            accounts,
            config,
            data,
            users: AtomicU32::new(0),
        })
    }

    /// Such as `http://127.0.0.1:40001`.
    pub fn url(&self) -> &str {
        self.node.url()
    }

    /// The set-up link, where there was no user at the start.
    pub fn setup_link(&self) -> Option<&str> {
        self.node.setup_link()
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A client without credentials.
    pub fn anonymous(&self) -> Result<Client> {
        Ok(Client::new(self.url(), None)?)
    }

    /// A new user with a token.
    pub async fn user(&self) -> Result<TestUser> {
        self.user_as(Role::User, None).await
    }

    /// A new user with this role, and a password where it is to sign in by it.
    pub async fn user_as(&self, role: Role, password: Option<&str>) -> Result<TestUser> {
        self.user_on(role, Plan::Free, password).await
    }

    /// The same on this plan.
    pub async fn user_on(
        &self,
        role: Role,
        plan: Plan,
        password: Option<&str>,
    ) -> Result<TestUser> {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let new = NewAccount {
            name: format!("user-{number}"),
            role,
            plan,
            password: password.map(str::to_owned),
        };
        let user = self
            .accounts
            .create(new)
            .await
            .map_err(|problem| problem.error)?;
        let client = self.client_of(&user, Duration::from_secs(3600))?;
        Ok(TestUser {
            id: user.id,
            name: user.name,
            client,
        })
    }

    /// A client of this user whose token is good for so many whole seconds; none for one that has
    /// ended.
    pub async fn client_for(&self, user: &TestUser, ttl: Duration) -> Result<Client> {
        let found = self.accounts.find(&user.name).await;
        let found = found.map_err(|problem| problem.error)?;
        self.client_of(&found.context("the user is there")?, ttl)
    }

    fn client_of(&self, user: &User, ttl: Duration) -> Result<Client> {
        let token = self.accounts.token(user, ttl);
        let token = token.map_err(|problem| problem.error)?;
        Client::new(self.url(), Some(token)).context("the server's address")
    }

    /// Stops the server as a signal would, and gives the data folder back.
    pub async fn stop(self) -> (tempfile::TempDir, usize) {
        drop(self.accounts);
        let left = self.node.stop().await;
        (self.data, left)
    }
}
