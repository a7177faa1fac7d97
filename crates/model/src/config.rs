//! Which providers there are, as the operator configured them.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    /// Providers by name. The name has no `/`.
    pub providers: BTreeMap<String, ProviderConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_call_ms: 120_000,
            default: None,
            providers: BTreeMap::new(),
        }
    }
}

/// A provider that speaks OpenAI's chat completions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// The address up to, and without, `/chat/completions`; a query is kept.
    pub base_url: String,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// The models to list; when there are any, other names are refused.
    #[serde(default)]
    pub models: Vec<String>,
    /// How many tokens its models take, question and answer together: that of the smallest.
    #[serde(default)]
    pub context_tokens: Option<u32>,
    /// Further headers, for gateways that want the key elsewhere.
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
    /// Whether its models may be shown pictures.
    #[serde(default = "yes")]
    pub images: bool,
}

fn yes() -> bool {
    true
}

impl ProviderConfig {
    /// A provider at this address, everything else as by default.
    pub fn openai_compatible(base_url: impl Into<String>, api_key: Option<Secret>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key,
            models: Vec::new(),
            context_tokens: None,
            headers: BTreeMap::new(),
            proxy: None,
            max_tokens_field: None,
            usage_in_stream: true,
            native_schema: None,
            images: true,
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
