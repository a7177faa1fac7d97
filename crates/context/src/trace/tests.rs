//! What a trace context says, and what becomes of spans.

use parking_lot::Mutex;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Default)]
struct Heard(Mutex<Vec<Told>>);

impl Tracer for Heard {
    fn samples(&self, _: u128) -> bool {
        true
    }

    fn wants_content(&self) -> bool {
        false
    }

    fn take(&self, span: Told) {
        self.0.lock().push(span);
    }
}

#[test]
fn a_trace_is_read_and_written_alike() {
    let text = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let trace = Trace::parse(&text).unwrap();
    assert_eq!(trace.header(), text);
    assert!(trace.is_sampled() && trace.parent().is_none());
    let newer = Trace::parse(&format!("cc-{TRACE}-00f067aa0ba902b7-02-more")).unwrap();
    assert_eq!((newer.id(), newer.is_sampled()), (trace.id(), false));
}

#[test]
fn what_is_no_trace_is_none() {
    for bad in [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(Trace::parse(bad), None, "{bad}");
    }
}

#[test]
fn without_a_tracer_nothing_is_told() {
    let runtime = Runtime::new();
    let place = runtime.place_within(None);
    assert!(!place.is_sampled());
    let span = runtime.span(Some(place), SpanKind::Internal, || unreachable!());
    assert_eq!(span.place(), None);
    span.end();
}

#[test]
fn a_span_tells_how_it_ended_and_one_that_was_dropped_was_cut_off() {
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::traced(Arc::clone(&heard) as _);
    let outer = runtime.place_within(None);
    let inner = runtime.place_within(Some(outer));
    let begin = |name: &str| {
        let mut span = runtime.span(Some(inner), SpanKind::Client, || name.to_owned());
        span.set("tokens", 7_u64);
        span
    };
    begin("good").end();
    begin("bad").fail("timeout");
    drop(begin("dropped"));
    begin("forgotten").forget();
    let heard = heard.0.lock();
    let told = heard
        .iter()
        .map(|one| (one.name.as_str(), one.error.as_deref()));
    let told: Vec<_> = told.collect();
    let expected = [
        ("good", None),
        ("bad", Some("timeout")),
        ("dropped", Some("cut_off")),
    ];
    assert_eq!(told, expected);
    assert_eq!(heard[0].trace.parent(), Some(outer.span()));
    assert_eq!(heard[0].attributes, [("tokens", Value::Number(7))]);
}

#[test]
fn an_unsampled_trace_of_somebody_elses_is_not_told_of() {
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::traced(Arc::clone(&heard) as _);
    let theirs = Trace::parse(&format!("00-{TRACE}-00f067aa0ba902b7-00"));
    let own = runtime.place_within(theirs);
    runtime.span(Some(own), SpanKind::Server, String::new).end();
    assert!(heard.0.lock().is_empty());
}

#[test]
fn texts_of_a_span_are_bounded_and_stay_texts() {
    let cut = cut(&"é".repeat(MAX_TEXT_BYTES));
    assert_eq!(cut.len(), MAX_TEXT_BYTES);
    let odd = super::cut(&format!("x{}", "é".repeat(MAX_TEXT_BYTES)));
    assert_eq!(odd.len(), MAX_TEXT_BYTES - 1);
}

#[test]
fn numbered_places_are_the_same_for_everybody_and_differ_from_each_other() {
    let place = Trace::parse(&format!("00-{TRACE}-00f067aa0ba902b7-01")).unwrap();
    let ids: std::collections::HashSet<_> = (1..1_000).map(|n| place.numbered(n)).collect();
    assert_eq!(ids.len(), 999);
    assert_eq!(place.numbered(5), place.numbered(5));
}
