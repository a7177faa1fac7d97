//! The public web, and nothing of the server's own network: what a user or an agent names may come from a stranger.
//!
//! [`address`] says which addresses are public, [`target`] which URLs may be asked for, and the clients that are made
//! here connect to no address but a judged one. The judge is the client's own resolver: a name is looked up once for
//! each connection and never before it.

mod address;
pub(crate) mod target;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::ClientBuilder;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

pub use target::{Destination, Refusal, Target, place_of};

use target::Rules;

/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What servers know us by.
const USER_AGENT: &str = concat!("netra/", env!("CARGO_PKG_VERSION"));

/// The way to the public web, and to what the operator opens besides. Shared by all users and without memory.
#[derive(Clone)]
pub struct PublicWeb {
    rules: Rules,
    names: Arc<dyn Resolve>,
}

impl PublicWeb {
    /// With what the operator opens of the own network.
    pub fn new(allow: Vec<Destination>) -> Self {
        Self::under(Rules::of_server(allow), Arc::new(SystemNames))
    }

    /// `names` finds the addresses of a host.
    pub(crate) fn under(rules: Rules, names: Arc<dyn Resolve>) -> Self {
        Self { rules, names }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Judges a URL as a user or an agent writes it.
    ///
    /// # Errors
    /// Why it is not to be asked.
    pub fn judge(&self, url: &str) -> Result<Target, Refusal> {
        Target::of(url, &self.rules)
    }

    /// The makings of a client for this target and those like it: it follows no redirects, and where the target is not
    /// opened by the operator, it connects to public addresses only.
    pub fn client_for(&self, target: &Target) -> ClientBuilder {
        self.client(target.is_opened)
    }

    pub(crate) fn client(&self, opened: bool) -> ClientBuilder {
        let may_connect = if opened {
            |_: IpAddr| true
        } else {
            self.rules.may_connect
        };
        let judge = Judge {
            names: Arc::clone(&self.names),
            may_connect,
        };
        ClientBuilder::new()
            .user_agent(USER_AGENT)
            .dns_resolver(Arc::new(judge))
            // A proxy would look names up itself, past the judge.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_LIMIT)
    }
}

/// Gives a connection only addresses that it may go to.
struct Judge {
    names: Arc<dyn Resolve>,
    may_connect: fn(IpAddr) -> bool,
}

impl Resolve for Judge {
    fn resolve(&self, name: Name) -> Resolving {
        let found = self.names.resolve(name);
        let may_connect = self.may_connect;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = found.await?.collect();
            if addresses.is_empty() {
                return Err("it has no address".into());
            }
            // One that is not public among them, and the name is not one of the public internet.
            if !addresses.iter().all(|address| may_connect(address.ip())) {
                return Err(Refusal("it leads to an address that is not public".into()).into());
            }
            // The URL's port, whatever the resolver says.
            let addresses = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address.ip(), 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Names as the machine knows them.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
