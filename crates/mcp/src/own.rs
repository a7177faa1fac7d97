//! Tool servers that are asked for each user by oneself: those that users have added, and those of the configuration
//! that want a secret which only users have.
//!
//! They are asked when their user needs them, with what that user has, and what they say is that user's alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use netra_context::programs::Owner;
use netra_context::{Principal, Runtime, UserExecutionContext};
use netra_protocol::id::UserId;
use netra_protocol::tool::{OwnToolServer, PutToolServer, ToolServer, ToolServerState};
use netra_store::{NewToolServer, Secrets, Store, UserToolServer};
use netra_tools::{NotAdded, OF_USERS, Policy, PublicWeb, Source};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{Address, MAX_OWN_NAME, Place, ServerConfig, check_own_name};
use crate::opened::Opened;
use crate::program::Programs;
use crate::seats::Seats;
use crate::server::{Known, Server};
use crate::servers::{left_out, tools};

/// How long what a server has said is taken for what it would say now.
const FRESH: Duration = Duration::from_secs(300);
/// How long until a server that did not answer is asked again, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// What is needed to know users' own servers.
pub struct Users {
    /// Where they are kept.
    pub store: Store,
    /// What they are given.
    pub secrets: Secrets,
    /// How they are reached.
    pub web: PublicWeb,
    /// Who may have some.
    pub policy: Arc<Policy>,
}

/// All users' own servers, as far as their users have been here.
pub(crate) struct Own {
    runtime: Runtime,
    users: Users,
    programs: Arc<dyn Programs>,
    seats: Arc<Seats>,
    /// Of the configuration: each user is asked for by oneself.
    configured: Vec<(String, ServerConfig)>,
    known: Mutex<HashMap<UserId, OfUser>>,
}

struct OfUser {
    links: HashMap<String, Arc<Link>>,
    used: Instant,
}

/// One server of one user.
struct Link {
    server: Arc<Server>,
    /// What the user has put; none for one of the configuration.
    put: Option<UserToolServer>,
    learnt: tokio::sync::Mutex<Option<Learnt>>,
}

/// What a server has said, or that it does not answer.
struct Learnt {
    source: Source,
    until: Instant,
    /// How long it was left alone after it did not answer.
    pause: Option<Duration>,
}

impl Own {
    pub(crate) fn new(
        runtime: &Runtime,
        users: Users,
        programs: Arc<dyn Programs>,
        seats: Arc<Seats>,
        configured: Vec<(String, ServerConfig)>,
    ) -> Self {
        Self {
            runtime: runtime.clone(),
            users,
            programs,
            seats,
            configured,
            known: Mutex::default(),
        }
    }

    /// What this user's servers have now.
    pub(crate) async fn of(&self, ctx: &UserExecutionContext) -> Vec<Source> {
        let Some(principal) = ctx.principal() else {
            return Vec::new();
        };
        match self.links(ctx, principal.user_id).await {
            Ok(links) => join_all(links.iter().map(|link| self.ask(ctx, principal, link))).await,
            Err(error) => {
                tracing::error!(%error, "the tool servers of a user cannot be read");
                Vec::new()
            }
        }
    }

    /// The names of those of the configuration.
    pub(crate) fn configured(&self) -> impl Iterator<Item = &String> {
        self.configured.iter().map(|(name, _)| name)
    }

    /// Those of the configuration, as admins see them: nothing that one user's instance has said.
    pub(crate) fn listed(&self) -> impl Iterator<Item = ToolServer> {
        let shown = |(name, config): &(String, ServerConfig)| ToolServer {
            name: name.clone(),
            transport: config.place.transport(),
            scope: config.scope,
            state: ToolServerState::PerUser,
            problem: None,
            title: None,
            protocol: None,
            tools: Vec::new(),
            left_out: Vec::new(),
            instances: u32::try_from(self.seats.instances_of(name)).unwrap_or(u32::MAX),
            crashes: 0,
        };
        self.configured.iter().map(shown)
    }

    /// Those that this user has added.
    pub(crate) async fn list(
        &self,
        ctx: &UserExecutionContext,
    ) -> Result<Vec<OwnToolServer>, netra_store::Error> {
        let principal = ctx.principal().ok_or(netra_store::Error::NotFound)?;
        let mut links = self.links(ctx, principal.user_id).await?;
        links.retain(|link| link.put.is_some());
        join_all(links.iter().map(|link| self.ask(ctx, principal, link))).await;
        let shown = |link: &Arc<Link>| Some(link.server.shown_own(link.put.clone()?));
        let mut shown: Vec<_> = links.iter().filter_map(shown).collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(shown)
    }

    /// Whether this user may add such a server.
    pub(crate) fn judge(
        &self,
        ctx: &UserExecutionContext,
        name: &str,
        wanted: PutToolServer,
    ) -> Result<NewToolServer, NotAdded> {
        check_own_name(name).map_err(|words| NotAdded::Invalid {
            field: "name",
            rule: match name.len() {
                ..=MAX_OWN_NAME => "pattern ^[a-z](_?[a-z0-9])*$",
                _ => "maxLength 21",
            },
            words,
        })?;
        let secrets = wanted.headers.clone();
        let address = Address::of_user(&self.users.web, &wanted.url, secrets)?;
        let host = host_of(&address);
        let no_user = || NotAdded::Forbidden("no user asks".to_owned());
        let principal = ctx.principal().ok_or_else(no_user)?;
        self.may_connect(principal, &format!("{OF_USERS}{name}"), &address)
            .map_err(NotAdded::Forbidden)?;
        Ok(NewToolServer {
            name: name.to_owned(),
            url: address.url,
            host,
            headers: wanted.headers,
        })
    }

