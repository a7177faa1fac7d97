//! Which trace a request belongs to: W3C trace context, as the client says it, or a new one; and the span that tells of
//! the request.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use netra_context::trace::{Span, SpanKind};
use netra_context::{Runtime, Trace};
use netra_protocol::id::RequestId;

/// Where the trace stands, in requests and in answers.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The place of a request: within the client's, or the first of a new trace where it names none that can be read, or
/// more than one.
pub(crate) fn of(headers: &HeaderMap, runtime: &Runtime) -> Trace {
    let mut named = headers.get_all(TRACEPARENT).iter();
    let known = match (named.next(), named.next()) {
        (Some(one), None) => one.to_str().ok().and_then(Trace::parse),
        _ => None,
    };
    runtime.place_within(known)
}

/// For whoever goes on with the trace.
pub(crate) fn header(trace: &Trace) -> Option<HeaderValue> {
    HeaderValue::try_from(trace.header()).ok()
}

/// Begins to tell of a request: of those that change something, and of those that a client traces itself.
pub(crate) fn span(runtime: &Runtime, trace: Trace, method: &Method, route: &str) -> Span {
    let told = !method.is_safe() || trace.parent().is_some();
    let place = Some(trace).filter(|_| told);
    runtime.span(place, SpanKind::Server, || format!("{method} {route}"))
}

/// Tells how a request was answered. What strangers are refused is not told: they would decide how much that is.
pub(crate) fn end(
    mut span: Span,
    (method, route): (&Method, &str),
    status: StatusCode,
    id: RequestId,
) {
    if matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS
    ) {
        return span.forget();
    }
    if span.place().is_some() {
        span.set("http.request.method", method.as_str());
        span.set("http.route", route);
        span.set("http.response.status_code", u32::from(status.as_u16()));
        span.set("netra.request.id", &id.to_string());
    }
    if status.is_server_error() {
        span.fail(status.as_str());
    } else {
        span.end();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(lines: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(TRACEPARENT, line.parse().unwrap());
        }
        super::of(&headers, &Runtime::new())
    }

    fn told(trace: &Trace) -> String {
        header(trace).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_trace_goes_on_with_a_place_of_its_own() {
        let line = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let told = told(&of(&[&line]));
        assert!(
            told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-01"),
            "{told}"
        );
        assert_ne!(told, line);
    }

    #[test]
    fn what_is_no_trace_or_more_than_one_begins_a_new_one() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for bad in [vec![], vec!["nonsense"], vec![good.as_str(), good.as_str()]] {
            let trace = told(&of(&bad));
            assert!(!trace.contains(TRACE), "{bad:?}");
            assert_ne!(trace[..35], told(&of(&bad))[..35]);
        }
    }

    proptest! {
        #[test]
        fn garbage_makes_no_panic(text in "\\PC{0,80}") {
            Trace::parse(&text);
        }
    }
}
