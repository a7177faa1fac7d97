//! The section `telemetry`: where traces and metrics go by OTLP.

use std::collections::BTreeMap;
use std::time::Duration;

use netra_model::Secret;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::Error;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Telemetry {
    endpoint: Option<String>,
    headers: BTreeMap<String, String>,
    service_name: String,
    traces: bool,
    metrics: bool,
    sample: f64,
    content: bool,
    metrics_interval_ms: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            service_name: "netra".into(),
            traces: true,
            metrics: true,
            sample: 1.0,
            content: false,
            metrics_interval_ms: 60_000,
        }
    }
}

/// Where traces and metrics go by OTLP.
#[derive(Clone)]
pub struct Collector {
    /// `v1/traces` and `v1/metrics` are below it.
    pub(crate) endpoint: Url,
    /// Sent with everything; they may hold a key.
    pub(crate) headers: HeaderMap,
    /// What the server calls itself.
    pub(crate) service_name: String,
    /// Whether traces go there.
    pub(crate) traces: bool,
    /// Whether metrics go there.
    pub(crate) metrics: bool,
    /// The part of the traces that begin here, from 0 to 1.
    pub(crate) sample: f64,
    /// Whether what users, models and tools say goes with them.
    pub(crate) content: bool,
    /// Between two exports of the metrics.
    pub(crate) metrics_interval: Duration,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Telemetry {
    pub(super) fn resolve(self) -> Result<Option<Collector>, Error> {
        let Some(endpoint) = self.endpoint else {
            return Ok(None);
        };
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(wrong("sample is a number from 0 to 1"));
        }
        if self.metrics_interval_ms < 1_000 {
            return Err(wrong("metrics_interval_ms must be at least 1000"));
        }
        Ok(Some(Collector {
            endpoint: address(&endpoint)?,
            headers: headers(&self.headers)?,
            service_name: self.service_name,
            traces: self.traces,
            metrics: self.metrics,
            sample: self.sample,
            content: self.content,
            metrics_interval: Duration::from_millis(self.metrics_interval_ms),
        }))
    }
}

fn wrong(what: &str) -> Error {
    Error::Invalid(format!("telemetry.{what}"))
}

fn address(text: &str) -> Result<Url, Error> {
    let words = "endpoint is no address that begins with http:// or https://, such as http://127.0.0.1:4318";
    let mut url = Url::parse(text).map_err(|_| wrong(words))?;
    let has_host = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    if !has_host {
        return Err(wrong(words));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "endpoint holds credentials, which belong into telemetry.headers",
        ));
    }
    let mut parts = url.path_segments_mut().map_err(|()| wrong(words))?;
    parts.pop_if_empty();
    drop(parts);
    Ok(url)
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let value = Secret::new(value);
        let named = HeaderName::try_from(name);
        let named = named.map_err(|_| wrong("headers has a name that is no header's"))?;
        let carried = HeaderValue::try_from(value.expose());
        let mut carried =
            carried.map_err(|_| wrong("headers has a value that no header can carry"))?;
        carried.set_sensitive(true);
        headers.insert(named, carried);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(endpoint: &str) -> Telemetry {
        Telemetry {
            endpoint: Some(endpoint.into()),
            ..Telemetry::default()
        }
    }

    #[test]
    fn without_an_endpoint_nothing_goes_anywhere() {
        assert!(Telemetry::default().resolve().unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_an_endpoint_is_refused() {
        for bad in ["", "127.0.0.1:4318", "ftp://x/", "http://u:p@x/", "http://"] {
            assert!(with(bad).resolve().is_err(), "{bad}");
        }
        for good in ["http://127.0.0.1:4318", "https://otlp.example/base/"] {
            assert!(with(good).resolve().unwrap().is_some(), "{good}");
        }
        let sample = Telemetry {
            sample: 1.5,
            ..with("http://x")
        };
        assert!(sample.resolve().is_err());
    }

    #[test]
    fn headers_are_sensitive() {
        let mut telemetry = with("http://x");
        telemetry.headers.insert("x-key".into(), "hush".into());
        let collector = telemetry.resolve().unwrap().unwrap();
        assert!(collector.headers["x-key"].is_sensitive());
        assert!(!format!("{collector:?}").contains("hush"));
    }
}
