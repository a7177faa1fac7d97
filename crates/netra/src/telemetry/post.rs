//! The way to the collector: protobuf over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url, redirect};

use crate::config::Collector;

/// How long the collector may take for one request.
const LIMIT: Duration = Duration::from_secs(10);
/// The most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why something did not get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It may later.
    ForNow,
    /// It never will.
    ForGood,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Post {
    client: Client,
    base: Url,
    /// Whether the last request was taken, so that the log tells of a change and of nothing else.
    works: Arc<AtomicBool>,
}

impl Post {
    pub(super) fn new(config: &Collector) -> reqwest::Result<Self> {
        let mut headers = config.headers.clone();
        let kind = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, kind);
        let client = Client::builder()
            .default_headers(headers)
            // A redirect could carry the key to somebody else.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(LIMIT)
            .user_agent(concat!("netra/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            base: config.endpoint.clone(),
            works: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Sends this to a path below the endpoint, once, and gives the answer.
    pub(super) async fn once(&self, path: &str, body: Bytes) -> Result<Bytes, Unsent> {
        let sent = self.send(path, body).await;
        let works = sent.is_ok();
        if self.works.swap(works, Ordering::Relaxed) != works {
            match &sent {
                Ok(_) => tracing::info!("the collector takes traces and metrics again"),
                Err((_, problem)) => tracing::warn!("the collector takes nothing: {problem}"),
            }
        }
        sent.map_err(|(unsent, _)| {
            metrics::counter!("netra_telemetry_requests_failed_total").increment(1);
            unsent
        })
    }

    async fn send(&self, path: &str, body: Bytes) -> Result<Bytes, (Unsent, String)> {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.extend(path.split('/'));
        }
        let later = |error: reqwest::Error| (Unsent::ForNow, error.without_url().to_string());
        let response = self
            .client
            .post(url)
            .body(body)
            .send()
            .await
            .map_err(later)?;
        let status = response.status();
        if status.is_success() {
            return read(response).await.map_err(later);
        }
        let comes_again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let unsent = if comes_again {
            Unsent::ForNow
        } else {
            Unsent::ForGood
        };
        Err((unsent, format!("it answered {status}")))
    }
}

/// The answer; nothing where it is longer than any should be.
async fn read(mut response: reqwest::Response) -> reqwest::Result<Bytes> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Ok(Bytes::new());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.into())
}
