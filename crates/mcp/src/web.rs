//! Streamable HTTP over the HTTP client that the rest of the server uses, with bounds on what is
//! read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use netra_context::memory;
use netra_tools::Refusal;
use reqwest::{Client, RequestBuilder, Response, redirect};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, InsufficientScopeError, SseError, StreamableHttpClient,
    StreamableHttpError, StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use sse_stream::{Sse, SseStream};

use crate::config::Address;
use crate::instance::chain;
use crate::opened::Opened;
use crate::sign_in::SignIn;

const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const BOTH: &str = "application/json, text/event-stream";
/// A connection that takes longer than this is not going to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What servers know us by.
const USER_AGENT: &str = concat!("netra/", env!("CARGO_PKG_VERSION"));

type Refused = StreamableHttpError<reqwest::Error>;
type Events = BoxStream<'static, Result<Sse, SseError>>;

/// One user's connections to one server: neither they nor what they carry is shared.
#[derive(Clone)]
pub(crate) struct Web {
    client: Client,
    fixed: HeaderMap,
    pub(crate) sign_in: Option<Arc<SignIn>>,
}

impl Web {
    pub(crate) fn new(address: &Address, opened: &Opened) -> Result<Self, String> {
        let client = match &address.judged {
            Some(judged) => judged.web.client_for(&judged.target),
            None => Client::builder()
                // A redirect could carry the headers to somebody else.
                .redirect(redirect::Policy::none())
                .no_proxy()
                .connect_timeout(CONNECT_LIMIT)
                .user_agent(USER_AGENT),
        };
        let mut fixed = address.headers.clone();
        for (name, used) in &address.secrets {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let mut value = HeaderValue::from_str(&opened.text(used)?)
                .map_err(|_| format!("the secret {:?} cannot stand in a header", used.secret))?;
            value.set_sensitive(true);
            fixed.insert(name, value);
        }
        let client = client.build().map_err(|error| chain(&error))?;
        let sign_in = address.oauth.as_ref().map(|oauth| {
            let sign_in = SignIn::new(&client, oauth, &address.url, opened)?;
            Ok::<_, String>(Arc::new(sign_in))
        });
        Ok(Self {
            client,
            fixed,
            sign_in: sign_in.transpose()?,
        })
    }

    async fn ask(
        &self,
        request: RequestBuilder,
        session: Option<&str>,
        headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Response, Refused> {
        let mut request = request.headers(self.fixed.clone());
        if let Some(session) = session {
            request = request.header(SESSION, session);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = self.send(request).await?;
        let head = response.headers();
        let challenge = head
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok());
        match (response.status(), challenge) {
            (StatusCode::UNAUTHORIZED, challenge) => {
                let challenge = challenge.unwrap_or_default().to_owned();
                let error = AuthRequiredError::new(challenge);
                Err(StreamableHttpError::AuthRequired(error))
            }
            (StatusCode::FORBIDDEN, Some(challenge)) => {
                let error = InsufficientScopeError::new(challenge.to_owned(), None);
                Err(StreamableHttpError::InsufficientScope(error))
            }
            _ => Ok(response),
        }
    }
}

impl Web {
    /// Sends it with a token where Netra signs in, and once more with a new one where the first is refused.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let Some(sign_in) = &self.sign_in else {
            return request.send().await.map_err(failed);
        };
        let again = request.try_clone();
        let bearer = sign_in.bearer().await;
        let request = match &bearer {
            Some(bearer) => request.header(AUTHORIZATION, bearer.clone()),
            None => request,
        };
        let response = request.send().await.map_err(failed)?;
        let (StatusCode::UNAUTHORIZED, Some(again)) = (response.status(), again) else {
            return Ok(response);
        };
        let challenge = text_of(response.headers(), WWW_AUTHENTICATE.as_str());
        let renewed = sign_in.renew(bearer.as_ref(), challenge.as_deref()).await;
        let bearer = renewed.map_err(|why| {
            let words = format!("it wants a token, and there is none: {why}");
            StreamableHttpError::Io(io::Error::other(words))
        })?;
        let again = again.header(AUTHORIZATION, bearer);
        again.send().await.map_err(failed)
    }
}

