//! The shape of the configuration as it is written, before it is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use netra_model::{Kind, MaxTokensField, PriceList, ProviderConfig, Secret};
use netra_protocol::frame::HEARTBEAT_INTERVAL_MS;
use netra_protocol::limits::Limits;
use netra_worker::sandbox::Tier;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::server_secrets::private_text;

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Everybody.
    Open,
    /// Who has an invitation.
    Invite,
    /// Nobody: accounts are made by an admin.
    Closed,
}

/// What policies know a server as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// A developer's machine.
    Development,
    /// Where a version is tried.
    Staging,
    /// Where it counts.
    Production,
}

impl Environment {
    /// The word that policies compare with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) data: Data,
    pub(super) database: Database,
    pub(super) redis: Redis,
    pub(super) limits: LimitKeys,
    pub(super) auth: Auth,
    pub(super) models: Models,
    pub(super) agents: Agents,
    pub(super) policy: Policy,
    pub(super) tools: Tools,
    pub(super) sandbox: Sandbox,
    pub(super) secrets: Secrets,
    pub(super) mcp: super::mcp::Mcp,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    pub(super) telemetry: super::telemetry::Telemetry,
    pub(super) workers: Workers,
}

/// What stands under `limits`: a user's, and the node's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LimitKeys {
    pub(super) engines: Option<usize>,
    pub(super) node_memory_mib: Option<u64>,
    pub(super) requests_per_minute_and_address: Option<u32>,
    pub(super) logins_per_minute: u32,
    pub(super) turn_wait_ms: u64,
    #[serde(flatten)]
    pub(super) user: Limits,
}

