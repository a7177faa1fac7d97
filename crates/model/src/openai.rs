//! Any server that speaks OpenAI's chat completions: OpenAI itself, Azure, Ollama, gateways, local
//! servers.

mod details;
mod format;
mod wire;

#[cfg(test)]
mod tests;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName};

use crate::names::ToolNames;
use crate::remote::{Wire, base_url, below};
use crate::{ChatRequest, Error, Kind, MaxTokensField, ProviderConfig};
pub(crate) use format::ChatCompletion;
use wire::{Body, Options};

const OPENAI: &str = "https://api.openai.com/v1";
const OLLAMA: &str = "http://127.0.0.1:11434/v1";
/// The host that takes no call without a key.
const OPENAI_HOST: &str = "api.openai.com";

/// Chat completions at one address.
#[derive(Clone)]
pub(crate) struct ChatCompletions {
    base: Url,
    /// Azure's older addresses name the deployment, and carry a version.
    by_deployment: bool,
    kind: Kind,
    options: Options,
}

impl ChatCompletions {
    pub(crate) fn new(name: &str, config: &ProviderConfig) -> Result<Self, Error> {
        let usual = match config.kind {
            Kind::Ollama => Some(OLLAMA),
            Kind::Azure => None,
            _ => Some(OPENAI),
        };
        let mut base = base_url(name, config, usual)?;
        let host = base.host_str() == Some(OPENAI_HOST);
        if config.api_version.is_some() && config.kind != Kind::Azure {
            return Err(Error::NotConfigured(format!(
                "the model provider {name}: api_version is for the kind azure"
            )));
        }
        if config.kind == Kind::Azure && base.path() == "/" {
            let parts: &[&str] = match &config.api_version {
                Some(_) => &["openai", "deployments"],
                None => &["openai", "v1"],
            };
            base = below(&base, parts).unwrap_or(base);
        }
        if let Some(version) = &config.api_version {
            base.query_pairs_mut().append_pair("api-version", version);
        }
        let newer = host || config.kind == Kind::Azure;
        Ok(Self {
            base,
            by_deployment: config.api_version.is_some(),
            kind: config.kind,
            options: Options {
                max_tokens: config.max_tokens_field.unwrap_or(if newer {
                    MaxTokensField::MaxCompletionTokens
                } else {
                    MaxTokensField::MaxTokens
                }),
                usage: config.usage_in_stream,
            },
        })
    }

    /// Whose prices hold at this address, where that is known.
    pub(crate) fn prices(&self) -> Option<&'static str> {
        match self.base.host_str()? {
            OPENAI_HOST => Some("openai"),
            "api.mistral.ai" => Some("mistral"),
            "api.x.ai" => Some("x-ai"),
            "api.deepseek.com" => Some("deepseek"),
            "api.groq.com" => Some("groq"),
            _ => None,
        }
    }
}

impl Wire for ChatCompletions {
    type Format = ChatCompletion;

    fn url(&self, model: &str) -> Option<Url> {
        if self.by_deployment {
            below(&self.base, &[model, "chat", "completions"])
        } else {
            below(&self.base, &["chat", "completions"])
        }
    }

    fn key_header(&self) -> (HeaderName, &'static str) {
        match self.kind {
            Kind::Azure => (HeaderName::from_static("api-key"), ""),
            _ => (AUTHORIZATION, "Bearer "),
        }
    }

    fn needs_key(&self) -> bool {
        self.base.host_str() == Some(OPENAI_HOST) || self.kind == Kind::Azure
    }

    fn body(
        &self,
        provider: &str,
        request: &ChatRequest,
        names: &ToolNames,
    ) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Body::new(provider, request, names, self.options))
    }

    fn format(&self) -> ChatCompletion {
        ChatCompletion::default()
    }

    fn native_schema(&self, _model: &str, tools: bool) -> bool {
        let openai = self.base.host_str() == Some(OPENAI_HOST) || self.kind == Kind::Azure;
        openai || (self.kind == Kind::Ollama && !tools)
    }
}
