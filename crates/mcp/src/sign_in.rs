//! Signing in at a web service by OAuth's client credentials: nobody sits at a browser here, so Netra asks for a token in
//! its own name.
//!
//! Where the token comes from is said by the configuration, or by the service itself. What the service says is believed
//! for its own host only: else it could have the secret sent to whom it likes.

use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use netra_context::Secret;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::config::{Given, Oauth};
use crate::instance::chain;
use crate::opened::Opened;

/// The largest document that is read, in bytes.
const MAX_DOCUMENT: usize = 64 * 1024;
/// How long a question may take.
const LIMIT: Duration = Duration::from_secs(10);
/// A token is not used so shortly before its end.
const BEFORE_THE_END: Duration = Duration::from_secs(30);

/// The way to tokens for one service, and the token of now.
pub(crate) struct SignIn {
    client: Client,
    oauth: Oauth,
    secret: Zeroizing<String>,
    service: Url,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: Secret,
    bearer: HeaderValue,
    until: Option<Instant>,
}

/// What a service says of itself.
#[derive(Deserialize)]
struct Protected {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
}

/// What a server of tokens says of itself.
#[derive(Deserialize)]
struct Issuer {
    issuer: String,
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: Secret,
    token_type: String,
    expires_in: Option<u64>,
}

/// Where tokens are had, and whether credentials go into the body there.
struct Endpoint {
    url: Url,
    in_body: bool,
}

impl SignIn {
    pub(crate) fn new(
        client: &Client,
        oauth: &Oauth,
        service: &str,
        opened: &Opened,
    ) -> Result<Self, String> {
        let secret = match &oauth.client_secret {
            Given::Text(text) => Zeroizing::new(text.clone()),
            Given::Secret(used) => opened.text(used)?,
        };
        Ok(Self {
            client: client.clone(),
            oauth: oauth.clone(),
            secret,
            service: Url::parse(service).map_err(|error| error.to_string())?,
            held: Mutex::default(),
        })
    }

    /// The token of now, where there is a good one.
    pub(crate) async fn bearer(&self) -> Option<HeaderValue> {
        let held = self.held.lock().await;
        let good = |held: &&Held| held.until.is_none_or(|until| Instant::now() < until);
        held.as_ref().filter(good).map(|held| held.bearer.clone())
    }

    /// The token as servers may write it into what they say.
    pub(crate) async fn token(&self) -> Option<Secret> {
        let held = self.held.lock().await;
        held.as_ref().map(|held| held.token.clone())
    }

