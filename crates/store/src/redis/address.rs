//! Where Redis is, and who connects: a URL as `redis-cli` takes it.

use std::fmt;
use std::time::Duration;

use fred::clients::Client;
use fred::types::Builder;
use fred::types::config::{Config, ServerConfig, TcpConfig, TlsConnector};
use netra_context::Secret;

use crate::error::Error;

/// How long a connection may take to be made, with TLS and the password.
pub(super) const CONNECT: Duration = Duration::from_secs(2);
/// How long any command may take.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Commands that may wait to be sent; further ones fail.
const COMMANDS: usize = 4_096;
/// Messages that may wait to be read; whoever reads too late is told that some are lost.
const MESSAGES: usize = 1_024;

const PORT: u16 = 6379;

/// Where the nodes' Redis is, and who connects.
#[derive(Clone)]
pub struct Redis {
    host: String,
    port: u16,
    is_tls: bool,
    user: Option<String>,
    password: Option<Secret>,
    database: Option<u8>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({self})")
    }
}

impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Redis {
    /// Reads `redis://user:password@host:port/database`, with `rediss` for TLS. All but the host may be left out.
    ///
    /// # Errors
    /// `Unavailable`, with what is wrong with the URL, and without the URL.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::Unavailable(format!(
                "the URL of Redis {why}; it is redis://user:password@host:port/database, with rediss for TLS"
            ))
        };
        let url =
            url::Url::parse(url).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
        let is_tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(wrong("is not one of Redis")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has parameters, and none is known"));
        }
        let decoded = |text: &str| {
            let bytes = percent_encoding::percent_decode_str(text);
            let text = bytes.decode_utf8().map_err(|_| wrong("is not UTF-8"))?;
            Ok::<_, Error>(text.into_owned())
        };
        let host = decoded(url.host_str().unwrap_or_default())?;
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let user = decoded(url.username())?;
        let password = url.password().map(decoded).transpose()?;
        let database = match url.path().trim_matches('/') {
            "" => None,
            number => Some(
                number
                    .parse()
                    .map_err(|_| wrong("names a database that is no number from 0 to 255"))?,
            ),
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(PORT),
            is_tls,
            user: Some(user).filter(|user| !user.is_empty()),
            password: password.filter(|it| !it.is_empty()).map(Secret::new),
            database,
        })
    }

    /// A client that is not connected yet, and gives up where its connection breaks: whoever has it makes another.
    pub(super) fn client(&self) -> Result<Client, fred::error::Error> {
        let tls = self.is_tls.then(TlsConnector::default_rustls).transpose()?;
        let config = Config {
            server: ServerConfig::new_centralized(self.host.clone(), self.port),
            username: self.user.clone(),
            password: self.password.as_ref().map(|it| it.expose().to_owned()),
            database: self.database,
            tls: tls.map(Into::into),
            fail_fast: true,
            ..Config::default()
        };
        let mut builder = Builder::from_config(config);
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT;
                connection.internal_command_timeout = CONNECT;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = COMMANDS;
                connection.tcp = TcpConfig {
                    nodelay: Some(true),
                    ..TcpConfig::default()
                };
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = ANSWER;
                performance.broadcast_channel_capacity = MESSAGES;
            });
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_as_whom() {
        let all = Redis::parse("rediss://netra:p%40ss@cache.example:6380/3").unwrap();
        assert_eq!(all.to_string(), "cache.example:6380");
        assert_eq!((all.is_tls, all.database), (true, Some(3)));
        assert_eq!(all.user.as_deref(), Some("netra"));
        assert_eq!(all.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert!(!format!("{all:?}").contains("p@ss"));
        let least = Redis::parse("redis://:pass@[::1]").unwrap();
        assert_eq!(least.to_string(), "::1:6379");
        assert_eq!((least.is_tls, least.database), (false, None));
        assert_eq!(least.user, None);
        assert!(least.password.is_some());
        assert!(Redis::parse("redis://:@h").unwrap().password.is_none());
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_being_shown() {
        for bad in [
            "",
            "netra",
            "http://u:hidden@h",
            "redis://:hidden@",
            "redis://u:hidden@h/many",
            "redis://u:hidden@h/256",
            "redis://u:hidden@h?protocol=3",
        ] {
            let error = Redis::parse(bad).unwrap_err().to_string();
            assert!(error.contains("rediss for TLS"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
