//! What an operator's tracing is told of a tool call: one span, by OpenTelemetry's conventions. Arguments and results are
//! in it only where the operator wants them, without secrets.

use netra_context::UserExecutionContext;
use netra_context::trace::{Span, SpanKind};
use netra_protocol::id::ToolCallId;
use serde_json::Value;

use crate::dispatcher::{Done, Error};
use crate::short::{cut_text, shorten};

/// The most of arguments and of a result, in bytes of JSON.
const MAX_CONTENT_BYTES: usize = 15 * 1024;
/// The longest name; an agent may ask for a tool that there is not.
const MAX_NAME_BYTES: usize = 64;

pub(crate) fn begin(ctx: &UserExecutionContext, tool: &str) -> Span {
    let tool = || cut_text(tool, MAX_NAME_BYTES);
    let mut span = ctx.span(SpanKind::Internal, || format!("execute_tool {}", tool()));
    if span.place().is_some() {
        span.set("gen_ai.operation.name", "execute_tool");
        span.set("gen_ai.tool.name", &tool());
    }
    span
}

/// The call was let through.
pub(crate) fn called(span: &mut Span, id: ToolCallId, arguments: &Value) {
    if span.place().is_some() {
        span.set("gen_ai.tool.call.id", &id.to_string());
        span.set("gen_ai.tool.type", "function");
    }
    if span.wants_content() {
        let arguments = shorten(arguments, MAX_CONTENT_BYTES).to_string();
        span.set("gen_ai.tool.call.arguments", &arguments);
    }
}

/// The tool gave this.
pub(crate) fn gave(span: &mut Span, result: Option<&Value>) {
    if let Some(result) = result.filter(|_| span.wants_content()) {
        let result = shorten(result, MAX_CONTENT_BYTES).to_string();
        span.set("gen_ai.tool.call.result", &result);
    }
}

pub(crate) fn end(span: Span, result: &Result<Done, Error>) {
    match result {
        Ok(_) => span.end(),
        Err(Error::Call(failure) | Error::Run(failure)) => span.fail(failure.code.as_str()),
        // It has not begun: whoever goes on with it when the person has answered tells of it.
        Err(Error::Waiting) => span.forget(),
    }
}
