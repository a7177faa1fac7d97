//! Traces and metrics as a collector gets them by OTLP.

mod faults;
mod figures;
mod traces;

use anyhow::{Context as _, Result};
use netra_integration::{FakeCollector, FakeModel, Options, Reply};
use opentelemetry_proto::tonic::trace::v1::Span;

use crate::expect::with_model;

/// Options of a server that tells this collector everything but what is said.
pub(crate) fn traced(options: Options, collector: &FakeCollector) -> Options {
    options.set("telemetry.endpoint", collector.url())
}

/// A model that wants one tool called, and is content with what comes of it.
async fn calls_once(
    tool: &'static str,
    arguments: serde_json::Value,
) -> Result<(FakeModel, Options)> {
    let model = FakeModel::start(move |body| {
        let messages = body["messages"].as_array();
        let answered = messages.is_some_and(|all| all.iter().any(|one| one["role"] == "tool"));
        match answered {
            true => Reply::Text(vec!["done".into()]),
            false => Reply::ToolCall(tool.into(), arguments.clone()),
        }
    })
    .await?;
    let options = with_model(&model);
    Ok((model, options))
}

/// The one span of this name.
fn one<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let mut named = spans.iter().filter(|span| span.name == name);
    let found = named.next().with_context(|| format!("no span {name}"))?;
    anyhow::ensure!(named.next().is_none(), "more than one span {name}");
    Ok(found)
}