impl StreamableHttpClient for Web {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            custom_headers,
            limits,
        )
        .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        _: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let request = self.client.post(&*uri).header(ACCEPT, BOTH).json(&message);
        let session = session_id.as_deref();
        let response = self.ask(request, session, custom_headers).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && session.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        if !status.is_success() {
            return refused(&message, session.is_some(), response, &limits).await;
        }
        // Some servers answer a notification with more than that they have taken it.
        if !matches!(message, ClientJsonRpcMessage::Request(_)) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let new_session = text_of(response.headers(), SESSION);
        match media_type(response.headers()).as_deref() {
            Some(EVENTS) => {
                let events = events(response, limits.max_sse_event_size);
                Ok(StreamableHttpPostResponse::Sse(events, new_session))
            }
            Some(JSON) => {
                let body = whole(response, limits.max_json_response_size).await?;
                let message = read(&body)?;
                Ok(StreamableHttpPostResponse::Json(message, new_session))
            }
            other => {
                let other = other.map(str::to_owned);
                Err(StreamableHttpError::UnexpectedContentType(other))
            }
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        _: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Refused> {
        let request = self.client.delete(&*uri);
        let response = self.ask(request, Some(&session_id), custom_headers).await?;
        // A server need not let clients end sessions.
        if response.status() != StatusCode::METHOD_NOT_ALLOWED {
            response.error_for_status().map_err(failed)?;
        }
        Ok(())
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Events, Refused> {
        let limit = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            limit,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        _: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<Events, Refused> {
        let mut request = self.client.get(&*uri).header(ACCEPT, EVENTS);
        if let Some(last) = last_event_id {
            request = request.header(LAST_EVENT, last);
        }
        let response = self
            .ask(request, session_id.as_deref(), custom_headers)
            .await?;
        match response.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            status if !status.is_success() => Err(status_error(&response).into()),
            _ => match media_type(response.headers()).as_deref() {
                Some(EVENTS) => Ok(events(response, max_sse_event_size)),
                other => {
                    let other = other.map(str::to_owned);
                    Err(StreamableHttpError::UnexpectedContentType(other))
                }
            },
        }
    }
}

/// An error without the address, which may hold a key. Where the address was refused, that is what is told.
fn failed(error: reqwest::Error) -> Refused {
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            let words = format!("it is not reached: {refusal}");
            return StreamableHttpError::Io(io::Error::other(words));
        }
        source = cause.source();
    }
    StreamableHttpError::Client(error.without_url())
}

/// What an answer that is no success means: an error of the protocol where its body is one. A
/// server of the older era knows no discovery, and says so in ways of its own.
async fn refused(
    message: &ClientJsonRpcMessage,
    in_session: bool,
    response: Response,
    limits: &StreamableHttpResponseLimits,
) -> Result<StreamableHttpPostResponse, Refused> {
    let status = response.status();
    let other = status_error(&response);
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(other.into());
    }
    let is_json = media_type(response.headers()).as_deref() == Some(JSON);
    let body = if is_json {
        whole(response, limits.max_json_response_size).await.ok()
    } else {
        None
    };
    let told = body.and_then(|body| match read(&body) {
        Ok(ServerJsonRpcMessage::Error(error)) => Some(error),
        _ => None,
    });
    let request = match message {
        ClientJsonRpcMessage::Request(request) => Some(request),
        _ => None,
    };
    let id = request.map(|request| request.id.clone());
    let discovers = !in_session
        && request.is_some_and(|one| matches!(one.request, ClientRequest::DiscoverRequest(_)));
    let unread = told.as_ref().is_some_and(|told| told.id.is_none());
    let answer = match told {
        // Servers that have forgotten a session often say so by this status in place of 404,
        // without a look at what was asked.
        Some(_) if in_session && unread && status == StatusCode::BAD_REQUEST => {
            return Err(StreamableHttpError::SessionExpired);
        }
        // The answer to a request is its own, even where the server did not read its number.
        Some(told) if discovers || unread => ServerJsonRpcMessage::error(told.error, id),
        Some(told) => ServerJsonRpcMessage::Error(told),
        None if discovers && status.is_client_error() && status != StatusCode::FORBIDDEN => {
            let words = format!("discovery was answered with the status {status}");
            ServerJsonRpcMessage::error(ErrorData::invalid_request(words, None), id)
        }
        None => return Err(other.into()),
    };
    Ok(StreamableHttpPostResponse::Json(answer, None))
}

