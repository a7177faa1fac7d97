//! Any server that speaks OpenAI's chat completions: OpenAI itself, gateways, local servers.

mod answer;
mod failure;
mod wire;

#[cfg(test)]
mod answer_tests;

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};

use netra_context::{UserExecutionContext, memory};

use crate::{
    ChatRequest, ChatStream, Chunk, Error, MaxTokensField, Provider, ProviderConfig, Secret,
};
use answer::Answer;
use failure::Complaint;
use wire::{Body, ToolNames};

/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// As much of an error's body as is read for its code.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// An answer that comes whole, from a server that does not stream, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// The host that takes no call without a key.
const OPENAI_HOST: &str = "api.openai.com";

/// A provider that speaks chat completions.
pub(crate) struct OpenAi {
    name: String,
    url: Url,
    client: Client,
    key: Option<Secret>,
    models: Vec<String>,
    window: Option<u32>,
    max_tokens: MaxTokensField,
    usage: bool,
    schema: bool,
    images: bool,
}

impl OpenAi {
    /// Checks the configuration; connects to nothing.
    pub(crate) fn new(name: &str, config: ProviderConfig) -> Result<Self, Error> {
        let url = chat_url(name, &config.base_url)?;
        let openai = url.host_str() == Some(OPENAI_HOST);
        let client = client(name, &config)?;
        Ok(Self {
            name: name.to_owned(),
            url,
            client,
            key: config.api_key,
            models: config.models,
            window: config.context_tokens,
            max_tokens: config.max_tokens_field.unwrap_or(if openai {
                MaxTokensField::MaxCompletionTokens
            } else {
                MaxTokensField::MaxTokens
            }),
            usage: config.usage_in_stream,
            schema: config.native_schema.unwrap_or(openai),
            images: config.images,
        })
    }

    async fn refused(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read_up_to(response, MAX_ERROR_BYTES)
            .await
            .ok()
            .flatten()
            .unwrap_or_default();
        let body = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        // Some gateways wrap the object in a list.
        let error = body.get(0).unwrap_or(&body).get("error");
        let complaint = error.map(|error| Complaint::read(error, self.key.as_ref()));
        failure::from_status(&self.name, status, &headers, complaint.unwrap_or_default())
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn models(&self) -> &[String] {
        &self.models
    }

    fn window(&self, _model: &str) -> Option<u32> {
        self.window
    }

    fn ready(&self, _model: &str) -> Result<(), Error> {
        if self.url.host_str() == Some(OPENAI_HOST) && self.key.is_none() {
            let name = &self.name;
            return Err(Error::NotConfigured(format!(
                "the model provider {name} needs an api_key"
            )));
        }
        Ok(())
    }

    fn native_schema(&self, _model: &str, _tools: bool) -> bool {
        self.schema
    }

    fn images(&self, _model: &str) -> bool {
        self.images
    }

    async fn stream(
        &self,
        _ctx: &UserExecutionContext,
        request: ChatRequest,
    ) -> Result<ChatStream, Error> {
        let names = ToolNames::of(&request);
        let body = Body::new(&request, &names, self.max_tokens, self.usage, self.schema);
        let body = serde_json::to_vec(&body).map_err(|_| Error::InvalidRequest {
            provider: self.name.clone(),
            status: 0,
            code: Some("not_serialisable".to_owned()),
            param: None,
        })?;
        let sent = self.client.post(self.url.clone()).body(body).send().await;
        let response = sent.map_err(|error| failure::from_transport(&self.name, &error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let mut answer = Answer::new(self.name.clone(), self.key.clone(), names);
        if is_document(&response) {
            let cut = |_| Error::Cut {
                provider: self.name.clone(),
            };
            let declared = response.content_length();
            let declared = declared.and_then(|length| usize::try_from(length).ok());
            let most = declared
                .unwrap_or(MAX_DOCUMENT_BYTES)
                .min(MAX_DOCUMENT_BYTES);
            let _room = memory::reserve(2 * most).map_err(Error::NoRoom)?;
            let body = read_up_to(response, MAX_DOCUMENT_BYTES)
                .await
                .map_err(cut)?;
            let too_long = || Error::Malformed {
                provider: self.name.clone(),
                what: "the answer is too long",
            };
            answer.push_document(&body.ok_or_else(too_long)?)?;
            answer.end()?;
            return Ok(chunks(
                self.name.clone(),
                answer,
                futures::stream::empty().boxed(),
            ));
        }
        Ok(chunks(
            self.name.clone(),
            answer,
            response.bytes_stream().boxed(),
        ))
    }
}

type Bodies = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// Where a stream of chunks stands.
struct Reading {
    provider: String,
    answer: Answer,
    /// Gone once nothing more is to be read.
    bytes: Option<Bodies>,
    /// Comes after the chunks that were complete before it.
    failed: Option<Error>,
}

fn chunks(provider: String, answer: Answer, bytes: Bodies) -> ChatStream {
    let reading = Reading {
        provider,
        answer,
        bytes: Some(bytes),
        failed: None,
    };
    Box::pin(futures::stream::unfold(reading, async |mut reading| {
        reading.next().await.map(|chunk| (chunk, reading))
    }))
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        loop {
            if let Some(chunk) = self.answer.pop() {
                return Some(Ok(chunk));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            let bytes = self.bytes.as_mut()?;
            let read = match bytes.next().await {
                Some(Ok(bytes)) => self.answer.push(&bytes),
                Some(Err(_)) => Err(Error::Cut {
                    provider: self.provider.clone(),
                }),
                None => {
                    self.bytes = None;
                    self.answer.end()
                }
            };
            if read.is_err() || self.answer.finished() {
                self.bytes = None;
            }
            self.failed = read.err();
        }
    }
}

fn chat_url(name: &str, base: &str) -> Result<Url, Error> {
    let wrong = || {
        Error::NotConfigured(format!(
            "the model provider {name}: base_url is no address that begins with http:// or https://"
        ))
    };
    let mut url = Url::parse(base).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong());
    }
    url.path_segments_mut()
        .map_err(|()| wrong())?
        .pop_if_empty()
        .extend(["chat", "completions"]);
    Ok(url)
}

fn client(name: &str, config: &ProviderConfig) -> Result<Client, Error> {
    let wrong = |what: &str| Error::NotConfigured(format!("the model provider {name}: {what}"));
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    if let Some(key) = &config.api_key {
        let value = secret(&format!("Bearer {}", key.expose()));
        let value =
            value.ok_or_else(|| wrong("api_key has characters that no header can carry"))?;
        headers.insert(AUTHORIZATION, value);
    }
    for (header, value) in &config.headers {
        let header = HeaderName::try_from(header)
            .map_err(|_| wrong("headers has a name that is no header's"))?;
        let value = secret(value.expose());
        let value = value.ok_or_else(|| wrong("headers has a value that no header can carry"))?;
        headers.insert(header, value);
    }
    let client = Client::builder()
        .user_agent(concat!("netra/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        // A redirect would send the conversation to an address that nobody configured.
        .redirect(reqwest::redirect::Policy::none());
    let client = match &config.proxy {
        None => client.no_proxy(),
        Some(proxy) => client
            .proxy(reqwest::Proxy::all(proxy.expose()).map_err(|_| wrong("proxy is no address"))?),
    };
    client
        .build()
        .map_err(|_| wrong("no connection can be set up with these settings"))
}

fn is_document(response: &Response) -> bool {
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("application/json"))
}

/// The body, or none when it is longer than `limit`.
async fn read_up_to(mut response: Response, limit: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await? {
        if body.len() + bytes.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&bytes);
    }
    Ok(Some(body))
}
