//! What an operator says of a tool server: how it is reached, whom an instance serves, what its
//! tools may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use netra_context::Secret;
use netra_protocol::tool::{Risk, SecretUse, ToolServerScope, ToolServerTransport};
use netra_store::secret::{MIN_SECRET_BYTES, is_secret_name};
use netra_tools::{NotAdded, OF_USERS, PublicWeb, Target, ToolSpec, place_of};
use serde_json::Value;

/// Headers that the protocol itself sets, or that of HTTP; those of this protocol begin with `mcp-`.
const RESERVED_HEADERS: [&str; 13] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-type",
    "content-length",
    "host",
    "keep-alive",
    "last-event-id",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The longest name of a server: with `__` it leaves 38 characters for its tools' names.
const MAX_NAME: usize = 24;
/// The same of a user's own, whose tools have a prefix besides.
pub(crate) const MAX_OWN_NAME: usize = MAX_NAME - OF_USERS.len();
/// The most headers of a user's server, and the longest prefix in one.
const MAX_HEADERS: usize = 10;
const MAX_PREFIX: usize = 64;
/// The most that a server's list of tools may have, in bytes of JSON, and that of a user's.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;
const MAX_OWN_LIST_BYTES: usize = 256 * 1024;

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
    /// The most that its list of tools may have, in bytes of JSON.
    pub list_bytes: usize,
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
            list_bytes: MAX_LIST_BYTES,
        }
    }

    /// What is granted to the tool that has this name after the server's, to which this is granted without more being
    /// said; none where it is not offered.
    pub(crate) fn granted(&self, own: &str, grant: Grant) -> Option<Grant> {
        let Some(change) = self.tools.get(own) else {
            return Some(grant);
        };
        (change.offered != Some(false)).then(|| Grant {
            permission: change.permission.clone().unwrap_or(grant.permission),
            risk: change.risk.unwrap_or(grant.risk),
            needs_approval: change.needs_approval.unwrap_or(grant.needs_approval),
            idempotent: change.idempotent.unwrap_or(grant.idempotent),
        })
    }

    /// A tool of the server that is named so, as the configuration describes it without the server being asked whether
    /// there is one; none where it is not offered.
    pub fn declared(&self, server: &str, own: &str) -> Option<ToolSpec> {
        let grant = self.granted(own, self.grant.clone())?;
        Some(ToolSpec {
            name: format!("{server}__{own}"),
            description: String::new(),
            input_schema: Value::Bool(true),
            permission: grant.permission,
            risk: grant.risk,
            idempotent: grant.idempotent,
            needs_approval: grant.needs_approval,
        })
    }

    /// The permissions that its tools declare.
    pub fn permissions(&self) -> impl Iterator<Item = &String> {
        let of_tools = self
            .tools
            .values()
            .filter_map(|change| change.permission.as_ref());
        std::iter::once(&self.grant.permission).chain(of_tools)
    }

    /// A server that a user has added.
    pub(crate) fn of_user(address: Address) -> Self {
        Self {
            start: Duration::from_secs(10),
            list_bytes: MAX_OWN_LIST_BYTES,
            ..Self::new(Place::Http(address))
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

    /// What an instance of the server is given as it stands in the configuration, which may be keys: nobody who calls it
    /// is to see them. By the names of variables and headers; what is short enough to be a common word is left out.
    pub fn plain_values(&self) -> Vec<(String, Secret)> {
        match self {
            Self::Stdio(command) => {
                let values = command.environment.iter();
                values
                    .flat_map(|(name, value)| whole_and_word(name, value))
                    .collect()
            }
            Self::Http(address) => {
                let headers = address.headers.iter();
                let text =
                    |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let of_headers =
                    headers.flat_map(|(name, value)| whole_and_word(name.as_str(), &text(value)));
                let secret = address.oauth.iter().map(|oauth| &oauth.client_secret);
                let of_oauth = secret.filter_map(|given| match given {
                    Given::Text(text) => Some(whole_and_word("client_secret", text)),
                    Given::Secret(_) => None,
                });
                of_headers.chain(of_oauth.flatten()).collect()
            }
        }
    }

    /// The names of the secrets that an instance of the server is given, each with what it is bound to.
    pub fn secrets(&self, server: &str) -> BTreeSet<(String, String)> {
        let (used, place) = match self {
            Self::Stdio(command) => (&command.secrets, format!("mcp:{server}")),
            Self::Http(address) => (&address.secrets, address.place.clone()),
        };
        let pair = |used: &SecretUse| (used.secret.clone(), place.clone());
        let mut pairs: BTreeSet<_> = used.values().map(pair).collect();
        if let Self::Http(address) = self
            && let Some(oauth) = &address.oauth
            && let Given::Secret(used) = &oauth.client_secret
        {
            let own = oauth.place().unwrap_or(place);
            pairs.insert((used.secret.clone(), own));
        }
        pairs
    }
}

/// The value by its name, and what follows the name of a scheme in it, as in `Bearer …`.
fn whole_and_word(name: &str, value: &str) -> Vec<(String, Secret)> {
    let word = value.split_once(' ').map(|(_, word)| word.trim());
    let values = std::iter::once(value).chain(word);
    let long = values.filter(|value| value.len() >= MIN_SECRET_BYTES);
    let named = long.map(|value| (name.to_owned(), Secret::new(value)));
    named.collect()
}

/// A program, and what it may reach.
#[derive(Clone)]
pub struct Command {
    /// Its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// All of its environment, but for secrets.
    pub environment: BTreeMap<String, String>,
    /// Variables whose values are secrets.
    pub secrets: BTreeMap<String, SecretUse>,
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
            .field("secrets", &self.secrets)
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
    /// Sent likewise, with a secret as value.
    pub secrets: BTreeMap<String, SecretUse>,
    /// How Netra signs in there in its own name.
    pub oauth: Option<Box<Oauth>>,
    /// What secrets are bound to that go there.
    pub place: String,
    /// A server that a user has named is reached by this way only.
    pub(crate) judged: Option<Box<Judged>>,
}

/// Credentials of a client of OAuth.
#[derive(Debug, Clone)]
pub struct Oauth {
    /// The client's name.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Given,
    /// What the token is to be good for; what the service asks for when absent.
    pub scope: Option<String>,
    /// Where tokens are had; asked of the service when absent.
    pub token_url: Option<String>,
}

impl Oauth {
    /// # Errors
    /// In words, where something of it is none.
    fn check(&self) -> Result<(), String> {
        if let Given::Secret(used) = &self.client_secret
            && !is_secret_name(&used.secret)
        {
            return Err(format!(
                "oauth.client_secret: {:?} is no name of a secret",
                used.secret
            ));
        }
        let Some(url) = &self.token_url else {
            return Ok(());
        };
        let parsed =
            reqwest::Url::parse(url).map_err(|error| format!("oauth.token_url: {error}"))?;
        match matches!(parsed.scheme(), "http" | "https") && parsed.host().is_some() {
            true => Ok(()),
            false => Err("oauth.token_url: it must begin with http:// or https://".to_owned()),
        }
    }

    /// What its secret is bound to, where that is not the service itself.
    fn place(&self) -> Option<String> {
        let url = reqwest::Url::parse(self.token_url.as_deref()?).ok()?;
        Some(place_of(&url))
    }
}

/// A text, or a secret by its name.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// As it is; never shown.
    Text(String),
    /// A user's or the server's.
    Secret(SecretUse),
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::Secret(used) => used.fmt(f),
        }
    }
}