fn status_error(response: &Response) -> HttpStatusError {
    let retry_after = text_of(response.headers(), RETRY_AFTER.as_str());
    HttpStatusError::new(response.status().as_u16(), retry_after)
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

/// The media type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let whole = text_of(headers, CONTENT_TYPE.as_str())?;
    let bare = whole.split(';').next().unwrap_or_default();
    Some(bare.trim().to_ascii_lowercase())
}

fn read(body: &[u8]) -> Result<ServerJsonRpcMessage, Refused> {
    let no_room = |over: memory::OverLimit| {
        let words = format!("no memory is left for the answer: {over}");
        StreamableHttpError::Io(io::Error::new(io::ErrorKind::OutOfMemory, words))
    };
    let _room = memory::reserve_for_json(body).map_err(no_room)?;
    Ok(serde_json::from_slice(body)?)
}

async fn whole(mut response: Response, max_size: usize) -> Result<Vec<u8>, Refused> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if body.len() + part.len() > max_size {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size });
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn events(response: Response, max_size: usize) -> Events {
    let bytes = bounded(response.bytes_stream(), max_size);
    SseStream::from_bytes_stream(bytes).boxed()
}

/// The bytes as they come, until one event is longer than it may be.
fn bounded(
    bytes: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    max_size: usize,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut size = EventSize::default();
    bytes.map(move |part| {
        let part = part.map_err(|error| io::Error::other(error.without_url()))?;
        if size.after(&part) > max_size {
            let words = format!("an event is longer than {max_size} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(part)
    })
}

/// How long the event is that is being read: a blank line ends one.
#[derive(Default)]
struct EventSize {
    bytes: usize,
    /// Nothing has come since a line ended, so that another end makes a blank line.
    at_line_end: bool,
    /// A `\n` now belongs to the `\r` before it.
    after_return: bool,
}

impl EventSize {
    /// The length of the longest event that the part ends or goes on with.
    fn after(&mut self, part: &[u8]) -> usize {
        let mut longest = 0;
        for byte in part {
            self.bytes += 1;
            longest = longest.max(self.bytes);
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    if self.at_line_end {
                        self.bytes = 0;
                    }
                    self.at_line_end = true;
                    self.after_return = *byte == b'\r';
                }
                _ => {
                    self.at_line_end = false;
                    self.after_return = false;
                }
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_an_event_begins_anew_after_each_blank_line() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let event = format!("data: 1234{end}");
            let mut size = EventSize::default();
            let mut longest = 0;
            // Split anywhere, as a network does.
            for byte in event.repeat(50).as_bytes() {
                longest = longest.max(size.after(&[*byte]));
            }
            assert!(longest <= event.len() + 1, "{end:?}: {longest}");
        }
        let mut size = EventSize::default();
        assert_eq!(size.after(b"data: 1\ndata: 2\ndata: 3\n"), 24);
    }

    #[test]
    fn a_media_type_is_read_without_case_and_parameters() {
        let mut headers = HeaderMap::new();
        assert_eq!(media_type(&headers), None);
        let value = HeaderValue::from_static("Text/Event-Stream; charset=utf-8");
        headers.insert(CONTENT_TYPE, value);
        assert_eq!(media_type(&headers).as_deref(), Some(EVENTS));
    }
}
