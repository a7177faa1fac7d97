//! The server that a command talks to: named, found by its data folder, or private.

use std::path::Path;
use std::time::Duration;

use netra_client::{Access, Client, Error};
use netra_store::DirLock;
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::Folder;
use crate::accounts::Accounts;
use crate::config::{Config, Layers};
use crate::exit::{Exit, Problem};
use crate::logs;
use crate::node::{self, Node};
use crate::server_file::ServerFile;

/// Life of a token, which is renewed before its end.
const TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
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
    pub(super) fn to(client: Client) -> Self {
        Self {
            client,
            private: None,
        }
    }

    /// To the server of this data folder, as this user, who is made on first use. Starts a private
    /// server when none holds the folder.
    pub(super) async fn by_folder(config: Config, user: &str) -> Result<Self, Problem> {
        let dir = config.data.clone();
        let deadline = tokio::time::Instant::now() + STARTING;
        loop {
            if let Some(address) = answering(&dir).await {
                return Ok(Self::to(signed(&address, &config, user).await?));
            }
            match Box::pin(Node::start(config.clone())).await {
                Ok(node) => {
                    return Ok(Self {
                        client: signed(node.url(), &config, user).await?,
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

/// Where a server is to be looked for, each time anew: the one of a folder has another address after
/// each start.
pub(super) enum Whereabouts {
    /// It was named.
    Named(Client),
    /// It holds this folder, and is asked as this user, who is made on first use.
    Folder { config: Box<Config>, user: String },
}

impl Whereabouts {
    /// A client of the server; none when no server holds the folder. Starts none.
    pub(super) async fn look(&self) -> Result<Option<Client>, Problem> {
        match self {
            Self::Named(client) => Ok(Some(client.clone())),
            Self::Folder { config, user } => match answering(&config.data).await {
                Some(address) => Ok(Some(signed(&address, config, user).await?)),
                None => Ok(None),
            },
        }
    }
}

/// Which server a command looks at: one that is named, or that of a folder.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// Address of a server, such as https://netra.example.
    #[arg(long, value_name = "URL", requires = "token", conflicts_with = "data")]
    server: Option<String>,
    /// Access token or API key for --server.
    #[arg(long, env = "NETRA_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    pub(super) folder: Folder,
}

impl Source {
    /// The server that was named, if one was.
    pub(super) fn named(&self) -> Result<Option<Client>, Problem> {
        match (&self.server, &self.token) {
            (Some(server), Some(token)) => Ok(Some(Client::new(server, Some(token.clone()))?)),
            _ => Ok(None),
        }
    }

    pub(super) fn config(&self) -> Result<Config, Problem> {
        self.config_with(|layers| layers)
    }

    /// The folder's configuration, with what a private server is to have besides.
    pub(super) fn config_with(
        &self,
        change: impl FnOnce(Layers) -> Layers,
    ) -> Result<Config, Problem> {
        let layers = self.folder.layers();
        let layers = layers.flag("server.listen", "private", "127.0.0.1:0");
        let config = Config::load(change(layers))?;
        // The server is not what the user looks at: only what is wrong with it is told.
        logs::start(config.log_format, "warn")?;
        Ok(config)
    }

    pub(super) async fn connect(&self, user: &str) -> Result<Connection, Problem> {
        match self.named()? {
            Some(client) => Ok(Connection::to(client)),
            None => Connection::by_folder(self.config()?, user).await,
        }
    }

    pub(super) fn whereabouts(&self, user: &str) -> Result<Whereabouts, Problem> {
        match self.named()? {
            Some(client) => Ok(Whereabouts::Named(client)),
            None => Ok(Whereabouts::Folder {
                config: Box::new(self.config()?),
                user: user.to_owned(),
            }),
        }
    }
}

/// What a command says that looks at a folder and makes none.
pub(super) fn no_folder(dir: &Path) -> Problem {
    let dir = dir.display();
    let words = format!("{dir} is no data folder; `netra serve --data {dir}` makes one");
    Problem::message(Exit::Usage, words)
}

/// The address in the folder's `server.json`, if the folder is held and a server answers there.
async fn answering(dir: &Path) -> Option<String> {
    let file = ServerFile::read(dir)?;
    if !is_held(dir, &file) {
        return None;
    }
    let client = Client::new(&file.address, None).ok()?;
    let request = client.request(netra_client::Method::GET, "/health/live");
    client
        .send(request.timeout(Duration::from_secs(2)))
        .await
        .ok()?;
    Some(file.address)
}

/// Whether the folder's server is the one that wrote the file.
///
/// A killed server leaves its file behind, and anybody may listen at its address by now; the lock
/// tells, since whoever takes it removes such a file before anything else. Where the server's
/// process is not seen, a child of a killed one may hold the lock for a moment: then it is asked for
/// with patience.
fn is_held(dir: &Path, file: &ServerFile) -> bool {
    match is_seen(file.pid) {
        true => DirLock::is_held(dir),
        false => DirLock::take(dir).is_err(),
    }
}

/// Whether this process is there. It may be there unseen, in a container.
fn is_seen(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| {
        let asked = test_kill_process(pid);
        asked.is_ok() || asked == Err(Errno::PERM)
    })
}

/// A client that asks as this user, with tokens that are renewed.
async fn signed(address: &str, config: &Config, user: &str) -> Result<Client, Problem> {
    let first = access(config, user).await?;
    let (config, user) = (config.clone(), user.to_owned());
    let source = move || {
        let (config, user) = (config.clone(), user.clone());
        async move {
            let renewed = access(&config, &user).await;
            // As good as a server that is away: the next attempt may do.
            renewed.map_err(|problem| Error::Unreachable(problem.error.into()))
        }
    };
    Ok(Client::new(address, None)?.with_source(source, Some(first)))
}

async fn access(config: &Config, user: &str) -> Result<Access, Problem> {
    let accounts = Accounts::open(config)?;
    let user = accounts.find_or_create(user).await?;
    Ok(Access::new(accounts.token(&user, TOKEN_TTL)?).lasting(TOKEN_TTL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_a_killed_server_left_behind_is_nobodys_address() {
        let dir = tempfile::tempdir().unwrap();
        let left = |pid| ServerFile {
            address: "http://127.0.0.1:1".into(),
            pid,
        };
        let here = left(std::process::id());
        let published = here.publish(dir.path()).unwrap();
        assert!(!is_held(dir.path(), &here), "nobody has the lock");
        assert_eq!(answering(dir.path()).await, None);
        let lock = DirLock::take(dir.path()).unwrap();
        assert!(is_held(dir.path(), &here));
        assert!(
            is_held(dir.path(), &left(0)),
            "unseen, and the lock is held"
        );
        drop((lock, published));
        assert!(!is_held(dir.path(), &left(0)));
    }

    #[test]
    fn a_process_is_seen_also_when_it_is_anothers() {
        assert!(is_seen(std::process::id()));
        assert!(is_seen(1));
        assert!(!is_seen(0) && !is_seen(u32::MAX));
    }
}
