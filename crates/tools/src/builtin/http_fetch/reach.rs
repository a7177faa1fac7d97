//! Connections: the address that was judged is the one that is connected to, because the judge is
//! the client's own resolver. A name is looked up once for each connection and never before it.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response};

use super::target::{Refusal, Rules, Target};
use super::{Reason, failed};
use netra_protocol::Failure;

/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What servers know us by.
const USER_AGENT: &str = concat!("netra/", env!("CARGO_PKG_VERSION"));

/// Makes connections under the rules. Shared by all users and without memory: it keeps neither
/// cookies nor connections, so nothing of one user's request is there in another's.
pub(super) struct Reach {
    rules: Rules,
    judged: Client,
    opened: Client,
}

impl Reach {
    /// `names` finds the addresses of a host.
    pub(super) fn new(rules: Rules, names: Arc<dyn Resolve>) -> reqwest::Result<Self> {
        let judge = Judge {
            names: Arc::clone(&names),
            may_connect: rules.may_connect,
        };
        let everything = Judge {
            names,
            may_connect: |_| true,
        };
        Ok(Self {
            rules,
            judged: client(judge)?,
            opened: client(everything)?,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Asks, and gives the answer's head; a redirect is an answer like any other.
    pub(super) async fn ask(
        &self,
        target: &Target,
        method: Method,
        bearer: Option<HeaderValue>,
    ) -> Result<Response, Failure> {
        let client = if target.is_opened {
            &self.opened
        } else {
            &self.judged
        };
        let mut request = client.request(method, target.url.clone());
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        request.send().await.map_err(|error| {
            let host = target.url.host_str().unwrap_or_default();
            told(&error, host)
        })
    }
}

fn client(judge: Judge) -> reqwest::Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .dns_resolver(Arc::new(judge))
        // A proxy would look names up itself, past the judge.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_LIMIT)
        .build()
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
pub(super) struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// What a request that got no answer means. The library's own text is dropped: it names addresses
/// that are nobody's business.
fn told(error: &reqwest::Error, host: &str) -> Failure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(Refusal(words)) = cause.downcast_ref() {
            return failed(Reason::Refused, format!("{host} is not fetched: {words}"));
        }
        source = cause.source();
    }
    if error.is_timeout() {
        failed(Reason::Timeout, format!("{host} did not answer in time"))
    } else if error.is_connect() {
        let words = format!("{host} cannot be reached: no address, no connection, or no valid TLS");
        failed(Reason::Unreachable, words)
    } else {
        let words = format!("{host} did not answer as HTTP asks for");
        failed(Reason::Unreachable, words)
    }
}
