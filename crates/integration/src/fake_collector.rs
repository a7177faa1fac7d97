//! A collector that takes OTLP over HTTP and keeps what it was sent, decoded.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What a collector was sent.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// Every span, in the order of coming.
    pub spans: Vec<Span>,
    /// The metrics of the last export.
    pub metrics: Vec<Metric>,
    /// Who sent it.
    pub resource: Resource,
    /// The headers of the last request.
    pub headers: HeaderMap,
    /// The bytes of all requests.
    pub raw: Vec<Bytes>,
}

/// Takes traces and metrics.
pub struct FakeCollector {
    url: String,
    collected: watch::Receiver<Collected>,
    runtime: Runtime,
}

type Kept = watch::Sender<Collected>;

impl FakeCollector {
    /// On a free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (kept, collected) = watch::channel(Collected::default());
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(kept);
        let runtime = Runtime::new();
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Listener, async move {
            let serve = axum::serve(listener, router);
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = serve => {}
            }
        });
        Ok(Self {
            url,
            collected,
            runtime,
        })
    }

    /// The endpoint for a configuration.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it has so far.
    pub fn now(&self) -> Collected {
        self.collected.borrow().clone()
    }

    /// Waits until what it has is enough.
    pub async fn until(
        &self,
        what: &str,
        enough: impl Fn(&Collected) -> bool,
    ) -> Result<Collected> {
        let mut collected = self.collected.clone();
        let wait = collected.wait_for(|collected| enough(collected));
        let waited = crate::soon(what, wait)
            .await
            .context("the collector is gone")?;
        Ok(waited.clone())
    }

    /// Waits for a span of this name and gives all that there are then.
    pub async fn until_span(&self, name: &str) -> Result<Vec<Span>> {
        let named = |collected: &Collected| collected.spans.iter().any(|span| span.name == name);
        Ok(self.until(name, named).await?.spans)
    }
}

impl Drop for FakeCollector {
    fn drop(&mut self) {
        self.runtime.shutdown().cancel();
    }
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type");
    kind.is_some_and(|kind| kind == "application/x-protobuf")
}

async fn traces(State(kept): State<Kept>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else {
        return StatusCode::BAD_REQUEST;
    };
    if !is_protobuf(&headers) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    kept.send_modify(|kept| {
        kept.headers = headers;
        kept.raw.push(body);
        for of_resource in request.resource_spans {
            kept.resource = of_resource.resource.unwrap_or_default();
            let spans = of_resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans);
            kept.spans.extend(spans);
        }
    });
    StatusCode::OK
}

async fn metrics(State(kept): State<Kept>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportMetricsServiceRequest::decode(body.clone()) else {
        return StatusCode::BAD_REQUEST;
    };
    if !is_protobuf(&headers) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    kept.send_modify(|kept| {
        kept.raw.push(body);
        let scopes = request
            .resource_metrics
            .into_iter()
            .flat_map(|of| of.scope_metrics);
        kept.metrics = scopes.flat_map(|scope| scope.metrics).collect();
    });
    StatusCode::OK
}

fn words(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::ArrayValue(list)) => {
            let parts: Vec<String> = list
                .values
                .into_iter()
                .map(|one| words(Some(one)))
                .collect();
            parts.join(",")
        }
        _ => String::new(),
    }
}

/// Attributes by name, all as texts.
pub fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let pair = |pair: &KeyValue| (pair.key.clone(), words(pair.value.clone()));
    of.iter().map(pair).collect()
}
