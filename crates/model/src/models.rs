//! The registry of models: made once at the start, asked for every call.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use netra_context::{Secret, UserExecutionContext, memory};
use netra_prices::{PriceList, Tariff};
use netra_protocol::id::UserId;
use netra_protocol::model::{Model, ModelPrice};
use netra_store::Secrets;

use crate::cache::{self, Cache, Key};
use crate::circuit::{Circuit, Circuits};
use crate::configured::{self, Listed};
use crate::guard::Bounds;
use crate::own_key::OwnKeys;
use crate::price::bytes_of;
use crate::retry::{Jitter, Retries};
use crate::{ChatRequest, ChatStream, Chunk, Config, Error, Price, Retry, Witness};

/// Something that answers chat requests. Limits, deadline and cancel are not its business:
/// [`Models::chat`] drops the future or the stream, and that must close the connection.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The configured name, the first part of a [`ModelRef`].
    fn name(&self) -> &str;

    /// How it is spoken to, in one word.
    fn kind(&self) -> &'static str;

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

    /// Where calls go, as secrets are bound to it: the host, with its port where that is not 443. None for a provider
    /// that takes no user's key.
    fn place(&self) -> Option<String> {
        None
    }

    /// The same provider with a user's key in place of its own.
    fn with_key(&self, _key: Secret) -> Result<Arc<dyn Provider>, Error> {
        let name = self.name();
        let words = format!("the model provider {name} takes no key of a user");
        Err(Error::NotConfigured(words))
    }

    /// The most that the model's tokens cost; none where that is not known.
    fn price(&self, model: &str) -> Option<Price> {
        self.tariff(model).as_ref().map(Price::from)
    }

    /// How many tokens the model takes, question and answer together; none where nobody has said.
    fn window(&self, _model: &str) -> Option<u32> {
        None
    }

    /// The longest answer that the model gives where a request names none, in tokens; none where nobody has said.
    fn longest_answer(&self, _model: &str) -> Option<u32> {
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

    /// What a call of this model costs; none where no price is known.
    fn tariff(&self, _model: &str) -> Option<Tariff> {
        None
    }

    /// Which price list that stands in.
    fn price_list(&self, _model: &str) -> Option<&PriceList> {
        None
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

/// All models of this server.
pub struct Models {
    providers: BTreeMap<String, Arc<dyn Provider>>,
    default: Option<ModelRef>,
    fallback: Vec<ModelRef>,
    model_call_ms: u64,
    retries: Retries,
    circuits: Circuits,
    own_keys: OwnKeys,
    cache: Cache,
}

impl Models {
    /// Makes the registry; connects to nothing. A configuration without providers is fine, one
    /// that cannot work is [`Error::NotConfigured`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut providers: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::new();
        let own = config.prices;
        let list: Listed = Listed::new(Box::new(move || {
            let built_in = PriceList::built_in().ok();
            let list = match (own, built_in) {
                (Some(own), Some(built_in)) => Some(own.over(built_in)),
                (own, built_in) => own.or(built_in),
            };
            list.map(Arc::new)
        }));
        let mut own_keys = OwnKeys::default();
        for (name, provider) in config.providers {
            if name.is_empty() || name.contains('/') {
                return Err(Error::NotConfigured(format!(
                    "{name:?} cannot be the name of a model provider"
                )));
            }
            if provider.user_keys {
                own_keys.allow(&name);
            }
            providers.insert(name.clone(), configured::provider(&name, provider, &list)?);
        }
        let default = config.default.map(|default| default.parse()).transpose()?;
        let fallback = config.fallback.iter().map(|name| name.parse());
        Ok(Self {
            providers,
            default,
            fallback: fallback.collect::<Result<_, _>>()?,
            model_call_ms: config.model_call_ms,
            retries: Retries {
                most: config.retries,
                jitter: Jitter::seeded(rand::random()),
            },
            circuits: Circuits::default(),
            own_keys,
            cache: Cache::new(config.cache_mib.saturating_mul(1024 * 1024)),
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

    /// Looks for users' own keys among their secrets.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.own_keys.look_in(secrets);
        self
    }

    /// Whether calls of this model lack nothing but a key, and a user's own would do: the provider's name then.
    pub fn lacks_key_only(&self, model: &ModelRef) -> Option<&str> {
        let provider = self.named(model).ok()?;
        let lacks = provider.ready(&model.model).is_err();
        (lacks && self.own_keys.may_be_for(provider.as_ref())).then_some(provider.name())
    }

    /// Whether the user has a key of their own for a provider.
    ///
    /// # Errors
    /// That of the store where the secrets cannot be read.
    pub async fn has_own_key(
        &self,
        ctx: &UserExecutionContext,
        provider: &str,
    ) -> Result<bool, netra_store::Error> {
        match self.providers.get(provider) {
            Some(provider) => self.own_keys.has(ctx, provider.as_ref()).await,
            None => Ok(false),
        }
    }

    /// Draws the chance in the pauses between tries from a seed.
    #[must_use]
    pub fn with_jitter(mut self, seed: u64) -> Self {
        self.retries.jitter = Jitter::seeded(seed);
        self
    }

    /// Sets the models that answer where another one does not, for agents that name none.
    #[must_use]
    pub fn with_fallback(mut self, models: Vec<ModelRef>) -> Self {
        self.fallback = models;
        self
    }

    /// An answer that is kept for this key, with the usage that it had.
    pub fn cached(&self, key: &Key) -> Option<ChatStream> {
        self.cache.get(key).map(replayed)
    }

    /// An answer that was kept elsewhere, as it was written down; none of what is no whole answer.
    pub fn cached_elsewhere(&self, written: &[u8]) -> Option<ChatStream> {
        let chunks: Vec<Chunk> = serde_json::from_slice(written).ok()?;
        let is_kept = self.cache.is_on() && cache::is_whole(&chunks);
        is_kept.then(|| replayed(chunks.into()))
    }

    /// An answer to be kept elsewhere; none where it is not to be kept.
    pub fn to_cache_elsewhere(&self, chunks: &[Chunk]) -> Option<Vec<u8>> {
        let is_kept = self.cache.is_on() && cache::is_whole(chunks);
        is_kept.then(|| serde_json::to_vec(chunks).ok()).flatten()
    }

    /// Keeps an answer for this key for so long, unless it is large or was cut.
    pub fn cache(&self, key: Key, chunks: &[Chunk], time: Duration) {
        self.cache.put(key, chunks, time);
    }

    /// The models that answer where another one does not, for agents that name none, in order.
    pub fn fallback(&self) -> &[ModelRef] {
        &self.fallback
    }

    /// The model that an agent means: the configured default for none or `default`. Whether it
    /// can be used is for [`Models::is_ready`] to say.
    pub fn resolve(&self, name: Option<&str>) -> Result<ModelRef, Error> {
        match name {
            None | Some("default") => self.default.clone().ok_or_else(|| self.no_default()),
            Some(name) => name.parse(),
        }
    }

    fn no_default(&self) -> Error {
        let words = match self.providers.keys().next() {
            None => "no model is configured: set models.default and a provider".to_owned(),
            Some(provider) => format!(
                "no default model is configured: set models.default, such as {provider}/NAME"
            ),
        };
        Error::NotConfigured(words)
    }

    /// Whether calls of this model can work, as far as is known without a call. The error's text
    /// is for the user.
    pub fn is_ready(&self, model: &ModelRef) -> Result<(), Error> {
        self.named(model)?.ready(&model.model)
    }

    /// How many tokens a model takes, question and answer together; none where nobody has said.
    pub fn window(&self, model: &ModelRef) -> Option<u32> {
        self.providers.get(&model.provider)?.window(&model.model)
    }

    /// The longest answer that a model gives where a request names none, in tokens; none where nobody has said.
    pub fn longest_answer(&self, model: &ModelRef) -> Option<u32> {
        let provider = self.providers.get(&model.provider)?;
        provider.longest_answer(&model.model)
    }

    /// Whether this model itself holds its answer to [`ChatRequest::response_schema`], in a request
    /// that has tools, or has none.
    pub fn native_schema(&self, model: &ModelRef, tools: bool) -> bool {
        self.named(model)
            .is_ok_and(|provider| provider.native_schema(&model.model, tools))
    }

    /// Whether this model may be shown pictures.
    pub fn images(&self, model: &ModelRef) -> bool {
        self.named(model)
            .is_ok_and(|provider| provider.images(&model.model))
    }

    /// The models that fail again and again with the server's own keys, and are left alone now.
    pub fn left_alone(&self) -> Vec<ModelRef> {
        self.circuits.left_alone()
    }

    /// How the provider of a model is spoken to, in one word.
    pub fn kind(&self, model: &ModelRef) -> &'static str {
        let provider = self.providers.get(&model.provider);
        provider.map_or("unknown", |provider| provider.kind())
    }

    /// What a model costs; none where that is not known.
    pub fn price(&self, model: &ModelRef) -> Option<Price> {
        self.providers.get(&model.provider)?.price(&model.model)
    }

    /// Which price list that is by, with its date, as users are told; none where the price is not known.
    pub fn price_source(&self, model: &ModelRef) -> Option<String> {
        let list = self
            .providers
            .get(&model.provider)?
            .price_list(&model.model)?;
        Some(list.title_for_users())
    }

    /// Calls a model until its answer has begun: what fails before that and may go better is tried again after a
    /// pause, within the bounds of one call; a model that fails again and again is left alone for a while. The stream
    /// is as that of [`Models::chat`].
    ///
    /// # Errors
    /// That of the last try.
    pub async fn call(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
        request: &ChatRequest,
        witness: &dyn Witness,
    ) -> Result<ChatStream, Error> {
        let (provider, key_of) = self.provider_for(ctx, model).await?;
        // Each try gets a copy of the request.
        let bytes = usize::try_from(bytes_of(request)).unwrap_or(usize::MAX);
        let _room = memory::reserve(bytes).map_err(Error::NoRoom)?;
        let copy = || ChatRequest {
            model: model.model.clone(),
            ..request.clone()
        };
        let circuit = Circuit {
            model: model.clone(),
            key_of,
        };
        let bounds = Bounds::new(ctx, &model.provider, self.model_call_ms);
        let mut attempt = 1;
        loop {
            let pass = self.circuits.enter(circuit.clone())?;
            let begin = provider.stream(ctx, copy());
            witness.begins();
            let error = match begun(bounds.again().hold(begin).await).await {
                Ok(stream) => return Ok(pass.watch(stream)),
                Err(error) => error,
            };
            witness.failed(&error);
            pass.failed(&error);
            let pause = self.retries.pause(&error, attempt);
            let Some(pause) = pause.filter(|pause| bounds.outlast(*pause)) else {
                return Err(error);
            };
            attempt += 1;
            let (name, reason) = (model.provider.clone(), error.outcome());
            metrics::counter!("netra_model_retries_total", "provider" => name, "reason" => reason)
                .increment(1);
            let retry = Retry {
                model,
                error: &error,
                pause,
                attempt,
                of: self.retries.most + 1,
            };
            witness.retries(retry).await;
            bounds.pause(pause).await?;
        }
    }

    /// Calls a model once. The call ends at the earlier of the context's deadline and the user's limit
    /// for one call, and with the context's cancel; each of these, and dropping the stream,
    /// closes the connection. The stream ends after `Done` or its first error.
    pub async fn chat(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
        mut request: ChatRequest,
    ) -> Result<ChatStream, Error> {
        let (provider, _) = self.provider_for(ctx, model).await?;
        request.model.clone_from(&model.model);
        let bounds = Bounds::new(ctx, &model.provider, self.model_call_ms);
        bounds.hold(provider.stream(ctx, request)).await
    }

    /// Every model that has a name here: those that providers list, and the default. A provider
    /// that lists none stands there with `*`, for every name that it has.
    pub fn list(&self) -> Vec<Model> {
        let listed = self.providers.iter().flat_map(|(name, provider)| {
            let of = |model: &str| ModelRef {
                provider: name.clone(),
                model: model.to_owned(),
            };
            let models = provider.models();
            let any = models.is_empty().then(|| of("*"));
            models
                .iter()
                .map(|model| of(model))
                .chain(any)
                .collect::<Vec<_>>()
        });
        let mut models: Vec<ModelRef> = listed.chain(self.default.clone()).collect();
        models.sort();
        models.dedup();
        models.iter().map(|model| self.listed(model)).collect()
    }

    fn listed(&self, model: &ModelRef) -> Model {
        let provider = self.providers.get(&model.provider);
        let price = |tariff: Tariff| {
            let price = tariff.per_million();
            ModelPrice {
                input: price.input,
                cached_input: price.cached_input,
                output: price.output,
                source: provider.and_then(|known| Some(known.price_list(&model.model)?.title())),
            }
        };
        Model {
            name: model.to_string(),
            kind: provider
                .map_or("unknown", |provider| provider.kind())
                .to_owned(),
            default: self.default.as_ref() == Some(model),
            problem: self.is_ready(model).err().map(|error| error.to_string()),
            native_schema: provider.is_some_and(|known| known.native_schema(&model.model, false)),
            images: provider.is_some_and(|known| known.images(&model.model)),
            price: provider
                .and_then(|known| known.tariff(&model.model))
                .map(price),
        }
    }

    /// The provider with the user's own key where there is one, and whose that is.
    async fn provider_for(
        &self,
        ctx: &UserExecutionContext,
        model: &ModelRef,
    ) -> Result<(Arc<dyn Provider>, Option<UserId>), Error> {
        let provider = self.named(model)?;
        if let Some(key) = self.own_keys.of(ctx, provider.as_ref()).await? {
            return Ok((provider.with_key(key)?, ctx.user_id()));
        }
        provider.ready(&model.model)?;
        Ok((Arc::clone(provider), None))
    }

    /// The provider of a model that has this name here.
    fn named(&self, model: &ModelRef) -> Result<&Arc<dyn Provider>, Error> {
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
        Ok(provider)
    }
}

/// The stream once its first chunk is there, which it gives again.
async fn begun(stream: Result<ChatStream, Error>) -> Result<ChatStream, Error> {
    let mut stream = stream?;
    match stream.next().await {
        Some(Err(error)) => Err(error),
        first => Ok(Box::pin(futures::stream::iter(first).chain(stream))),
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
/// What was said once, said again.
fn replayed(chunks: Arc<[Chunk]>) -> ChatStream {
    let count = chunks.len();
    let chunk = move |index: usize| Ok(chunks[index].clone());
    Box::pin(futures::stream::iter((0..count).map(chunk)))
}
