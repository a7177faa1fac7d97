//! The server that a command talks to: named, found by its data folder, or private.

use std::path::Path;
use std::time::Duration;

use netra_client::Client;
use netra_store::DirLock;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::exit::Problem;
use crate::node::{self, Node};
use crate::server_file::ServerFile;

/// Life of the token for one command: longer than any run may take.
const TOKEN_TTL: Duration = Duration::from_secs(4 * 60 * 60);
/// How long to wait for a server that holds the folder and does not answer yet.
const STARTING: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A client, and the private server behind it where there is one.
pub(super) struct Connection {
    pub(super) client: Client,
    private: Option<Node>,
}

impl Connection {
    /// To a server that was named.
    pub(super) fn to(server: &str, token: String) -> Result<Self, Problem> {
        Ok(Self {
            client: Client::new(server, Some(token))?,
            private: None,
        })
    }

    /// To the server of this data folder, as this user, who is made on first use. Starts a private
    /// server when none holds the folder.
    pub(super) async fn by_folder(config: Config, user: &str) -> Result<Self, Problem> {
        let dir = config.data.clone();
        let deadline = tokio::time::Instant::now() + STARTING;
        loop {
            if let Some(address) = answering(&dir).await {
                let token = token(&config, user).await?;
                return Ok(Self {
                    client: Client::new(&address, Some(token))?,
                    private: None,
                });
            }
            match Box::pin(Node::start(config.clone())).await {
                Ok(node) => {
                    let token = token(&config, user).await?;
                    let client = Client::new(node.url(), Some(token))?;
                    return Ok(Self {
                        client,
                        private: Some(node),
                    });
                }
                // Another program has the lock: its server is about to be ready, or to stop.
                Err(node::Error::DataInUse { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the server is this command's own and ends with it.
    pub(super) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Stops the private server, if there is one.
    pub(super) async fn close(self) {
        if let Some(node) = self.private {
            node.stop().await;
        }
    }
}

/// The address in the folder's `server.json`, if the folder is held and a server answers there.
///
/// A killed server leaves its file behind, and anybody may listen at its address by now; the lock
/// tells, since whoever takes it removes such a file before anything else.
async fn answering(dir: &Path) -> Option<String> {
    if DirLock::take(dir).is_ok() {
        return None;
    }
    let file = ServerFile::read(dir)?;
    let client = Client::new(&file.address, None).ok()?;
    let request = client.request(netra_client::Method::GET, "/health/live");
    client
        .send(request.timeout(Duration::from_secs(2)))
        .await
        .ok()?;
    Some(file.address)
}

async fn token(config: &Config, user: &str) -> Result<String, Problem> {
    let accounts = Accounts::open(config)?;
    let user = accounts.find_or_create(user).await?;
    accounts.token(&user, TOKEN_TTL)
}
