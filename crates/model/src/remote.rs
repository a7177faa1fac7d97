//! A provider over HTTP, whatever its format: one request, and the answer as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use netra_prices::{PriceList, Tariff};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, Url};
use serde_json::{Map, Value};

use netra_context::{UserExecutionContext, memory};

use crate::answer::{Answer, Draft, Format};
use crate::failure::{self, Complaint};
use crate::names::ToolNames;
use crate::{ChatRequest, ChatStream, Chunk, Error, Kind, Provider, ProviderConfig, Secret};

/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// As much of an error's body as is read for its code.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// An answer that comes whole, from a server that does not stream, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// What one format does in its own way.
pub(crate) trait Wire: Clone + Send + Sync + 'static {
    /// How its answers are read.
    type Format: Format + 'static;

    /// Where calls of this model go.
    fn url(&self, model: &str) -> Option<Url>;

    /// The header that carries the key, and what stands before the key in it.
    fn key_header(&self) -> (HeaderName, &'static str);

    /// Headers that every call has.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The longest answer that a request has which names none; none where the provider decides.
    fn longest_answer(&self, _model: &str) -> Option<u32> {
        None
    }

    /// Whether its host answers nobody without a key.
    fn needs_key(&self) -> bool;

    /// The body of a request; `provider` is the configured name.
    fn body(
        &self,
        provider: &str,
        request: &ChatRequest,
        names: &ToolNames,
    ) -> serde_json::Result<Vec<u8>>;

    /// Reads one answer.
    fn format(&self) -> Self::Format;

    /// Whether this model holds its answers to a schema.
    fn native_schema(&self, model: &str, tools: bool) -> bool;
}

/// Prices of the calls of one provider.
#[derive(Clone)]
pub(crate) struct Prices {
    /// The list.
    pub(crate) list: Arc<PriceList>,
    /// Whose models of it these are.
    pub(crate) provider: String,
}

/// A provider that is called over HTTP.
#[derive(Clone)]
pub(crate) struct Remote<W> {
    name: String,
    kind: Kind,
    wire: W,
    client: Client,
    key: Option<Secret>,
    headers: HeaderMap,
    has_key: bool,
    models: Vec<String>,
    window: Option<u32>,
    longest_answer: Option<u32>,
    native_schema: Option<bool>,
    images: bool,
    body: Map<String, Value>,
    prices: Option<Prices>,
    tells_trace: bool,
}

impl<W: Wire> Remote<W> {
    /// Checks the configuration; connects to nothing.
    pub(crate) fn new(
        name: &str,
        config: ProviderConfig,
        wire: W,
        prices: Option<Prices>,
    ) -> Result<Self, Error> {
        let client = client(name, &config)?;
        let headers = configured_headers(name, &config, &wire)?;
        let (key_header, _) = wire.key_header();
        let elsewhere = |header: &String| key_header.as_str().eq_ignore_ascii_case(header);
        Ok(Self {
            name: name.to_owned(),
            kind: config.kind,
            client,
            headers,
            has_key: config.api_key.is_some() || config.headers.keys().any(elsewhere),
            key: config.api_key,
            models: config.models,
            window: config.context_tokens,
            longest_answer: config.max_output_tokens,
            native_schema: config.native_schema,
            images: config.images,
            body: config.body,
            wire,
            prices,
            tells_trace: config.trace_context,
        })
    }

    /// The same with a user's key. None of the configured headers goes along: they are for gateways that want the
    /// server's key there, and nobody can tell which of them is none.
    fn keyed(&self, key: Secret) -> Result<Self, Error> {
        let mut headers = headers_of_all(&self.wire);
        let (header, value) = key_header(&self.wire, &key).ok_or_else(|| {
            let words = "the key has characters that no header can carry";
            Error::NotConfigured(words.to_owned())
        })?;
        headers.insert(header, value);
        Ok(Self {
            key: Some(key),
            headers,
            ..self.clone()
        })
    }

    /// The model in the price list, where it is known whose prices hold.
    fn listed(&self, model: &str) -> Option<(&netra_prices::Model, &PriceList)> {
        let prices = self.prices.as_ref()?;
        prices.list.find_of(&prices.provider, model)
    }

