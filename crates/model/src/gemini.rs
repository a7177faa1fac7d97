//! Google's Gemini: `generateContent`, streamed.

mod format;
mod wire;

#[cfg(test)]
mod tests;

use reqwest::Url;
use reqwest::header::HeaderName;

use crate::names::ToolNames;
use crate::remote::{Wire, base_url, below};
use crate::{ChatRequest, Error, ProviderConfig};
use format::Content;
use wire::Body;

const GEMINI: &str = "https://generativelanguage.googleapis.com/v1beta";
/// The host that takes no call without a key.
const GEMINI_HOST: &str = "generativelanguage.googleapis.com";

/// Gemini at one address.
#[derive(Clone)]
pub(crate) struct GenerateContent {
    base: Url,
}

impl GenerateContent {
    pub(crate) fn new(name: &str, config: &ProviderConfig) -> Result<Self, Error> {
        let mut base = base_url(name, config, Some(GEMINI))?;
        // Some know the address without its version.
        if base.path() == "/" {
            base = below(&base, &["v1beta"]).unwrap_or(base);
        }
        base.query_pairs_mut().append_pair("alt", "sse");
        Ok(Self { base })
    }

    /// Whose prices hold at this address, where that is known.
    pub(crate) fn prices(&self) -> Option<&'static str> {
        (self.base.host_str() == Some(GEMINI_HOST)).then_some("google")
    }
}

/// Whether a model is of the third generation or later: it signs its calls, wants the signatures
/// back, and can hold to a schema while it has tools.
fn is_newer(model: &str) -> bool {
    let older = ["gemini-1", "gemini-2", "gemini-pro", "gemini-flash"];
    model.starts_with("gemini-") && !older.iter().any(|old| model.starts_with(old))
}

impl Wire for GenerateContent {
    type Format = Content;

    fn url(&self, model: &str) -> Option<Url> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        let call = format!("{model}:streamGenerateContent");
        below(&self.base, &["models", &call])
    }

    fn key_header(&self) -> (HeaderName, &'static str) {
        (HeaderName::from_static("x-goog-api-key"), "")
    }

    fn needs_key(&self) -> bool {
        self.base.host_str() == Some(GEMINI_HOST)
    }

    fn body(
        &self,
        provider: &str,
        request: &ChatRequest,
        names: &ToolNames,
    ) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Body::new(provider, request, names))
    }

    fn format(&self) -> Content {
        Content::default()
    }

    fn native_schema(&self, model: &str, tools: bool) -> bool {
        model.starts_with("gemini-") && (!tools || is_newer(model))
    }
}
