//! The registry of models: made once at the start, asked for every call.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use netra_context::UserExecutionContext;

use crate::guard::Bounds;
use crate::openai::OpenAi;
use crate::{ChatRequest, ChatStream, Config, Error};

/// Something that answers chat requests. Limits, deadline and cancel are not its business:
/// [`Models::chat`] drops the future or the stream, and that must close the connection.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The configured name, the first part of a [`ModelRef`].
    fn name(&self) -> &str;

    /// The models to list. When there are any, other names are refused; when there are none, any
    /// name is passed on.
    fn models(&self) -> &[String] {
        &[]
    }

    /// Whether a call can work as far as can be told without making one;
    /// [`Error::NotConfigured`] says what is missing.
    fn ready(&self, _model: &str) -> Result<(), Error> {
        Ok(())
    }

    /// How many tokens the model takes, question and answer together; none where nobody has said.
    fn window(&self, _model: &str) -> Option<u32> {
        None
    }

    /// Whether this model itself holds its answer to [`ChatRequest::response_schema`], in a request
    /// that has tools, or has none.
    fn native_schema(&self, _model: &str, _tools: bool) -> bool {
        false
    }

    /// Whether this model may be shown pictures.
    fn images(&self, _model: &str) -> bool {
        false
    }

    /// Begins one call. An error before the first chunk comes from here or from the stream.
    async fn stream(
        &self,
        ctx: &UserExecutionContext,
        request: ChatRequest,
    ) -> Result<ChatStream, Error>;
}

/// A model's full name, `provider/model`. The provider's part ends at the first `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ModelRef {
    /// The provider's configured name.
    pub provider: String,
    /// The name at the provider.
    pub model: String,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

impl FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => Ok(Self {
                provider: provider.to_owned(),
                model: model.to_owned(),
            }),
            _ => Err(Error::NotConfigured(format!(
                "the model {text:?} is not written as provider/model"
            ))),
        }
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.to_string()
    }
}

impl TryFrom<String> for ModelRef {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// A model as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// Its full name.
    pub model: ModelRef,
    /// Whether agents that name no model get this one.
    pub default: bool,
    /// Why it cannot be used; absent when it can, as far as is known without a call.
    pub problem: Option<String>,
}

/// All models of this server.
pub struct Models {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    default: Option<ModelRef>,
    model_call_ms: u64,
}

impl Models {
    /// Makes the registry; connects to nothing. A configuration without providers is fine, one
    /// that cannot work is [`Error::NotConfigured`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut providers: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::new();
        for (name, provider) in config.providers {
            if name.is_empty() || name.contains('/') {
                return Err(Error::NotConfigured(format!(
                    "{name:?} cannot be the name of a model provider"
                )));
            }
            providers.insert(name.clone(), Arc::new(OpenAi::new(&name, provider)?));
        }
        let default = config.default.map(|default| default.parse()).transpose()?;
        Ok(Self {
            providers,
            default,
            model_call_ms: config.model_call_ms,
        })
    }

    /// Adds a provider, or replaces the one with its name.
    #[must_use]
    pub fn with(mut self, provider: Arc<dyn Provider>) -> Self {
        self.providers.insert(provider.name().to_owned(), provider);
        self
    }

    /// Sets the model of agents that name none.
    #[must_use]
    pub fn with_default(mut self, model: ModelRef) -> Self {
        self.default = Some(model);
        self
    }

    /// The model that an agent means: the configured default for none or `default`. Whether it
    /// can be used is for [`Models::is_ready`] to say.
    pub fn resolve(&self, name: Option<&str>) -> Result<ModelRef, Error> {
        match name {
            None | Some("default") => self.default.clone().ok_or_else(|| {
                Error::NotConfigured(
                    "no model is configured: set models.default and a provider".to_owned(),
                )
            }),
            Some(name) => name.parse(),
        }
    }

    /// Whether calls of this model can work, as far as is known without a call. The error's text
    /// is for the user.
    pub fn is_ready(&self, model: &ModelRef) -> Result<(), Error> {
        self.provider(model).map(|_| ())
    }

    /// How many tokens a model takes, question and answer together; none where nobody has said.
    pub fn window(&self, model: &ModelRef) -> Option<u32> {
        self.providers.get(&model.provider)?.window(&model.model)
    }

    /// Whether this model itself holds its answer to [`ChatRequest::response_schema`], in a request
    /// that has tools, or has none.
    pub fn native_schema(&self, model: &ModelRef, tools: bool) -> bool {
        self.provider(model)
            .is_ok_and(|provider| provider.native_schema(&model.model, tools))
    }

    /// Whether this model may be shown pictures.
    pub fn images(&self, model: &ModelRef) -> bool {
        self.provider(model)
            .is_ok_and(|provider| provider.images(&model.model))
    }

    /// Calls a model. The call ends at the earlier of the context's deadline and the user's limit
    /// for one call, and with the context's cancel; each of these, and dropping the stream,
    /// closes the connection. The stream ends after `Done` or its first error.
    pub async fn chat(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
        mut request: ChatRequest,
    ) -> Result<ChatStream, Error> {
        let provider = self.provider(model)?;
        request.model.clone_from(&model.model);
        let bounds = Bounds::new(ctx, &model.provider, self.model_call_ms);
        bounds.hold(provider.stream(ctx, request)).await
    }

    /// Every model that has a name here: those that providers list, and the default.
    pub fn list(&self) -> Vec<ModelInfo> {
        let listed = self.providers.iter().flat_map(|(name, provider)| {
            let of = |model: &String| ModelRef {
                provider: name.clone(),
                model: model.clone(),
            };
            provider.models().iter().map(of)
        });
        let mut models: Vec<ModelRef> = listed.chain(self.default.clone()).collect();
        models.sort();
        models.dedup();
        let info = |model: ModelRef| ModelInfo {
            default: self.default.as_ref() == Some(&model),
            problem: self.is_ready(&model).err().map(|error| error.to_string()),
            model,
        };
        models.into_iter().map(info).collect()
    }

    fn provider(&self, model: &ModelRef) -> Result<&Arc<dyn Provider>, Error> {
        let name = &model.provider;
        let provider = self.providers.get(name).ok_or_else(|| {
            Error::NotConfigured(format!("no model provider {name} is configured"))
        })?;
        let listed = provider.models();
        if !listed.is_empty() && !listed.contains(&model.model) {
            let model = &model.model;
            return Err(Error::NotConfigured(format!(
                "the model provider {name} is not configured for the model {model}"
            )));
        }
        provider.ready(&model.model)?;
        Ok(provider)
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.providers.keys().collect();
        f.debug_struct("Models")
            .field("providers", &names)
            .finish_non_exhaustive()
    }
}
