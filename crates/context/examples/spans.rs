//! What a span costs: where nobody is told, where the trace is not sampled, and where it is.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_context::trace::{Span, SpanKind, Told, Trace, Tracer};
use netra_context::{BackgroundKind, Runtime, UserExecutionContext};

const TIMES: u32 = 200_000;

/// Throws away what it is told.
struct Nobody;

impl Tracer for Nobody {
    fn samples(&self, _: u128) -> bool {
        true
    }

    fn wants_content(&self) -> bool {
        false
    }

    fn take(&self, span: Told) {
        black_box(span);
    }
}

/// A span with as many attributes as a call of a tool has.
fn one(ctx: &UserExecutionContext) {
    let mut span: Span = ctx.span(SpanKind::Internal, || "execute_tool time_now".to_owned());
    if span.place().is_some() {
        span.set("gen_ai.operation.name", "execute_tool");
        span.set("gen_ai.tool.name", "time_now");
        span.set("gen_ai.tool.call.id", "tcl_01kanqxk7d2h6n1s5v9x3b8f0j");
        span.set("gen_ai.tool.type", "function");
    }
    span.end();
}

fn measured(runtime: &Runtime, place: Option<Trace>) -> Duration {
    let ctx = UserExecutionContext::for_background(runtime, BackgroundKind::Sweep).at(place);
    let began = Instant::now();
    for _ in 0..TIMES {
        one(black_box(&ctx));
    }
    began.elapsed() / TIMES
}

#[expect(clippy::print_stdout, reason = "what an example is for")]
fn main() {
    let off = Runtime::new();
    let on = Runtime::traced(Arc::new(Nobody));
    let sampled = on.place_within(None);
    let unsampled = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    for (what, took) in [
        (
            "nobody is told",
            measured(&off, Some(off.place_within(None))),
        ),
        ("not sampled", measured(&on, unsampled)),
        ("told", measured(&on, Some(sampled))),
    ] {
        println!("{what}: {took:?}");
    }
}