    /// A new token, in place of one that was refused with this challenge. Of several who ask at once one asks the server.
    pub(crate) async fn renew(
        &self,
        refused: Option<&HeaderValue>,
        challenge: Option<&str>,
    ) -> Result<HeaderValue, String> {
        let mut held = self.held.lock().await;
        if let Some(other) = held.as_ref().filter(|held| Some(&held.bearer) != refused)
            && other.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(other.bearer.clone());
        }
        let asked = tokio::time::timeout(LIMIT, self.ask(challenge)).await;
        let late = |_| "the server of tokens did not answer in time".to_owned();
        let token = asked.map_err(late)??;
        if !token.token_type.eq_ignore_ascii_case("bearer") {
            return Err("the token is no bearer token".to_owned());
        }
        let text = Zeroizing::new(format!("Bearer {}", token.access_token.expose()));
        let bearer = HeaderValue::from_str(&text);
        let mut bearer = bearer.map_err(|_| "the token cannot stand in a header".to_owned())?;
        bearer.set_sensitive(true);
        let lasts = token.expires_in.map(Duration::from_secs);
        // One that lasts longer than the clock goes has no end.
        let until = lasts
            .and_then(|lasts| Instant::now().checked_add(lasts.saturating_sub(BEFORE_THE_END)));
        *held = Some(Held {
            token: token.access_token,
            bearer: bearer.clone(),
            until,
        });
        Ok(bearer)
    }

    async fn ask(&self, challenge: Option<&str>) -> Result<Token, String> {
        let endpoint = self.endpoint(challenge).await?;
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("resource", self.service.as_str()),
        ];
        let told = challenge.and_then(|challenge| parameter(challenge, "scope"));
        if let Some(scope) = self.oauth.scope.as_deref().or(told) {
            form.push(("scope", scope));
        }
        let request = self.client.post(endpoint.url);
        let request = if endpoint.in_body {
            form.push(("client_id", &self.oauth.client_id));
            form.push(("client_secret", &self.secret));
            request
        } else {
            request.header(AUTHORIZATION, self.basic()?)
        };
        let answer = request.form(&form).send().await;
        let answer = answer.map_err(|error| chain(&error.without_url()))?;
        let status = answer.status();
        if !status.is_success() {
            // What it says more could be what it was sent.
            return Err(format!(
                "the server of tokens answered with the status {status}"
            ));
        }
        document(answer).await
    }

    /// Name and secret, each encoded by itself, as the grant asks for.
    fn basic(&self) -> Result<HeaderValue, String> {
        use base64::Engine as _;
        let encoded = |text: &str| -> Zeroizing<String> {
            let bytes = text.bytes().map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            });
            Zeroizing::new(bytes.collect())
        };
        let pair = format!(
            "{}:{}",
            *encoded(&self.oauth.client_id),
            *encoded(&self.secret)
        );
        let pair = Zeroizing::new(pair);
        let text = base64::engine::general_purpose::STANDARD.encode(pair.as_bytes());
        let value = HeaderValue::from_str(&Zeroizing::new(format!("Basic {text}")));
        let mut value = value.map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn endpoint(&self, challenge: Option<&str>) -> Result<Endpoint, String> {
        if let Some(url) = &self.oauth.token_url {
            let url = Url::parse(url).map_err(|error| format!("token_url: {error}"))?;
            return Ok(Endpoint {
                url,
                in_body: false,
            });
        }
        let issuer = self.issuer(challenge).await?;
        let path = issuer.path().trim_end_matches('/');
        let known = |before: &str, after: &str| self.own(issuer.join(&format!("{before}{after}")));
        let mut places = vec![
            known("/.well-known/oauth-authorization-server", path)?,
            known("/.well-known/openid-configuration", path)?,
        ];
        if !path.is_empty() {
            places.push(known(path, "/.well-known/openid-configuration")?);
        }
        let found: Issuer = self.first(&places).await.ok_or_else(|| {
            "the server of tokens does not say where tokens are had: name it in `oauth.token_url`"
                .to_owned()
        })?;
        if found.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
            return Err("the server of tokens says that it is another".to_owned());
        }
        let methods = &found.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|one| one == method);
        Ok(Endpoint {
            in_body: takes("client_secret_post") && !takes("client_secret_basic"),
            url: self.own(Url::parse(&found.token_endpoint))?,
        })
    }

    /// The server of tokens that the service names, or the service itself.
    async fn issuer(&self, challenge: Option<&str>) -> Result<Url, String> {
        let path = self.service.path().trim_end_matches('/');
        let well_known = "/.well-known/oauth-protected-resource";
        let mut places = Vec::new();
        if let Some(told) = challenge.and_then(|told| parameter(told, "resource_metadata")) {
            places.push(self.own(self.service.join(told))?);
        }
        places.push(self.own(self.service.join(&format!("{well_known}{path}")))?);
        places.push(self.own(self.service.join(well_known))?);
        let found: Option<Protected> = self.first(&places).await;
        if let Some(found) = &found
            && !self.is_of(&found.resource)
        {
            return Err("what it says of its tokens is about another service".to_owned());
        }
        match found.and_then(|found| found.authorization_servers.into_iter().next()) {
            Some(issuer) => self.own(Url::parse(&issuer)),
            None => self.own(self.service.join("/")),
        }
    }

    /// Whether something that is said of this resource is said of the service.
    fn is_of(&self, resource: &str) -> bool {
        let Ok(resource) = Url::parse(resource) else {
            return false;
        };
        let (whole, path) = (self.service.path(), resource.path().trim_end_matches('/'));
        let below = whole.strip_prefix(path);
        resource.origin() == self.service.origin()
            && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    /// A place that the service names, where it is on the service's own host.
    fn own<E: std::fmt::Display>(&self, place: Result<Url, E>) -> Result<Url, String> {
        let place = place.map_err(|error| error.to_string())?;
        let is_as_safe = place.scheme() == "https" || place.scheme() == self.service.scheme();
        if place.host_str() == self.service.host_str() && is_as_safe {
            return Ok(place);
        }
        let host = place.host_str().unwrap_or_default();
        Err(format!(
            "it wants tokens of {host}: where that is right, name their place in `oauth.token_url`"
        ))
    }

    /// The first document that is there.
    async fn first<T: for<'de> Deserialize<'de>>(&self, places: &[Url]) -> Option<T> {
        for place in places {
            if let Ok(answer) = self.client.get(place.clone()).send().await
                && answer.status().is_success()
                && let Ok(found) = document(answer).await
            {
                return Some(found);
            }
        }
        None
    }
}

