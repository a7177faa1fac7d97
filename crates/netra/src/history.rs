//! How the server's figures were in the last hour: a few of them, every ten seconds, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use netra_context::Runtime;
use netra_context::runtime::TaskKind;
use netra_protocol::Timestamp;
use netra_protocol::admin::{MetricsHistory, MetricsPoint};
use parking_lot::Mutex;

use crate::metrics::Recorded;

/// Between two points.
const INTERVAL: Duration = Duration::from_secs(10);
/// An hour of them.
const POINTS: usize = 360;
/// What is kept, so that an hour has a size that is known: counters and gauges, over all their labels.
const KEPT: &[&str] = &[
    "netra_bridge_events_total",
    "netra_context_active",
    "netra_engine_active",
    "netra_engine_users",
    "netra_events_sent_total",
    "netra_http_requests_total",
    "netra_limits_hit_total",
    "netra_memory_bytes",
    "netra_model_calls_total",
    "netra_runs_ended_total",
    "netra_runs_queued",
    "netra_runs_waiting",
    "netra_sockets_open",
    "netra_streams_open",
    "netra_tool_calls_total",
];

/// Labels of samples that are a part of another sample of their metric, and would be counted twice.
const PARTS: &[&str] = &["netra_memory_bytes{of=\"system\"}"];

/// The points of the last hour. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<MetricsPoint>>>);

/// The figures that are kept, of the metrics as Prometheus text.
fn values(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let name = head.split_once('{').map_or(head, |(name, _)| name);
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite());
        if let Some(value) = value
            && KEPT.contains(&name)
            && !PARTS.contains(&head)
        {
            *values.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    values
}

impl History {
    fn add(&self, at: Timestamp, text: &str) {
        let mut points = self.0.lock();
        if points.len() >= POINTS {
            points.pop_front();
        }
        points.push_back(MetricsPoint {
            at,
            values: values(text),
        });
    }

    fn so_far(&self) -> MetricsHistory {
        MetricsHistory {
            interval_ms: u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX),
            points: self.0.lock().iter().cloned().collect(),
        }
    }

    /// Tells the points whenever it is asked.
    pub(crate) fn told(&self) -> netra_gateway::History {
        let history = self.clone();
        Arc::new(move || history.so_far())
    }

    /// Adds points from now on, as long as the server runs.
    pub(crate) fn keep(self, runtime: &Runtime, recorded: Recorded) {
        let (shutdown, clock) = (runtime.shutdown().clone(), runtime.clone());
        runtime.spawn(TaskKind::Sweep, async move {
            let mut turns = tokio::time::interval(INTERVAL);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = turns.tick() => self.add(clock.now(), &recorded.render(false)),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_over_their_labels_and_others_are_not_kept() {
        let text = "# TYPE netra_http_requests_total counter\n\
                    netra_http_requests_total{route=\"a b\",status=\"200\"} 2\n\
                    netra_http_requests_total{route=\"c\",status=\"404\"} 3\n\
                    netra_runs_queued 1\nnetra_unknown 9\nnetra_runs_waiting NaN\n\
                    netra_memory_bytes{of=\"node\"} 7\nnetra_memory_bytes{of=\"system\"} 4\n";
        let expected = [
            ("netra_http_requests_total", 5.0),
            ("netra_memory_bytes", 7.0),
            ("netra_runs_queued", 1.0),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(values(text), BTreeMap::from(expected));
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        for minute in 0..1_000 {
            history.add(Timestamp::from_micros(minute), "netra_runs_queued 1");
        }
        let points = history.so_far().points;
        assert_eq!(points.len(), POINTS);
        assert_eq!(points[0].at, Timestamp::from_micros(640));
        assert_eq!(points[359].at, Timestamp::from_micros(999));
    }

    #[test]
    fn every_figure_that_is_kept_stands_in_the_documents() {
        let documents = include_str!("../../../docs/monitoring.md");
        for name in KEPT {
            assert!(documents.contains(&format!("`{name}`")), "{name}");
        }
    }
}
