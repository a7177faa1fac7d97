//! What an issuer publishes, read over the net: kept, read again when it is old or a token names a key that is not known,
//! and no more often than it changes.

use std::sync::Arc;
use std::time::Duration;

use netra_context::Runtime;
use netra_protocol::{ErrorCode, Timestamp};
use tokio::sync::Mutex;

use super::jwks::{self, Key};
use crate::error::Error;

/// How old keys may be before they are read again.
const FRESH_MS: u64 = 10 * 60 * 1_000;
/// How old they may be where they cannot be read again.
const KEPT_MS: u64 = 24 * 3_600 * 1_000;
/// The least time between two readings, whatever tokens name.
const BETWEEN_MS: u64 = 5_000;
/// How long a reading may take, and the most bytes of an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 256 * 1024;

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Here.
    Keys(String),
    /// Where the issuer's own description says, which is here.
    Description(String),
}

#[derive(Default)]
struct Known {
    keys: Arc<[Key]>,
    read_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

/// An issuer's keys.
pub(super) struct Keys {
    runtime: Runtime,
    client: reqwest::Client,
    place: Place,
    /// Held while they are read, so that many tokens at once read once.
    known: Mutex<Known>,
}

fn age(of: Option<Timestamp>, now: Timestamp) -> u64 {
    of.map_or(u64::MAX, |at| now.millis_since(at))
}

impl Keys {
    pub(super) fn new(runtime: Runtime, place: Place) -> Self {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap_or_default();
        Self {
            runtime,
            client,
            place,
            known: Mutex::default(),
        }
    }

    /// The keys now; read again where they are old, or where none of them is `wanted`.
    pub(super) async fn now(&self, wanted: impl Fn(&Key) -> bool) -> Result<Arc<[Key]>, Error> {
        let mut known = self.known.lock().await;
        let now = self.runtime.now();
        let is_there = known.keys.iter().any(wanted);
        let is_fresh = age(known.read_at, now) < FRESH_MS;
        if (is_there && is_fresh) || age(known.tried_at, now) < BETWEEN_MS {
            return self.kept(&known, now);
        }
        let read = self.read().await;
        // Whoever has waited for this reading does not read again: an issuer that hangs would hold up one after the other.
        known.tried_at = Some(self.runtime.now());
        match read {
            Ok(keys) => {
                known.keys = keys.into();
                known.read_at = Some(now);
            }
            Err(reason) => tracing::warn!("the keys of the issuer cannot be read: {reason}"),
        }
        self.kept(&known, now)
    }

    fn kept(&self, known: &Known, now: Timestamp) -> Result<Arc<[Key]>, Error> {
        if age(known.read_at, now) < KEPT_MS {
            return Ok(known.keys.clone());
        }
        let message = "The keys of the issuer of tokens cannot be read at present.";
        Err(Error::new(ErrorCode::StoreUnavailable, message).retry_after(BETWEEN_MS / 1_000))
    }

    async fn read(&self) -> Result<Vec<Key>, String> {
        let place = match &self.place {
            Place::Keys(url) => url.clone(),
            Place::Description(url) => {
                let description = self.get(url).await?;
                let description: serde_json::Value = serde_json::from_slice(&description)
                    .map_err(|_| format!("{url} is no description of an issuer"))?;
                let keys = description["jwks_uri"].as_str();
                keys.ok_or_else(|| format!("{url} names no keys"))?
                    .to_owned()
            }
        };
        let keys = jwks::read(&self.get(&place).await?);
        keys.map_err(|_| format!("{place} is no set of keys"))
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        if !is_safe(url) {
            return Err(format!("{url} is neither https nor on this machine"));
        }
        let problem = |error: reqwest::Error| format!("{url}: {error}");
        let mut answer = self.client.get(url).send().await.map_err(problem)?;
        if !answer.status().is_success() {
            return Err(format!("{url} answers {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(problem)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > MOST_BYTES {
                return Err(format!("{url} is larger than {MOST_BYTES} bytes"));
            }
        }
        Ok(bytes)
    }
}

/// Whether what is read there is what was written: over TLS, or from this machine.
pub(super) fn is_safe(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://id.example/keys",
            "http://127.0.0.1:9/keys",
            "http://localhost/",
            "http://[::1]:9/",
        ] {
            assert!(is_safe(good), "{good}");
        }
        for bad in [
            "http://id.example/keys",
            "file:///etc/passwd",
            "keys",
            "http://127.0.0.1.example/",
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
    }
}
