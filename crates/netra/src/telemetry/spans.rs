//! Spans as OTLP writes them.

use netra_context::trace::{SpanKind, Told, Value};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Held;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use super::{pair, scope, text};

/// A span's status where what it tells of has failed (`STATUS_CODE_ERROR`).
const FAILED: i32 = 2;

pub(super) fn request(spans: &[Told], resource: Resource) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: spans.iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

/// How many spans the collector has refused of those that it was sent.
pub(super) fn refused(answer: &[u8]) -> usize {
    let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let refused = answer
        .partial_success
        .map_or(0, |partly| partly.rejected_spans);
    usize::try_from(refused).unwrap_or(0)
}

fn span(told: &Told) -> Span {
    let micros = |time: netra_protocol::Timestamp| u64::try_from(time.as_micros()).unwrap_or(0);
    let place = &told.trace;
    let parent = place.parent().map(u64::to_be_bytes);
    let mut attributes: Vec<KeyValue> = told.attributes.iter().map(attribute).collect();
    attributes.extend(told.error.as_deref().map(|why| text("error.type", why)));
    let status = told.error.as_ref().map(|_| Status {
        message: String::new(),
        code: FAILED,
    });
    let kind = match told.kind {
        SpanKind::Internal => Kind::Internal,
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
    };
    Span {
        trace_id: place.id().to_be_bytes().to_vec(),
        span_id: place.span().to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |id| id.to_vec()),
        flags: 1,
        name: told.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: micros(told.began) * 1_000,
        // A clock that was set back must not make an end before its beginning.
        end_time_unix_nano: micros(told.ended.max(told.began)) * 1_000,
        attributes,
        status,
        ..Span::default()
    }
}

fn attribute((key, value): &(&'static str, Value<'static>)) -> KeyValue {
    let word = |text: &str| Held::StringValue(text.to_owned());
    let held = match value {
        Value::Text(text) => word(text),
        Value::Number(number) => Held::IntValue(*number),
        Value::Fraction(number) => Held::DoubleValue(*number),
        Value::Flag(flag) => Held::BoolValue(*flag),
        Value::Word(text) => Held::ArrayValue(ArrayValue {
            values: vec![AnyValue {
                value: Some(word(text)),
            }],
        }),
    };
    pair(key, held)
}
