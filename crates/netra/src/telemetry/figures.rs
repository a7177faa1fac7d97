//! What the metrics recorder has, as OTLP writes it. The recorder stays the one place that counts; names are those of
//! `/api/metrics`, but for the metrics of the conventions for generative AI, which get their dots back.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::{Map, Value};

use super::{scope, text};

/// As Prometheus and as the conventions call the same.
const CONVENTIONS: [(&str, &str); 7] = [
    ("gen_ai_client_token_usage", "gen_ai.client.token.usage"),
    (
        "gen_ai_client_operation_duration_seconds",
        "gen_ai.client.operation.duration",
    ),
    ("gen_ai_operation_name", "gen_ai.operation.name"),
    ("gen_ai_provider_name", "gen_ai.provider.name"),
    ("gen_ai_request_model", "gen_ai.request.model"),
    ("gen_ai_token_type", "gen_ai.token.type"),
    ("error_type", "error.type"),
];

fn conventional(name: &str) -> &str {
    let known = CONVENTIONS
        .iter()
        .find(|(prometheus, _)| *prometheus == name);
    known.map_or(name, |(_, dotted)| dotted)
}

/// `families` as the JSON of `/api/metrics` has them; counted from and until when, in nanoseconds.
pub(super) fn request(
    families: &Value,
    resource: Resource,
    between: (u64, u64),
) -> ExportMetricsServiceRequest {
    let families = families.as_object().into_iter().flatten();
    let metrics = families.filter_map(|(name, family)| metric(name, family, between));
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: metrics.collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn unit(name: &str) -> &'static str {
    match name {
        "gen_ai_client_token_usage" => "{token}",
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_bytes") => "By",
        _ => "",
    }
}

fn metric(name: &str, family: &Value, between: (u64, u64)) -> Option<Metric> {
    let samples = family["samples"].as_array()?;
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let numbers = || samples.iter().filter_map(|sample| number(sample, between));
    let data = match family["type"].as_str()? {
        "counter" => Data::Sum(Sum {
            data_points: numbers().collect(),
            aggregation_temporality,
            is_monotonic: true,
        }),
        "gauge" => Data::Gauge(Gauge {
            data_points: numbers().collect(),
        }),
        "histogram" => Data::Histogram(Histogram {
            data_points: histograms(samples, between),
            aggregation_temporality,
        }),
        _ => return None,
    };
    Some(Metric {
        name: conventional(name).to_owned(),
        description: family["help"].as_str().unwrap_or_default().to_owned(),
        unit: unit(name).to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

fn attributes(labels: &Map<String, Value>) -> Vec<KeyValue> {
    let labels = labels.iter().filter(|(name, _)| *name != "le");
    let label = |(name, value): (&String, &Value)| {
        text(conventional(name), value.as_str().unwrap_or_default())
    };
    labels.map(label).collect()
}

fn number(sample: &Value, (began, now): (u64, u64)) -> Option<NumberDataPoint> {
    Some(NumberDataPoint {
        attributes: attributes(sample["labels"].as_object()?),
        start_time_unix_nano: began,
        time_unix_nano: now,
        value: Some(Number::AsDouble(sample["value"].as_f64()?)),
        ..NumberDataPoint::default()
    })
}

/// Prometheus counts in each bucket what is in the smaller ones too, and gives each bucket, the sum and the count a line
/// of its own; those of one histogram follow each other.
fn histograms(samples: &[Value], (began, now): (u64, u64)) -> Vec<HistogramDataPoint> {
    let mut points: Vec<HistogramDataPoint> = Vec::new();
    let mut below = 0;
    for sample in samples {
        let (Some(name), Some(labels), Some(value)) = (
            sample["name"].as_str(),
            sample["labels"].as_object(),
            sample["value"].as_f64(),
        ) else {
            continue;
        };
        let attributes = attributes(labels);
        if points
            .last()
            .is_none_or(|point| point.attributes != attributes)
        {
            below = 0;
            points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: began,
                time_unix_nano: now,
                ..HistogramDataPoint::default()
            });
        }
        let Some(point) = points.last_mut() else {
            continue;
        };
        if let Some(bound) = labels.get("le").and_then(Value::as_str) {
            let counted = value as u64;
            point.bucket_counts.push(counted.saturating_sub(below));
            below = counted;
            let bound = bound.parse::<f64>().ok().filter(|bound| bound.is_finite());
            point.explicit_bounds.extend(bound);
        } else if name.ends_with("_sum") {
            point.sum = Some(value);
        } else if name.ends_with("_count") {
            point.count = value as u64;
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(families: Value) -> Metric {
        let mut request = request(&families, Resource::default(), (1, 2));
        let metrics = &mut request.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(metrics.len(), 1);
        metrics.remove(0)
    }

    #[test]
    fn a_histogram_keeps_its_bounds_and_counts_each_value_once() {
        let sample = |name: &str, labels: Value, value: f64| json!({"name": name, "labels": labels, "value": value});
        let name = "gen_ai_client_operation_duration_seconds";
        let samples: Vec<Value> = ["a", "b"]
            .iter()
            .flat_map(|model| {
                let labels = |le: &str| json!({"gen_ai_request_model": model, "le": le});
                let own = json!({"gen_ai_request_model": model});
                [
                    sample("x_bucket", labels("0.5"), 2.0),
                    sample("x_bucket", labels("1"), 5.0),
                    sample("x_bucket", labels("+Inf"), 6.0),
                    sample("x_sum", own.clone(), 9.5),
                    sample("x_count", own, 6.0),
                ]
            })
            .collect();
        let metric = one(json!({ name: {"type": "histogram", "help": "h", "samples": samples} }));
        assert_eq!(metric.name, "gen_ai.client.operation.duration");
        assert_eq!(
            (metric.unit.as_str(), metric.description.as_str()),
            ("s", "h")
        );
        let Some(Data::Histogram(histogram)) = metric.data else {
            panic!("no histogram")
        };
        assert_eq!(histogram.data_points.len(), 2);
        for point in &histogram.data_points {
            assert_eq!(point.bucket_counts, [2, 3, 1]);
            assert_eq!(point.explicit_bounds, [0.5, 1.0]);
            assert_eq!((point.count, point.sum), (6, Some(9.5)));
            assert_eq!(point.attributes[0].key, "gen_ai.request.model");
        }
    }

    #[test]
    fn a_counter_is_a_sum_that_only_grows() {
        let samples = json!([{"name": "c_total", "labels": {"status": "ok"}, "value": 3.0}]);
        let metric = one(json!({"c_total": {"type": "counter", "samples": samples}}));
        let Some(Data::Sum(sum)) = metric.data else {
            panic!("no sum")
        };
        assert!(sum.is_monotonic);
        assert_eq!(sum.aggregation_temporality, 2);
        assert_eq!(sum.data_points[0].value, Some(Number::AsDouble(3.0)));
        assert_eq!(sum.data_points[0].start_time_unix_nano, 1);
    }
}
