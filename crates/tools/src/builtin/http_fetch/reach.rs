//! Requests to the public web, and what the lack of an answer means.

use std::error::Error as _;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response};

use super::{Reason, failed};
use crate::public_web::target::Rules;
use crate::public_web::{PublicWeb, Refusal, Target};
use netra_protocol::Failure;

/// Makes requests. Shared by all users and without memory: it keeps neither cookies nor connections, so nothing of one
/// user's request is there in another's.
pub(super) struct Reach {
    web: PublicWeb,
    judged: Client,
    opened: Client,
}

impl Reach {
    pub(super) fn new(web: PublicWeb) -> reqwest::Result<Self> {
        Ok(Self {
            judged: client(&web, false)?,
            opened: client(&web, true)?,
            web,
        })
    }

    pub(super) fn rules(&self) -> &Rules {
        self.web.rules()
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

fn client(web: &PublicWeb, opened: bool) -> reqwest::Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let client = web.client(opened).default_headers(headers);
    client.pool_max_idle_per_host(0).build()
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