    fn may_connect(
        &self,
        principal: &Principal,
        source: &str,
        address: &Address,
    ) -> Result<(), String> {
        let (url, host) = (address.url.as_str(), host_of(address));
        self.users
            .policy
            .may_connect(principal, source, (url, &host))
    }

    /// The user's servers as they are put now. What is known of those that are no more, or are others now, is gone.
    async fn links(
        &self,
        ctx: &UserExecutionContext,
        user: UserId,
    ) -> Result<Vec<Arc<Link>>, netra_store::Error> {
        let put = self.users.store.tool_servers(ctx).await?;
        if put.is_empty() && self.configured.is_empty() {
            self.forget(user);
            return Ok(Vec::new());
        }
        let mut known = self.known.lock();
        let of_user = known.entry(user).or_insert_with(|| OfUser {
            links: HashMap::new(),
            used: Instant::now(),
        });
        of_user.used = Instant::now();
        let mut before = std::mem::take(&mut of_user.links);
        let now = &mut of_user.links;
        for (name, config) in &self.configured {
            let link = before.remove(name);
            let make = || self.link(name.clone(), config.clone(), None);
            now.insert(name.clone(), link.unwrap_or_else(make));
        }
        for put in put {
            let source = format!("{OF_USERS}{}", put.name);
            let link = match before.remove(&source) {
                Some(link) if link.put.as_ref() == Some(&put) => link,
                old => {
                    old.iter().for_each(|old| self.seats.close(&old.server));
                    let (url, headers) = (&put.url, put.headers.clone());
                    // What the operator has opened may have been closed since.
                    match Address::of_user(&self.users.web, url, headers) {
                        Ok(address) => {
                            let config = ServerConfig::of_user(address);
                            self.link(source.clone(), config, Some(put))
                        }
                        Err(NotAdded::Invalid { words: why, .. } | NotAdded::Forbidden(why)) => {
                            tracing::warn!(
                                mcp.server = source,
                                why,
                                "a user's tool server is left out"
                            );
                            continue;
                        }
                    }
                }
            };
            now.insert(source, link);
        }
        let gone = before.into_values();
        gone.for_each(|link| self.seats.close(&link.server));
        Ok(now.values().cloned().collect())
    }

    fn link(&self, source: String, config: ServerConfig, put: Option<UserToolServer>) -> Arc<Link> {
        let programs = Arc::clone(&self.programs);
        let server = Server::new(&self.runtime, source, config, programs);
        Arc::new(Link {
            server: Arc::new(server),
            put,
            learnt: tokio::sync::Mutex::default(),
        })
    }

    /// What a server of the user has, by its own words where they are not known or old.
    async fn ask(&self, ctx: &UserExecutionContext, principal: &Principal, link: &Link) -> Source {
        let server = &link.server;
        if let (Some(_), Place::Http(address)) = (&link.put, &server.config.place)
            && let Err(why) = self.may_connect(principal, &server.name, address)
        {
            server.note_away(&why);
            return Source::away(&server.name, &why);
        }
        let mut learnt = link.learnt.lock().await;
        if server.changed.notified().now_or_never().is_some()
            && let Some(known) = learnt.as_mut().filter(|known| known.pause.is_none())
        {
            // Until it has been asked for that, however often that takes.
            known.until = Instant::now();
        }
        if let Some(known) = learnt.as_ref().filter(|known| Instant::now() < known.until) {
            if known.pause.is_none() {
                server.note_here();
            }
            return known.source.clone();
        }
        let opened = match Opened::for_user(server, ctx, &self.users.secrets).await {
            Ok(opened) => opened,
            // Whoever asks next may be allowed to, or have put the secret.
            Err(why) => {
                server.note_away(&why);
                return Source::away(&server.name, &why);
            }
        };
        let seated = self.seats.seated(server, Some(principal.user_id)).await;
        let (source, pause) = match server.offers(seated, Owner::of(ctx), &opened).await {
            Ok(offers) => {
                let known = Known::of(&offers);
                let tools = tools(server, &self.seats, offers);
                let (source, refused) = Source::here(&server.name, tools);
                server.note_known(known, left_out(&refused));
                (source, None)
            }
            Err(why) => {
                tracing::info!(
                    mcp.server = server.name,
                    why,
                    "a user's tool server does not answer"
                );
                server.note_away(&why);
                let before = learnt.as_ref().and_then(|known| known.pause);
                let pause = before.map_or(FIRST_PAUSE, |before| (before * 2).min(MAX_PAUSE));
                (Source::away(&server.name, &why), Some(pause))
            }
        };
        *learnt = Some(Learnt {
            source: source.clone(),
            until: Instant::now() + pause.unwrap_or(FRESH),
            pause,
        });
        source
    }

    /// What is known of this user's servers, and what runs there, ends.
    pub(crate) fn forget(&self, user: UserId) {
        let gone = self.known.lock().remove(&user);
        let links = gone
            .into_iter()
            .flat_map(|of_user| of_user.links.into_values());
        links.for_each(|link| self.seats.close(&link.server));
    }

    /// Lets go of what is known of users who have not been here for long.
    pub(crate) fn sweep(&self) {
        let mut known = self.known.lock();
        known.retain(|_, of_user| of_user.used.elapsed() < FRESH * 2);
    }
}

fn host_of(address: &Address) -> String {
    let judged = address.judged.as_ref();
    judged.map_or_else(String::new, |judged| judged.target.host().to_owned())
}
