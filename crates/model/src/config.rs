//! Which providers there are, as the operator configured them.

use std::collections::BTreeMap;

use netra_prices::PriceList;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Secret;

/// Everything that [`crate::Models`] is made from. The default is empty: no model, no call.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The longest that one call may take, in milliseconds, from request to last chunk, when the
    /// caller is the server itself; a user's calls go by the user's own limit.
    pub model_call_ms: u64,
    /// The model of agents that name none, as `provider/model`.
    pub default: Option<String>,
    /// The models that answer where another one does not, as `provider/model`, in order; for agents that name none.
    pub fallback: Vec<String>,
    /// How often a call is made again that failed before its answer began.
    pub retries: u32,
    /// How much answers take at most that are kept to be given again, in MiB.
    pub cache_mib: u64,
    /// Prices that hold in place of those that are built in, and of further models.
    #[serde(skip)]
    pub prices: Option<PriceList>,
    /// Providers by name. The name has no `/`.
    pub providers: BTreeMap<String, ProviderConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_call_ms: 120_000,
            default: None,
            fallback: Vec::new(),
            retries: 2,
            cache_mib: 64,
            prices: None,
            providers: BTreeMap::new(),
        }
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// OpenAI's chat completions: OpenAI itself, gateways, local servers.
    #[default]
    Openai,
    /// The same at Azure, where the key has another header and older addresses carry a version.
    Azure,
    /// Anthropic's Messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Ollama, by its chat completions.
    Ollama,
}

impl Kind {
    /// As it is written in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }
}

/// One provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// How it is spoken to.
    #[serde(default)]
    pub kind: Kind,
    /// The address up to, and without, what the format names itself, such as `/chat/completions`;
    /// a query is kept. The maker's own when absent.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Of [`Kind::Azure`]: the version that an address by deployment needs.
    #[serde(default)]
    pub api_version: Option<String>,
    /// Sent in the header that the kind has for it.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The models to list; when there are any, other names are refused.
    #[serde(default)]
    pub models: Vec<String>,
    /// How many tokens its models take, question and answer together: that of the smallest.
    #[serde(default)]
    pub context_tokens: Option<u32>,
    /// The longest answer of its models, in tokens, where an agent names none: that of the smallest.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// Further headers, for gateways that want the key elsewhere. Not sent with a user's own key.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// A proxy's URL, which may contain credentials. The environment's proxies are not used.
    #[serde(default)]
    pub proxy: Option<Secret>,
    /// The field that carries the limit on output tokens; by default the one that the address is
    /// known to want.
    #[serde(default)]
    pub max_tokens_field: Option<MaxTokensField>,
    /// Whether to ask for usage in the stream; off only for servers that refuse
    /// `stream_options`.
    #[serde(default = "yes")]
    pub usage_in_stream: bool,
    /// Whether its models hold their answers to a JSON Schema themselves; by default what the
    /// address is known for.
    #[serde(default)]
    pub native_schema: Option<bool>,
    /// Further fields of each request's body.
    #[serde(default)]
    pub body: Map<String, Value>,
    /// Whose prices hold, by the name in the price list; by default what the address is known for.
    #[serde(default)]
    pub prices: Option<String>,
    /// Whether its models may be shown pictures.
    #[serde(default = "yes")]
    pub images: bool,
    /// Whether a user's own key is sent in place of `api_key`, for users who have one.
    #[serde(default = "yes")]
    pub user_keys: bool,
    /// Whether the provider is told which trace a call belongs to.
    #[serde(default)]
    pub trace_context: bool,
}

fn yes() -> bool {
    true
}

impl ProviderConfig {
    /// Chat completions at this address, everything else as by default.
    pub fn openai_compatible(base_url: impl Into<String>, api_key: Option<Secret>) -> Self {
        Self {
            base_url: Some(base_url.into()),
            ..Self::of_kind(Kind::Openai, api_key)
        }
    }

    /// The maker's own address, everything else as by default.
    pub fn of_kind(kind: Kind, api_key: Option<Secret>) -> Self {
        Self {
            kind,
            base_url: None,
            api_version: None,
            api_key,
            models: Vec::new(),
            context_tokens: None,
            max_output_tokens: None,
            headers: BTreeMap::new(),
            proxy: None,
            max_tokens_field: None,
            usage_in_stream: true,
            native_schema: None,
            body: Map::new(),
            prices: None,
            images: true,
            user_keys: true,
            trace_context: false,
        }
    }
}

/// The two names that providers have for the limit on output tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// The older name, which most compatible servers take.
    MaxTokens,
    /// The newer name, the only one that OpenAI's reasoning models take.
    MaxCompletionTokens,
}