    fn body(&self, request: &ChatRequest, names: &ToolNames) -> Result<Vec<u8>, Error> {
        let pictures: usize = request.images().map(|image| image.base64.len()).sum();
        // The body holds each picture once more, and twice while further fields are put in.
        let copies = if self.body.is_empty() { 1 } else { 3 };
        let _room = memory::reserve(copies * pictures).map_err(Error::NoRoom)?;
        let merged = || -> serde_json::Result<Vec<u8>> {
            let body = self.wire.body(&self.name, request, names)?;
            if self.body.is_empty() {
                return Ok(body);
            }
            let mut fields: Value = serde_json::from_slice(&body)?;
            merge(&mut fields, &self.body);
            serde_json::to_vec(&fields)
        };
        merged().map_err(|_| Error::InvalidRequest {
            provider: self.name.clone(),
            status: 0,
            code: Some("not_serialisable".to_owned()),
            param: None,
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
        let body = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        // Some gateways wrap the object in a list.
        let error = body.get(0).unwrap_or(&body).get("error");
        let complaint = error.map(|error| Complaint::read(error, self.key.as_ref()));
        failure::from_status(&self.name, status, &headers, complaint.unwrap_or_default())
    }

    /// An answer that came as one document, of which a declared length is reserved at once.
    async fn document(
        &self,
        response: Response,
        mut answer: Answer<W::Format>,
    ) -> Result<ChatStream, Error> {
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
        Ok(chunks(
            self.name.clone(),
            answer,
            futures::stream::empty().boxed(),
        ))
    }
}

#[async_trait]
impl<W: Wire> Provider for Remote<W> {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    fn models(&self) -> &[String] {
        &self.models
    }

    fn ready(&self, _model: &str) -> Result<(), Error> {
        if self.wire.needs_key() && !self.has_key {
            let name = &self.name;
            return Err(Error::NotConfigured(format!(
                "the model provider {name} needs an api_key"
            )));
        }
        Ok(())
    }

    fn native_schema(&self, model: &str, tools: bool) -> bool {
        // A server that holds each word to a schema lets no tool be called, unless it is known to do both.
        let known = || self.wire.native_schema(model, tools);
        match self.native_schema {
            Some(said) => said && (!tools || known()),
            None => known(),
        }
    }

    fn images(&self, _model: &str) -> bool {
        self.images
    }

    fn tariff(&self, model: &str) -> Option<Tariff> {
        self.listed(model).map(|(listed, _)| listed.tariff())
    }

    fn price_list(&self, model: &str) -> Option<&PriceList> {
        self.listed(model).map(|(_, list)| list)
    }

    fn place(&self) -> Option<String> {
        let url = self.wire.url("any")?;
        let host = url.host_str()?;
        Some(match url.port_or_known_default() {
            Some(443) | None => host.to_owned(),
            Some(port) => format!("{host}:{port}"),
        })
    }

    fn with_key(&self, key: Secret) -> Result<Arc<dyn Provider>, Error> {
        Ok(Arc::new(self.keyed(key)?))
    }

    fn window(&self, model: &str) -> Option<u32> {
        let known = || u32::try_from(self.listed(model)?.0.context_window?).ok();
        self.window.or_else(known)
    }

    fn longest_answer(&self, model: &str) -> Option<u32> {
        self.longest_answer
            .or_else(|| self.wire.longest_answer(model))
    }

    async fn stream(
        &self,
        ctx: &UserExecutionContext,
        mut request: ChatRequest,
    ) -> Result<ChatStream, Error> {
        request.max_output_tokens = request.max_output_tokens.or(self.longest_answer);
        if !self.native_schema(&request.model, !request.tools.is_empty()) {
            request.response_schema = None;
        }
        let url = self.wire.url(&request.model).ok_or_else(|| {
            let name = &self.name;
            Error::NotConfigured(format!("the model provider {name} has no such model"))
        })?;
        let names = ToolNames::of(&request);
        let body = self.body(&request, &names)?;
        let tariff = self.tariff(&request.model);
        drop(request);
        let mut call = self.client.post(url).headers(self.headers.clone());
        let trace = ctx
            .trace()
            .filter(|trace| self.tells_trace && trace.is_sampled());
        if let Some(trace) = trace {
            call = call.header("traceparent", trace.header());
        }
        let sent = call.body(body).send().await;
        let response = sent.map_err(|error| failure::from_transport(&self.name, &error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let draft = Draft::new(self.name.clone(), self.key.clone(), names, tariff);
        let answer = Answer::new(self.wire.format(), draft);
        if is_document(&response) {
            return self.document(response, answer).await;
        }
        Ok(chunks(
            self.name.clone(),
            answer,
            response.bytes_stream().boxed(),
        ))
    }
}

/// Puts further fields into a body; objects are put into each other, all else is replaced.
fn merge(into: &mut Value, fields: &Map<String, Value>) {
    let Value::Object(known) = into else { return };
    for (name, value) in fields {
        match (known.get_mut(name), value) {
            (Some(inner @ Value::Object(_)), Value::Object(fields)) => merge(inner, fields),
            _ => {
                known.insert(name.clone(), value.clone());
            }
        }
    }
}

type Bodies = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// Where a stream of chunks stands.
struct Reading<F> {
    provider: String,
    answer: Answer<F>,
    /// Gone once nothing more is to be read.
    bytes: Option<Bodies>,
    /// Comes after the chunks that were complete before it.
    failed: Option<Error>,
}

fn chunks<F: Format + 'static>(provider: String, answer: Answer<F>, bytes: Bodies) -> ChatStream {
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

impl<F: Format> Reading<F> {
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

/// The configured address, or the one that the format has.
pub(crate) fn base_url(
    name: &str,
    config: &ProviderConfig,
    usual: Option<&str>,
) -> Result<Url, Error> {
    let wrong = |what: &str| Error::NotConfigured(format!("the model provider {name}: {what}"));
    let text = config.base_url.as_deref().or(usual);
    let text = text.ok_or_else(|| wrong("it needs a base_url"))?;
    let no_address = || wrong("base_url is no address that begins with http:// or https://");
    let mut url = Url::parse(text).map_err(|_| no_address())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(no_address());
    }
    url.path_segments_mut()
        .map_err(|()| no_address())?
        .pop_if_empty();
    Ok(url)
}

/// An address with these parts at its end; its query is kept.
pub(crate) fn below(base: &Url, parts: &[&str]) -> Option<Url> {
    let mut url = base.clone();
    url.path_segments_mut().ok()?.extend(parts);
    Some(url)
}

/// The headers of every call, whoever's key it has.
fn headers_of_all<W: Wire>(wire: &W) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    for (header, value) in wire.headers() {
        headers.insert(*header, HeaderValue::from_static(value));
    }
    headers
}

/// The header that carries a key; none where it cannot.
fn key_header<W: Wire>(wire: &W, key: &Secret) -> Option<(HeaderName, HeaderValue)> {
    let (header, before) = wire.key_header();
    let value = sensitive(&format!("{before}{}", key.expose()))?;
    Some((header, value))
}

/// The headers of calls that are made in the server's own name.
fn configured_headers<W: Wire>(
    name: &str,
    config: &ProviderConfig,
    wire: &W,
) -> Result<HeaderMap, Error> {
    let wrong = |what: &str| Error::NotConfigured(format!("the model provider {name}: {what}"));
    let mut headers = headers_of_all(wire);
    if let Some(key) = &config.api_key {
        let header = key_header(wire, key);
        let (header, value) =
            header.ok_or_else(|| wrong("api_key has characters that no header can carry"))?;
        headers.insert(header, value);
    }
    for (header, value) in &config.headers {
        let header = HeaderName::try_from(header)
            .map_err(|_| wrong("headers has a name that is no header's"))?;
        let value = sensitive(value.expose());
        let value = value.ok_or_else(|| wrong("headers has a value that no header can carry"))?;
        headers.insert(header, value);
    }
    Ok(headers)
}

fn client(name: &str, config: &ProviderConfig) -> Result<Client, Error> {
    let wrong = |what: &str| Error::NotConfigured(format!("the model provider {name}: {what}"));
    let client = Client::builder()
        .user_agent(concat!("netra/", env!("CARGO_PKG_VERSION")))
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

/// A header's value that no log shows.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::ChatCompletions;

    #[test]
    fn with_a_users_own_key_no_configured_header_is_sent_and_not_the_servers_key() {
        let headers = ["x-gateway-key", "authorization"].map(|name| {
            let value = Secret::new(format!("server's {name}"));
            (name.to_owned(), value)
        });
        let config = ProviderConfig {
            headers: headers.into_iter().collect(),
            ..ProviderConfig::openai_compatible("http://127.0.0.1:9/v1", Some(Secret::new("own")))
        };
        let wire = ChatCompletions::new("p", &config).unwrap();
        let remote = Remote::new("p", config, wire, None).unwrap();
        assert_eq!(remote.headers["x-gateway-key"], "server's x-gateway-key");
        assert_eq!(remote.headers["authorization"], "server's authorization");
        let keyed = remote.keyed(Secret::new("users")).unwrap();
        let sent = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let sent: Vec<String> = keyed.headers.values().map(sent).collect();
        assert!(
            !sent.iter().any(|value| value.contains("server")),
            "{sent:?}"
        );
        assert_eq!(keyed.headers["authorization"], "Bearer users");
        assert_eq!(keyed.headers[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn further_fields_are_put_into_objects_and_replace_all_else() {
        let mut body = json!({ "a": 1, "b": { "c": 2, "d": [3] } });
        let fields = json!({ "a": 9, "b": { "d": [], "e": true }, "f": null });
        merge(&mut body, fields.as_object().unwrap());
        assert_eq!(
            body,
            json!({ "a": 9, "b": { "c": 2, "d": [], "e": true }, "f": null })
        );
    }
}