impl Default for LimitKeys {
    fn default() -> Self {
        Self {
            engines: None,
            node_memory_mib: None,
            requests_per_minute_and_address: None,
            logins_per_minute: netra_gateway::LOGINS_PER_MINUTE,
            turn_wait_ms: 50,
            user: Limits::default(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) socket: Option<PathBuf>,
    pub(super) tls_certificate: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) public_origin: Option<String>,
    pub(super) allowed_origins: Vec<String>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) dev: bool,
    pub(super) drain_ms: u64,
    pub(super) heartbeat_ms: u64,
    pub(super) environment: Environment,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            socket: None,
            tls_certificate: None,
            tls_key: None,
            public_origin: None,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            dev: false,
            drain_ms: 10_000,
            heartbeat_ms: HEARTBEAT_INTERVAL_MS,
            environment: Environment::Production,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Data {
    pub(super) dir: PathBuf,
    pub(super) events_days: Option<u32>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./netra-data"),
            events_days: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Database {
    url: Option<String>,
    owner_url: Option<String>,
    connections: usize,
    lease_ms: u64,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            owner_url: None,
            connections: 16,
            lease_ms: 10_000,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Redis {
    url: Option<String>,
}

impl Redis {
    fn resolve(self) -> Result<Option<netra_store::Redis>, Error> {
        let parsed = self.url.as_deref().map(netra_store::Redis::parse);
        let parsed = parsed.transpose();
        parsed.map_err(|error| Error::Invalid(format!("redis.url: {error}")))
    }
}

impl Database {
    pub(super) fn resolve(self, redis: Redis) -> Result<Option<netra_store::Postgres>, Error> {
        let Some(url) = self.url else {
            let further = [
                ("database.owner_url", self.owner_url),
                ("redis.url", redis.url),
            ];
            return match further.into_iter().find(|(_, url)| url.is_some()) {
                Some((key, _)) => Err(Error::Invalid(format!(
                    "database.url is needed where there is a {key}"
                ))),
                None => Ok(None),
            };
        };
        if self.connections < 2 {
            return Err(Error::Invalid(
                "database.connections must be at least 2".into(),
            ));
        }
        if self.lease_ms < 1_000 {
            return Err(Error::Invalid(
                "database.lease_ms must be at least 1000".into(),
            ));
        }
        let address = |key: &str, url: &str| {
            netra_store::Address::parse(url)
                .map_err(|error| Error::Invalid(format!("{key}: {error}")))
        };
        let owner = self.owner_url.as_deref();
        Ok(Some(netra_store::Postgres {
            server: address("database.url", &url)?,
            owner: owner
                .map(|url| address("database.owner_url", url))
                .transpose()?,
            connections: self.connections,
            lease: Duration::from_millis(self.lease_ms),
            redis: redis.resolve()?,
        }))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Auth {
    pub(super) registration: Registration,
    pub(super) access_ttl_ms: u64,
    pub(super) refresh_ttl_ms: u64,
    pub(super) algorithm: Algorithm,
    pub(super) hs256_secret_file: Option<PathBuf>,
    pub(super) issuer: Issuer,
}

/// What access tokens are signed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    /// With the server's own key.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// With a secret that others may have too.
    #[serde(rename = "HS256")]
    Hs256,
}

impl Auth {
    /// The secret of HS256, where tokens are signed with it.
    pub(super) fn hs256_secret(&self) -> Result<Option<Secret>, Error> {
        let invalid = |words: String| Error::Invalid(format!("auth.hs256_secret_file: {words}"));
        let file = match (self.algorithm, &self.hs256_secret_file) {
            (Algorithm::EdDsa, None) => return Ok(None),
            (Algorithm::EdDsa, Some(_)) => {
                return Err(invalid("it belongs to auth.algorithm = \"HS256\"".into()));
            }
            (Algorithm::Hs256, None) => {
                return Err(invalid("HS256 needs a file with the secret".into()));
            }
            (Algorithm::Hs256, Some(file)) => file,
        };
        let text = private_text(file).map_err(invalid)?;
        match text.trim() {
            short if short.len() < LEAST_SECRET => Err(invalid(format!(
                "{}: a secret has at least {LEAST_SECRET} bytes",
                file.display()
            ))),
            secret => Ok(Some(Secret::new(secret))),
        }
    }
}

/// As long as the hash (RFC 7518, 3.2), in bytes.
const LEAST_SECRET: usize = 32;

/// Somebody else whose tokens are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Issuer {
    url: Option<String>,
    audience: Option<String>,
    jwks_url: Option<String>,
    subject_claim: String,
    role_claim: Option<String>,
    plan_claim: Option<String>,
    skew_ms: u64,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            url: None,
            audience: None,
            jwks_url: None,
            subject_claim: "sub".into(),
            role_claim: None,
            plan_claim: None,
            skew_ms: 60_000,
        }
    }
}

impl Issuer {
    pub(super) fn resolve(self) -> Result<Option<netra_gateway::IssuerConfig>, Error> {
        let Some(url) = self.url else {
            let others = self.audience.is_some() || self.jwks_url.is_some();
            return match others {
                true => Err(Error::Invalid(
                    "auth.issuer.url is needed where there is an issuer".into(),
                )),
                false => Ok(None),
            };
        };
        let issuer = netra_gateway::IssuerConfig {
            url,
            audience: self.audience.unwrap_or_default(),
            jwks_url: self.jwks_url,
            subject_claim: self.subject_claim,
            role_claim: self.role_claim,
            plan_claim: self.plan_claim,
            skew: std::time::Duration::from_millis(self.skew_ms),
        };
        match issuer.problem() {
            Some(problem) => Err(Error::Invalid(format!("auth.issuer: {problem}"))),
            None => Ok(Some(issuer)),
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            registration: Registration::Closed,
            access_ttl_ms: 15 * 60 * 1000,
            refresh_ttl_ms: 30 * 24 * 60 * 60 * 1000,
            algorithm: Algorithm::default(),
            hs256_secret_file: None,
            issuer: Issuer::default(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Models {
    pub(super) default: Option<String>,
    pub(super) fallback: Vec<String>,
    pub(super) retries: u32,
    pub(super) cache_mib: u64,
    pub(super) price_file: Option<PathBuf>,
    pub(super) providers: BTreeMap<String, ModelProvider>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ModelProvider {
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    base_url: Option<String>,
    #[serde(default)]
    api_version: Option<String>,
    #[serde(default)]
    api_key: Option<String>,
    #[serde(default)]
    api_key_file: Option<PathBuf>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    context_tokens: Option<u32>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    proxy: Option<String>,
    #[serde(default)]
    max_tokens_field: Option<String>,
    #[serde(default)]
    usage_in_stream: Option<bool>,
    #[serde(default)]
    native_schema: Option<bool>,
    #[serde(default)]
    images: Option<bool>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    prices: Option<String>,
    #[serde(default)]
    user_keys: Option<bool>,
    #[serde(default)]
    trace_context: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Agents {
    pub(super) dir: Option<PathBuf>,
    pub(super) watch: Option<bool>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Secrets {
    pub(super) key_file: Option<PathBuf>,
    pub(super) server_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tools {
    pub(super) fetch: Fetch,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Fetch {
    pub(super) allow: Vec<String>,
}

/// What holds programs from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sandbox {
    pub(super) require: Tier,
    pub(super) temp: Option<PathBuf>,
    pub(super) cgroup: Option<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            require: Tier::Basic,
            temp: None,
            cgroup: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".into(),
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Metrics {
    pub(super) token: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Workers {
    pub(super) program: Option<PathBuf>,
    pub(super) scripts: Option<usize>,
    pub(super) warm: usize,
    pub(super) analyses: Option<usize>,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            program: None,
            scripts: None,
            warm: 1,
            analyses: None,
        }
    }
}

impl Default for Models {
    fn default() -> Self {
        let netra_model::Config {
            default,
            fallback,
            retries,
            cache_mib,
            ..
        } = netra_model::Config::default();
        Self {
            default,
            fallback,
            retries,
            cache_mib,
            price_file: None,
            providers: BTreeMap::new(),
        }
    }
}

impl Models {
    /// The file with the operator's own prices, wherever a worker is started.
    pub(super) fn price_file(&self) -> Result<Option<PathBuf>, Error> {
        let absolute = |path: &PathBuf| {
            path.canonicalize().map_err(|source| Error::File {
                path: path.display().to_string(),
                source,
            })
        };
        self.price_file.as_ref().map(absolute).transpose()
    }

    /// Reads the keys that stand in files and puts the types of the model crate together.
    pub(super) fn resolve(self) -> Result<netra_model::Config, Error> {
        let mut config = netra_model::Config {
            default: self.default,
            fallback: self.fallback,
            retries: self.retries,
            cache_mib: self.cache_mib,
            prices: self.price_file.as_deref().map(price_list).transpose()?,
            ..netra_model::Config::default()
        };
        for (name, provider) in self.providers {
            let resolved = provider.resolve(&name)?;
            config.providers.insert(name, resolved);
        }
        Ok(config)
    }
}

/// The operator's own prices.
fn price_list(path: &Path) -> Result<PriceList, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.display().to_string(),
        source,
    })?;
    let origin = format!("file {}", path.display());
    PriceList::parse(&text, &origin)
        .map_err(|error| Error::Invalid(format!("models.price_file: {}: {error}", path.display())))
}

impl ModelProvider {
    fn resolve(self, name: &str) -> Result<ProviderConfig, Error> {
        let api_key = match (self.api_key, self.api_key_file) {
            (Some(_), Some(_)) => {
                return Err(Error::Invalid(format!(
                    "models.providers.{name}: give api_key or api_key_file, not both"
                )));
            }
            (Some(key), None) => Some(Secret::new(key)),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).map_err(|source| Error::File {
                    path: path.display().to_string(),
                    source,
                })?;
                Some(Secret::new(text.trim()))
            }
            (None, None) => None,
        };
        let max_tokens_field = match self.max_tokens_field.as_deref() {
            None => None,
            Some("max_tokens") => Some(MaxTokensField::MaxTokens),
            Some("max_completion_tokens") => Some(MaxTokensField::MaxCompletionTokens),
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "models.providers.{name}.max_tokens_field: `{other}` is neither max_tokens \
                     nor max_completion_tokens"
                )));
            }
        };
        let body = match &self.body {
            None => serde_json::Map::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::Invalid(format!(
                    "models.providers.{name}.body is no JSON object: {error}"
                ))
            })?,
        };
        Ok(ProviderConfig {
            models: self.models,
            context_tokens: self.context_tokens,
            max_output_tokens: self.max_output_tokens,
            headers: self
                .headers
                .into_iter()
                .map(|(k, v)| (k, Secret::new(v)))
                .collect(),
            proxy: self.proxy.map(Secret::new),
            max_tokens_field,
            usage_in_stream: self.usage_in_stream.unwrap_or(true),
            user_keys: self.user_keys.unwrap_or(true),
            trace_context: self.trace_context.unwrap_or(false),
            base_url: self.base_url,
            api_version: self.api_version,
            native_schema: self.native_schema,
            images: self.images.unwrap_or(true),
            body,
            prices: self.prices,
            ..ProviderConfig::of_kind(self.kind, api_key)
        })
    }
}
