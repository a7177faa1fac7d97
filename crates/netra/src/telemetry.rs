//! Traces and metrics for an operator's collector, by OTLP over HTTP. Nothing here can hold up a run: spans wait in a
//! bounded queue, what finds no room there, or cannot be sent, is dropped and counted.

mod figures;
mod line;
mod post;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_context::trace::Tracer;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Held;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::line::Line;
use self::post::Post;
use crate::config::Collector;
use crate::metrics::Recorded;

/// How long a stopping server tries to get rid of what still waits.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// What is to be exported, before anything is.
pub(crate) struct Telemetry {
    config: Collector,
    tracer: Option<Arc<line::Queue>>,
    line: Option<Line>,
}

/// What is exported, while the server runs.
pub(crate) struct Exporting {
    /// Gives back what was not sent when the server stops.
    line: Option<JoinHandle<Option<Line>>>,
    figures: Option<Figures>,
}

/// What is exported of the metrics.
#[derive(Clone)]
struct Figures {
    post: Post,
    recorded: Recorded,
    resource: Resource,
    began_ns: u64,
    runtime: Runtime,
}

impl Telemetry {
    pub(crate) fn new(config: Collector) -> Self {
        let (tracer, line) = match config.traces {
            true => {
                let (queue, line) = line::new(config.sample, config.content);
                (Some(Arc::new(queue)), Some(line))
            }
            false => (None, None),
        };
        Self {
            config,
            tracer,
            line,
        }
    }

    /// Who is to be told of spans.
    pub(crate) fn tracer(&self) -> Option<Arc<dyn Tracer>> {
        self.tracer.clone().map(|tracer| tracer as _)
    }

    /// Exports from now on.
    pub(crate) fn begin(
        self,
        runtime: &Runtime,
        recorded: &Recorded,
    ) -> reqwest::Result<Exporting> {
        let post = Post::new(&self.config)?;
        let resource = resource(&self.config.service_name, runtime);
        let figures = self.config.metrics.then(|| Figures {
            post: post.clone(),
            recorded: recorded.clone(),
            resource: resource.clone(),
            began_ns: nanoseconds(runtime),
            runtime: runtime.clone(),
        });
        if let Some(figures) = figures.clone() {
            figures.keep(self.config.metrics_interval);
        }
        let line = self.line.map(|line| line.keep(runtime, post, resource));
        Ok(Exporting { line, figures })
    }
}

impl Exporting {
    /// Sends what still waits, as far as that goes in a few seconds. To be called when nothing happens any more.
    pub(crate) async fn flush(self) {
        let until = Instant::now() + FLUSH_LIMIT;
        let flush = async {
            if let Some(line) = self.line
                && let Ok(Some(line)) = line.await
            {
                line.empty().await;
            }
            if let Some(figures) = self.figures {
                figures.export().await;
            }
        };
        if timeout_at(until, flush).await.is_err() {
            tracing::warn!("the collector did not take the last traces and metrics in time");
        }
    }
}

impl Figures {
    fn keep(self, interval: Duration) {
        let shutdown = self.runtime.shutdown().clone();
        let runtime = self.runtime.clone();
        runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval_at(Instant::now() + interval, interval);
            turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = async { turns.tick().await; self.export().await } => {}
                }
            }
        });
    }

    /// One try: the next export says all that this one did.
    async fn export(&self) {
        let between = (self.began_ns, nanoseconds(&self.runtime));
        let families = self.recorded.families();
        let request = figures::request(&families, self.resource.clone(), between);
        self.post
            .once("v1/metrics", request.encode_to_vec().into())
            .await
            .ok();
    }
}

fn nanoseconds(runtime: &Runtime) -> u64 {
    u64::try_from(runtime.now().as_micros()).unwrap_or(0) * 1_000
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Held::StringValue(value.to_owned()))
}

fn pair(key: &str, value: Held) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Which server this is, and which start of it.
fn resource(service_name: &str, runtime: &Runtime) -> Resource {
    let instance = u128::from_be_bytes(runtime.secret_bytes());
    Resource {
        attributes: vec![
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &format!("{instance:032x}")),
        ],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "netra".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    }
}