async fn document<T: for<'de> Deserialize<'de>>(
    mut answer: reqwest::Response,
) -> Result<T, String> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(part) = answer
        .chunk()
        .await
        .map_err(|error| chain(&error.without_url()))?
    {
        if body.len() + part.len() > MAX_DOCUMENT {
            return Err("the answer of the server of tokens is too long".to_owned());
        }
        body.extend_from_slice(&part);
    }
    // The parser's own words could show what stands there.
    serde_json::from_slice(&body)
        .map_err(|_| "the answer of the server of tokens cannot be understood".to_owned())
}

/// A parameter of a challenge such as `Bearer resource_metadata="https://…", scope="a b"`.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let start = challenge.match_indices(name).find(|(at, _)| {
        let before = challenge[..*at].chars().next_back();
        before.is_none_or(|before| matches!(before, ' ' | ','))
            && challenge[at + name.len()..].starts_with("=\"")
    })?;
    let rest = &challenge[start.0 + name.len() + 2..];
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_by_whole_names() {
        let challenge =
            "Bearer error=\"x\", not_scope=\"no\", scope=\"a b\", resource_metadata=\"/m\"";
        assert_eq!(parameter(challenge, "scope"), Some("a b"));
        assert_eq!(parameter(challenge, "resource_metadata"), Some("/m"));
        assert_eq!(parameter(challenge, "realm"), None);
    }

    #[test]
    fn what_a_service_says_is_believed_for_its_own_host_only() {
        let oauth = Oauth {
            client_id: "netra".to_owned(),
            client_secret: Given::Text("s3cret of a client".to_owned()),
            scope: None,
            token_url: None,
        };
        assert!(!format!("{oauth:?}").contains("s3cret"));
        let service = "https://tools.example/mcp";
        let sign_in = SignIn::new(&Client::new(), &oauth, service, &Opened::default()).unwrap();
        let own = |url: &str| sign_in.own(Url::parse(url));
        assert!(own("https://tools.example:8443/token").is_ok());
        for other in ["https://evil.example/token", "http://tools.example/token"] {
            assert!(own(other).unwrap_err().contains("token_url"), "{other}");
        }
        for mine in [
            "https://tools.example",
            "https://tools.example/mcp",
            "https://tools.example/mcp/",
        ] {
            assert!(sign_in.is_of(mine), "{mine}");
        }
        for other in [
            "https://tools.example/m",
            "https://tools.example:1/mcp",
            "https://x/mcp",
        ] {
            assert!(!sign_in.is_of(other), "{other}");
        }
        let basic = sign_in.basic().unwrap();
        assert!(basic.is_sensitive());
        // netra:s3cret%20of%20a%20client
        assert_eq!(basic, "Basic bmV0cmE6czNjcmV0JTIwb2YlMjBhJTIwY2xpZW50");
    }
}
