//! Language models, as admins see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model that is configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// As agents name it, `provider/model`; `provider/*` stands for every name that a provider has.
    pub name: String,
    /// How the provider is spoken to: `openai`, `azure`, `anthropic`, `gemini` or `ollama`.
    pub kind: String,
    /// Whether agents that name no model get this one.
    pub default: bool,
    /// Why it cannot be used; absent when it can, as far as is known without a call.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// Whether it holds its answers to a JSON Schema itself.
    pub native_schema: bool,
    /// Whether it is shown pictures.
    pub images: bool,
    /// What it costs; absent where no price is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub price: Option<ModelPrice>,
}

/// Prices in US dollars per million tokens, for prompts of usual length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelPrice {
    /// Of requests.
    pub input: f64,
    /// Of the part of requests that the provider had in its cache.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cached_input: Option<f64>,
    /// Of answers.
    pub output: f64,
    /// The price list that names it, with its date.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}
