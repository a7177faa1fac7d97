//! What an operator says of a tool server: how it is reached, whom an instance serves, what its
//! tools may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use netra_protocol::tool::{Risk, ToolServerScope, ToolServerTransport};

/// Headers that the protocol itself sets.
const RESERVED_HEADERS: [&str; 8] = [
    "accept",
    "content-type",
    "content-length",
    "host",
    "last-event-id",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
];
/// The longest name of a server: with `__` it leaves 38 characters for its tools' names.
const MAX_NAME: usize = 24;

/// All tool servers.
#[derive(Debug, Clone)]
pub struct Config {
    /// By name, which begins the names of their tools.
    pub servers: BTreeMap<String, ServerConfig>,
    /// Instances at the same time, of all servers and users.
    pub instances: usize,
    /// Instances of one user at the same time.
    pub instances_per_user: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: BTreeMap::new(),
            instances: 64,
            instances_per_user: 8,
        }
    }
}

/// One tool server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// How it is reached.
    pub place: Place,
    /// Which era of the protocol is spoken.
    pub era: Era,
    /// Whom one instance serves.
    pub scope: ToolServerScope,
    /// What its tools may do, where nothing else is said.
    pub grant: Grant,
    /// What single tools may do, by the name that they have after the prefix.
    pub tools: BTreeMap<String, GrantChange>,
    /// Whether what the server says of its tools (read-only, destructive, idempotent) is believed.
    pub trusts_hints: bool,
    /// How long a start may take.
    pub start: Duration,
    /// How long one call may take, within the user's own limit.
    pub call: Duration,
    /// How long an instance stays that nobody calls.
    pub idle: Duration,
}

impl ServerConfig {
    /// A server at this place, with everything else as where the operator says nothing.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            era: Era::default(),
            scope: ToolServerScope::default(),
            grant: Grant::default(),
            tools: BTreeMap::new(),
            trusts_hints: false,
            start: Duration::from_secs(30),
            call: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

/// How a tool server is reached.
#[derive(Debug, Clone)]
pub enum Place {
    /// A child process in a sandbox.
    Stdio(Command),
    /// Streamable HTTP.
    Http(Address),
}

impl Place {
    pub(crate) const fn transport(&self) -> ToolServerTransport {
        match self {
            Self::Stdio(_) => ToolServerTransport::Stdio,
            Self::Http(_) => ToolServerTransport::Http,
        }
    }
}

/// A program, and what it may reach.
#[derive(Clone)]
pub struct Command {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment.
    pub environment: BTreeMap<String, String>,
    /// Files and folders that it may read, besides those of the system.
    pub read: Vec<PathBuf>,
    /// Files and folders that it may write, besides a folder of its own.
    pub write: Vec<PathBuf>,
    /// Whether it may reach the network.
    pub network: bool,
    /// Memory of it and all that it starts.
    pub memory_mib: u64,
}

// Arguments and environment may hold keys.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

/// Where a server of streamable HTTP answers.
#[derive(Debug, Clone)]
pub struct Address {
    /// With `http://` or `https://`.
    pub url: String,
    /// Sent with every request; their values are never shown.
    pub headers: HeaderMap,
}

impl Address {
    /// A server at this URL, sent these headers.
    ///
    /// # Errors
    /// In words, where a URL or header is none.
    pub fn new(url: &str, headers: &BTreeMap<String, String>) -> Result<Self, String> {
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("url: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err("url: it must begin with http:// or https:// and name a host".to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("url: put credentials into a header, not into the address".to_owned());
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let (name, value) = header(name, value)?;
            map.insert(name, value);
        }
        Ok(Self {
            url: parsed.into(),
            headers: map,
        })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = HeaderName::try_from(name)
        .map_err(|_| format!("headers: {name:?} is no name of a header"))?;
    if RESERVED_HEADERS.contains(&parsed.as_str()) {
        return Err(format!("headers: {name} is set by the protocol itself"));
    }
    // The value is not told: it may be a key.
    let mut value = HeaderValue::try_from(value)
        .map_err(|_| format!("headers.{name}: the value cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

/// Which era of the protocol is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Era {
    /// The newest that the server knows: it is asked.
    #[default]
    Newest,
    /// 2025-11-25 and before: a handshake, then a session.
    Sessions,
    /// 2026-07-28: every request stands by itself.
    Stateless,
}

/// What a tool may do, and what is asked before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The named permission that a caller needs.
    pub permission: String,
    /// How much harm it can do.
    pub risk: Risk,
    /// Whether a person is asked before each call.
    pub needs_approval: bool,
    /// Whether calling it twice does no harm.
    pub idempotent: bool,
}

impl Default for Grant {
    fn default() -> Self {
        Self {
            permission: "external".to_owned(),
            risk: Risk::Medium,
            needs_approval: false,
            idempotent: false,
        }
    }
}

/// What is said of one tool in place of what is said of its server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantChange {
    /// Another permission.
    pub permission: Option<String>,
    /// Another risk.
    pub risk: Option<Risk>,
    /// Whether a person is asked.
    pub needs_approval: Option<bool>,
    /// Whether calling it twice does no harm.
    pub idempotent: Option<bool>,
    /// Whether it is there at all.
    pub offered: Option<bool>,
}

/// Whether a server may be named so.
///
/// # Errors
/// In words, where it may not.
pub fn check_name(name: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let ends_well = !name.ends_with('_') && !name.contains("__");
    if begins_well && ends_well && name.bytes().all(good) && name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a tool server's name: a lower-case letter, then letters, digits or \
         single `_`, at most {MAX_NAME} in all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_leave_no_doubt_where_the_tools_name_begins() {
        for good in ["a", "git", "my_files2", &"x".repeat(24)] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "Git", "1st", "a__b", "a_", "a-b", &"x".repeat(25)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_carry_no_credentials_and_headers_none_of_the_protocol() {
        let with = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            Address::new("https://tools.example/mcp", &headers)
        };
        let good = with("Authorization", "Bearer s3cret").unwrap();
        assert!(!format!("{good:?}").contains("s3cret"));
        for (name, value) in [("Mcp-Session-Id", "x"), ("a b", "x"), ("x-key", "a\nb")] {
            let refused = with(name, value).unwrap_err();
            assert!(!refused.contains("a\nb"), "{refused}");
        }
        for url in ["ftp://x/", "https://u:p@x/", "/mcp", "https://"] {
            assert!(Address::new(url, &BTreeMap::new()).is_err(), "{url}");
        }
    }
}
