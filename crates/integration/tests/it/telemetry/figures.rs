//! The metrics, as a collector gets them.

use anyhow::{Context as _, ensure};
use netra_integration::{FakeCollector, TestServer, attributes};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use serde_json::json;

use super::{calls_once, traced};
use crate::Test;

fn named<'a>(metrics: &'a [Metric], name: &str) -> Option<&'a Metric> {
    metrics.iter().find(|metric| metric.name == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_metrics_with_those_of_the_conventions_under_their_names() -> Test {
    let collector = FakeCollector::start().await?;
    let (_model, options) = calls_once("time_now", json!({})).await?;
    let options = traced(options, &collector).set("telemetry.metrics_interval_ms", 1_000);
    let server = TestServer::start_with(options).await?;
    server.user().await?.run("assistant", "go").await?;
    let usage = "gen_ai.client.token.usage";
    let collected = collector
        .until("the metrics", |now| {
            named(&now.metrics, usage).is_some()
                && named(&now.metrics, "netra_runs_ended_total").is_some()
        })
        .await?;
    let metric = named(&collected.metrics, usage).context("usage")?;
    assert_eq!(metric.unit, "{token}");
    ensure!(!metric.description.is_empty());
    let Some(Data::Histogram(histogram)) = &metric.data else {
        anyhow::bail!("no histogram")
    };
    let kinds = histogram
        .data_points
        .iter()
        .map(|point| attributes(&point.attributes));
    let kinds: Vec<_> = kinds
        .map(|told| told["gen_ai.token.type"].clone())
        .collect();
    ensure!(kinds.iter().any(|kind| kind == "input") && kinds.iter().any(|kind| kind == "output"));
    for point in &histogram.data_points {
        assert_eq!(point.explicit_bounds.first(), Some(&1.0));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        ensure!(point.start_time_unix_nano < point.time_unix_nano);
        assert_eq!(
            attributes(&point.attributes)["gen_ai.provider.name"],
            "openai"
        );
    }
    let duration = named(&collected.metrics, "gen_ai.client.operation.duration");
    assert_eq!(duration.context("duration")?.unit, "s");
    let ended = named(&collected.metrics, "netra_runs_ended_total").context("ended")?;
    let Some(Data::Sum(sum)) = &ended.data else {
        anyhow::bail!("no sum")
    };
    ensure!(sum.is_monotonic && sum.aggregation_temporality == 2);
    Ok(())
}
