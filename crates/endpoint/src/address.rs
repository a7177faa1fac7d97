//! Where an endpoint is, and how Netra says who it is.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName};

/// How long a turn may take where the operator says nothing.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Headers that the protocol itself sets.
const RESERVED: [&str; 6] = [
    "accept",
    "content-type",
    "content-length",
    "host",
    "idempotency-key",
    "netra-run",
];

/// Where an agent answers. Its operator names it, so it may be any host.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub(crate) url: Url,
    pub(crate) header: HeaderName,
    pub(crate) timeout: Duration,
    /// The secret that the header is made of, by its name.
    pub secret: Option<String>,
}

impl Endpoint {
    /// An endpoint without a secret.
    ///
    /// # Errors
    /// In words, where the address is none.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("it must begin with http:// or https:// and name a host".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("put credentials into a secret, not into the address".to_owned());
        }
        Ok(Self {
            url,
            header: AUTHORIZATION,
            timeout: TIMEOUT,
            secret: None,
        })
    }

    /// Sends the secret in this header: after `Bearer ` in `Authorization`, else as it is.
    ///
    /// # Errors
    /// In words, where the header is none or the protocol's own.
    pub fn with_header(mut self, name: &str) -> Result<Self, String> {
        let header = HeaderName::try_from(name).map_err(|_| "it is no name of a header")?;
        if RESERVED.contains(&header.as_str()) {
            return Err("the protocol itself sets this header".to_owned());
        }
        self.header = header;
        Ok(self)
    }

    /// How long one turn may take, from its request to the end of its answer.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What a secret for it has to be bound to: its host, with a port where that is not 443.
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port_or_known_default() {
            Some(443) | None => host.to_owned(),
            Some(port) => format!("{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_its_secret_may_go() {
        let place = |url: &str| Endpoint::new(url).unwrap().place();
        assert_eq!(place("https://agents.example/a"), "agents.example");
        assert_eq!(place("http://agents.example/a"), "agents.example:80");
        assert_eq!(place("http://[::1]:8000"), "[::1]:8000");
    }

    #[test]
    fn what_is_no_address_or_no_header_is_refused() {
        for url in ["", "ftp://a/", "http://me:secret@a/", "/agent", "http://"] {
            let refused = Endpoint::new(url).unwrap_err();
            assert!(!refused.contains("secret@"), "{refused}");
        }
        let endpoint = || Endpoint::new("http://a/").unwrap();
        assert!(endpoint().with_header("X-Key").is_ok());
        for header in ["Content-Type", "Idempotency-Key", "a b", ""] {
            assert!(endpoint().with_header(header).is_err(), "{header}");
        }
    }
}
