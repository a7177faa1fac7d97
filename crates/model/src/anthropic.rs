//! Anthropic's Messages.

mod format;
mod wire;

#[cfg(test)]
mod tests;

use reqwest::Url;
use reqwest::header::HeaderName;

use crate::names::ToolNames;
use crate::remote::{Wire, base_url, below};
use crate::{ChatRequest, Error, ProviderConfig};
use format::Message;
use wire::Body;

const ANTHROPIC: &str = "https://api.anthropic.com/v1";
/// The host that takes no call without a key.
const ANTHROPIC_HOST: &str = "api.anthropic.com";

/// The version of the interface that is spoken here.
const HEADERS: [(&str, &str); 1] = [("anthropic-version", "2023-06-01")];

/// Beginnings of names of models that hold no answer to a schema.
const WITHOUT_SCHEMA: [&str; 8] = [
    "claude-2",
    "claude-3",
    "claude-instant",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2025",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2025",
];

/// Messages at one address.
#[derive(Clone)]
pub(crate) struct Messages {
    url: Url,
}

impl Messages {
    pub(crate) fn new(name: &str, config: &ProviderConfig) -> Result<Self, Error> {
        let base = base_url(name, config, Some(ANTHROPIC))?;
        // Some know the address without its version.
        let parts: &[&str] = if base.path() == "/" {
            &["v1", "messages"]
        } else {
            &["messages"]
        };
        let url = below(&base, parts).unwrap_or(base);
        Ok(Self { url })
    }

    /// Whose prices hold at this address, where that is known.
    pub(crate) fn prices(&self) -> Option<&'static str> {
        (self.url.host_str() == Some(ANTHROPIC_HOST)).then_some("anthropic")
    }
}

impl Wire for Messages {
    type Format = Message;

    fn url(&self, _model: &str) -> Option<Url> {
        Some(self.url.clone())
    }

    fn key_header(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-api-key"), "")
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &HEADERS
    }

    fn longest_answer(&self, model: &str) -> Option<u32> {
        Some(wire::longest_answer(model))
    }

    fn needs_key(&self) -> bool {
        self.url.host_str() == Some(ANTHROPIC_HOST)
    }

    fn body(
        &self,
        provider: &str,
        request: &ChatRequest,
        names: &ToolNames,
    ) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Body::new(provider, request, names))
    }

    fn format(&self) -> Message {
        Message::default()
    }

    fn native_schema(&self, model: &str, _tools: bool) -> bool {
        model.starts_with("claude-") && !WITHOUT_SCHEMA.iter().any(|old| model.starts_with(old))
    }
}
