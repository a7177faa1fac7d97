//! A server, and who asks: requests, credentials that are renewed, and repeats that do no harm.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netra_protocol::account::Tokens;
use netra_protocol::{ErrorBody, Page};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::credentials::{Access, Credentials, Limited, RefreshToken, TokenSource, access_of};
use crate::error::Error;

/// How much of a foreign error answer is kept.
const SHOWN_BODY: usize = 300;

/// How long an answer may take to a request that is repeated, or that others wait for.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// Names a request, so that a repeat is the same one.
pub(crate) const KEY: &str = "idempotency-key";

/// A server, and who asks. Cheap to clone; clones share connections and credentials.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Arc<Credentials>,
    backoff: Backoff,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .field("token", &self.token().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Who asks.
impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`, with an access token or
    /// API key that stays as it is.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Error> {
        let address = || Error::Address(base.to_owned());
        let url = reqwest::Url::parse(base).map_err(|_| address())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(address());
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("netra-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .tcp_nodelay(true)
            // The proxy of the environment must not see what goes to a server on this machine.
            .no_proxy()
            .build()?;
        let moment = Duration::from_secs(1);
        Ok(Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            credentials: Arc::new(Credentials::fixed(token)),
            backoff: Backoff::new(moment / 10, moment, moment),
        })
    }

    fn with(&self, credentials: Credentials) -> Self {
        Self {
            credentials: Arc::new(credentials),
            ..self.clone()
        }
    }

    /// The same server, asked by someone else.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        self.with(Credentials::fixed(Some(token.into())))
    }

    /// The same server, asked by nobody.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        self.with(Credentials::fixed(None))
    }

    /// The same server, with what a sign-in gave: the access token is renewed before it ends, also
    /// on open sockets. A refresh token can be used once, so `told` gets each new pair to keep.
    #[must_use]
    pub fn with_tokens(
        &self,
        tokens: &Tokens,
        told: impl Fn(&Tokens) + Send + Sync + 'static,
    ) -> Self {
        let source = self.refresh_token(&tokens.refresh_token, told);
        self.with(Credentials::renewable(source, Some(access_of(tokens))))
    }

    /// The same, with nothing but a refresh token that was kept.
    #[must_use]
    pub fn with_refresh_token(
        &self,
        refresh_token: &str,
        told: impl Fn(&Tokens) + Send + Sync + 'static,
    ) -> Self {
        let source = self.refresh_token(refresh_token, told);
        self.with(Credentials::renewable(source, None))
    }

    /// The same server, with access tokens from elsewhere, after the first one where there is one.
    /// A source that takes longer than 30 s has given none.
    #[must_use]
    pub fn with_source(&self, source: impl TokenSource, first: Option<Access>) -> Self {
        self.with(Credentials::renewable(Limited(source), first))
    }

    fn refresh_token(
        &self,
        refresh_token: &str,
        told: impl Fn(&Tokens) + Send + Sync + 'static,
    ) -> RefreshToken {
        RefreshToken {
            server: self.anonymous(),
            current: Arc::new(Mutex::new(refresh_token.to_owned())),
            told: Arc::new(told),
        }
    }

    /// How long to repeat what may be repeated while the server is away; a second by default.
    #[must_use]
    pub fn with_backoff(&self, backoff: Backoff) -> Self {
        Self {
            backoff,
            ..self.clone()
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.backoff.clone()
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The access token or API key as it stands.
    pub fn token(&self) -> Option<String> {
        self.credentials.current()
    }

    /// The same after a renewal where one is due.
    pub(crate) async fn fresh_token(&self) -> Result<Option<String>, Error> {
        self.credentials.token(None).await
    }

    /// Another one than this, which was refused.
    pub(crate) async fn other_token(&self, refused: Option<&str>) -> Result<Option<String>, Error> {
        self.credentials.token(refused).await
    }

    pub(crate) fn is_renewable(&self) -> bool {
        self.credentials.is_renewable()
    }

    /// When the token is to be renewed.
    pub(crate) fn renewal_due(&self) -> Option<Instant> {
        self.credentials.due()
    }
}

/// Requests.
impl Client {
    /// A request with credentials, for what has no method here. `path` begins with `/`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match self.token() {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request; an answer that is no success becomes an error. Where the access token can
    /// be renewed, it is: before it ends, and when it is refused.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = match self.is_renewable() {
            true => self.send_renewing(request.build()?).await?,
            false => request.send().await?,
        };
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    async fn send_renewing(&self, mut request: Request) -> Result<Response, Error> {
        // None where the body is a stream, which cannot be sent again.
        let again = request.try_clone();
        let token = self.fresh_token().await?;
        sign(&mut request, token.as_deref())?;
        let response = self.http.execute(request).await?;
        match again {
            Some(mut again) if response.status() == StatusCode::UNAUTHORIZED => {
                sign(
                    &mut again,
                    self.other_token(token.as_deref()).await?.as_deref(),
                )?;
                Ok(self.http.execute(again).await?)
            }
            _ => Ok(response),
        }
    }

    /// Asks for something new. It is made once, whatever happens to the answer: the key, made here
    /// where the caller has none, is the same in every repeat.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        key: Option<&str>,
    ) -> Result<T, Error> {
        let key = key.map_or_else(new_key, str::to_owned);
        self.repeated(|| {
            let request = self.ask(Method::POST, path).header(KEY, &key);
            let request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            ready(Ok(request))
        })
        .await
    }

    /// Asks until there is an answer, for what may be asked twice. One that breaks off in the
    /// middle is none.
    pub(crate) async fn repeated<T, R>(
        &self,
        request: impl Fn() -> R + Send + Sync,
    ) -> Result<T, Error>
    where
        T: DeserializeOwned,
        R: Future<Output = Result<RequestBuilder, Error>> + Send,
    {
        let mut backoff = self.backoff.clone();
        loop {
            match self.json(request().await?).await {
                Err(error) if error.is_unanswered() => backoff.pause(error).await?,
                answered => return answered,
            }
        }
    }

    /// A request whose answer is short, and does not take long.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).timeout(ANSWER)
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, Error> {
        let bytes = self.send(request).await?.bytes().await?;
        serde_json::from_slice(&bytes).map_err(Error::malformed)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.repeated(|| ready(Ok(self.ask(Method::GET, path))))
            .await
    }

    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let limit = limit.map(|limit| ("limit", limit.to_string()));
        let cursor = cursor.map(|cursor| ("cursor", cursor.to_owned()));
        let query: Vec<_> = limit.into_iter().chain(cursor).collect();
        self.find(path, &query).await
    }

    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Error> {
        self.repeated(|| ready(Ok(self.ask(Method::GET, path).query(query))))
            .await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.json(self.ask(Method::POST, path).json(body)).await
    }

    pub(crate) async fn unit(&self, request: RequestBuilder) -> Result<(), Error> {
        self.send(request).await.map(drop)
    }
}

fn sign(request: &mut Request, token: Option<&str>) -> Result<(), Error> {
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Error::Malformed("the token is no header value".into()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(())
}

/// A key that nobody else has.
pub(crate) fn new_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The error in an answer that is no success.
pub(crate) async fn refusal(response: Response) -> Error {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return error.into(),
    };
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => Error::refused(status, body.error, retry_after),
        Err(_) => {
            let text = String::from_utf8_lossy(&body);
            Error::Unexpected {
                status,
                body: text.chars().take(SHOWN_BODY).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_addresses_are_servers() {
        for bad in [
            "",
            "127.0.0.1:8080",
            "ftp://host",
            "file:///etc/passwd",
            "http://",
        ] {
            assert!(
                matches!(Client::new(bad, None), Err(Error::Address(_))),
                "{bad}"
            );
        }
        let client = Client::new("http://127.0.0.1:8080/", None).unwrap();
        assert_eq!(client.base(), "http://127.0.0.1:8080");
    }

    #[test]
    fn debug_shows_no_token() {
        let client = Client::new("http://h", Some("very-secret".into())).unwrap();
        assert!(!format!("{client:?}").contains("very-secret"));
    }
}