/// A target that was judged, and the way to it.
#[derive(Clone)]
pub(crate) struct Judged {
    pub(crate) web: PublicWeb,
    pub(crate) target: Target,
}

impl std::fmt::Debug for Judged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judged")
    }
}

impl Address {
    /// A server at this URL, sent these headers.
    ///
    /// # Errors
    /// In words, where a URL or header is none.
    pub fn new(
        url: &str,
        headers: &BTreeMap<String, String>,
        secrets: BTreeMap<String, SecretUse>,
    ) -> Result<Self, String> {
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
        secrets.iter().try_for_each(check_secret)?;
        Ok(Self {
            place: place_of(&parsed),
            url: parsed.into(),
            headers: map,
            secrets,
            oauth: None,
            judged: None,
        })
    }

    /// The same, where Netra signs in.
    ///
    /// # Errors
    /// In words, where something of it is none.
    pub fn with_oauth(self, oauth: Oauth) -> Result<Self, String> {
        oauth.check()?;
        Ok(Self {
            oauth: Some(Box::new(oauth)),
            ..self
        })
    }

    /// A server that a user has named.
    ///
    /// # Errors
    /// The field that is wrong, and why in words.
    pub(crate) fn of_user(
        web: &PublicWeb,
        url: &str,
        secrets: BTreeMap<String, SecretUse>,
    ) -> Result<Self, NotAdded> {
        let invalid = |field, rule, words| NotAdded::Invalid { field, rule, words };
        let target = web
            .judge(url)
            .map_err(|refusal| invalid("url", "public_url", refusal.to_string()))?;
        if !target.keeps_secrets() {
            let words =
                "a tool server is reached over https, or at a host that the operator has opened";
            return Err(invalid("url", "public_url", words.to_owned()));
        }
        if secrets.len() > MAX_HEADERS {
            let words = format!("there are at most {MAX_HEADERS} headers");
            return Err(invalid("headers", "maxProperties 10", words));
        }
        secrets
            .iter()
            .try_for_each(check_secret)
            .map_err(|words| invalid("headers", "header", words))?;
        Ok(Self {
            url: target.url().to_owned(),
            headers: HeaderMap::new(),
            secrets,
            oauth: None,
            place: target.place(),
            judged: Some(Box::new(Judged {
                web: web.clone(),
                target,
            })),
        })
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::try_from(name)
        .map_err(|_| format!("headers: {name:?} is no name of a header"))?;
    let known = parsed.as_str();
    let reserved = RESERVED_HEADERS.contains(&known)
        || known.starts_with("mcp-")
        || known.starts_with("proxy-");
    match reserved {
        true => Err(format!("headers: {name} is set by the protocol itself")),
        false => Ok(parsed),
    }
}

fn check_secret((header, used): (&String, &SecretUse)) -> Result<(), String> {
    header_name(header)?;
    let plain = |prefix: &str| prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if used.prefix.len() > MAX_PREFIX || !plain(&used.prefix) {
        return Err(format!(
            "headers.{header}: the prefix is at most {MAX_PREFIX} plain characters"
        ));
    }
    match is_secret_name(&used.secret) {
        true => Ok(()),
        false => Err(format!(
            "headers.{header}: {:?} is no name of a secret",
            used.secret
        )),
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = header_name(name)?;
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
    if name.starts_with(OF_USERS) {
        return Err(format!(
            "names that begin with `{OF_USERS}` are those of the users' own tool servers"
        ));
    }
    check(name, MAX_NAME)
}

/// Whether a user may name a server so; its tools have a prefix besides.
pub(crate) fn check_own_name(name: &str) -> Result<(), String> {
    check(name, MAX_OWN_NAME)
}

fn check(name: &str, most: usize) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let ends_well = !name.ends_with('_') && !name.contains("__");
    if begins_well && ends_well && name.bytes().all(good) && name.len() <= most {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a tool server's name: a lower-case letter, then letters, digits or \
         single `_`, at most {most} in all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_leave_no_doubt_where_the_tools_name_begins() {
        for good in ["a", "git", "files_of_2", &"x".repeat(24)] {
            assert_eq!(check_name(good), Ok(()));
        }
        assert_eq!(check_own_name(&"x".repeat(21)), Ok(()));
        assert!(check_own_name(&"x".repeat(22)).is_err());
        for bad in [
            "",
            "Git",
            "1st",
            "a__b",
            "a_",
            "a-b",
            "my_x",
            &"x".repeat(25),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_carry_no_credentials_and_headers_none_of_the_protocol() {
        let with = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            Address::new("https://tools.example/mcp", &headers, BTreeMap::new())
        };
        let good = with("Authorization", "Bearer s3cret").unwrap();
        assert!(!format!("{good:?}").contains("s3cret"));
        for (name, value) in [
            ("Mcp-Session-Id", "x"),
            ("Transfer-Encoding", "chunked"),
            ("a b", "x"),
            ("x-key", "a\nb"),
        ] {
            let refused = with(name, value).unwrap_err();
            assert!(!refused.contains("a\nb"), "{refused}");
        }
        for url in ["ftp://x/", "https://u:p@x/", "/mcp", "https://"] {
            let address = Address::new(url, &BTreeMap::new(), BTreeMap::new());
            assert!(address.is_err(), "{url}");
        }
    }

    /// What the documents call secret came back to users, from a tool that wrote its environment down.
    #[test]
    fn plain_values_of_a_configuration_are_concealed_as_secrets_are() {
        let headers = BTreeMap::from([
            (
                "Authorization".to_owned(),
                "Bearer plain-key-777".to_owned(),
            ),
            ("X-Short".to_owned(), "1".to_owned()),
        ]);
        let address = Address::new("https://tools.example/mcp", &headers, BTreeMap::new()).unwrap();
        let oauth = Oauth {
            client_id: "netra".into(),
            client_secret: Given::Text("plain-of-oauth".into()),
            scope: None,
            token_url: None,
        };
        let address = address.with_oauth(oauth).unwrap();
        let shown = |place: &Place| -> Vec<String> {
            let values = place.plain_values();
            let pair = |(name, value): &(String, Secret)| format!("{name}={}", value.expose());
            values.iter().map(pair).collect()
        };
        assert_eq!(
            shown(&Place::Http(address)),
            [
                "authorization=Bearer plain-key-777",
                "authorization=plain-key-777",
                "client_secret=plain-of-oauth",
            ]
        );
    }

    #[test]
    fn a_users_server_is_one_of_the_public_web_over_tls_and_is_sent_secrets_only() {
        let opened = netra_tools::Destination::parse("127.0.0.1:7000").unwrap();
        let web = PublicWeb::new(vec![opened]);
        let with = |url: &str, header: &str, secret: &str, prefix: &str| {
            let used = SecretUse {
                secret: secret.to_owned(),
                prefix: prefix.to_owned(),
            };
            Address::of_user(&web, url, BTreeMap::from([(header.to_owned(), used)]))
        };
        let good = with(
            "https://tools.example:8443/mcp",
            "Authorization",
            "t",
            "Bearer ",
        )
        .unwrap();
        assert_eq!(good.place, "tools.example:8443");
        assert!(with("http://127.0.0.1:7000/mcp", "X-Key", "t", "").is_ok());
        for (url, header, secret, prefix, field) in [
            ("http://tools.example/mcp", "X-Key", "t", "", "url"),
            ("https://127.0.0.1/mcp", "X-Key", "t", "", "url"),
            ("https://2130706433/mcp", "X-Key", "t", "", "url"),
            ("https://[::ffff:10.0.0.1]/mcp", "X-Key", "t", "", "url"),
            ("https://169.254.169.254/latest", "X-Key", "t", "", "url"),
            ("https://u:p@tools.example/mcp", "X-Key", "t", "", "url"),
            ("https://tools.example:22/mcp", "X-Key", "t", "", "url"),
            ("file:///etc/passwd", "X-Key", "t", "", "url"),
            ("https://tools.example/mcp", "Host", "t", "", "headers"),
            (
                "https://tools.example/mcp",
                "Mcp-Session-Id",
                "t",
                "",
                "headers",
            ),
            ("https://tools.example/mcp", "X-Key", "a b", "", "headers"),
            ("https://tools.example/mcp", "X-Key", "t", "a\nb", "headers"),
        ] {
            let error = with(url, header, secret, prefix).unwrap_err();
            let NotAdded::Invalid {
                field: at, words, ..
            } = error
            else {
                panic!("{error:?}");
            };
            assert_eq!(at, field, "{url} {header}: {words}");
        }
    }
}
