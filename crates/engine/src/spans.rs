//! What an operator's tracing is told of runs: a span for the run, one for each of its agents, one for each call of a
//! model. Their names and attributes are those of OpenTelemetry's conventions for generative AI. Nothing of what users
//! and models say is in them unless the operator wants it; who the user is never is.

use metrics::Label;
use netra_context::trace::{Span, SpanKind, Value as Told};
use netra_context::{Trace, UserExecutionContext};
use netra_model::{ChatRequest, Message, ModelRef, StopReason};
use netra_protocol::Timestamp;
use netra_protocol::event::EventKind;
use netra_protocol::run::Run;
use netra_protocol::usage::RunUsage;
use netra_tools::shorten;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agents::{Body, Definition};
use crate::ending::{Ending, Last};
use crate::execution::{Execution, FIRST_STEP, Fault, Frame};
use crate::live::Live;
use crate::perform::Answer;

/// The most of what a model is told, or says, in bytes of JSON.
const MAX_CONTENT_BYTES: usize = 15 * 1024;
/// Of what an agent was stopped by that gave no reason.
const CUT_OFF: &str = "cut_off";

/// Tells of a run that has ended. Its span is the same whichever engines have driven it, so it is told here only.
pub(crate) fn run_ended(
    ctx: &UserExecutionContext,
    place: Option<Trace>,
    run: &Run,
    ending: &Ending,
    usage: &RunUsage,
) {
    let runtime = ctx.runtime();
    let name = || format!("run {}", run.agent);
    let mut span = runtime.span(place, SpanKind::Internal, name);
    if span.place().is_none() {
        return;
    }
    span.since(run.created_at);
    span.set("gen_ai.agent.name", &run.agent);
    span.set("gen_ai.conversation.id", &run.thread_id.to_string());
    span.set("netra.run.id", &run.id.to_string());
    span.set("netra.run.status", ending.status().as_str());
    span.set("netra.run.attempt", run.attempt);
    // Not as `gen_ai.usage`, which stands in the calls: whoever adds up would count it twice.
    span.set("netra.run.input_tokens", usage.input_tokens);
    span.set("netra.run.output_tokens", usage.output_tokens);
    span.set("netra.run.model_calls", usage.model_calls);
    span.set("netra.run.tool_calls", usage.tool_calls);
    span.set_if("netra.run.cost_usd", usage.cost_usd);
    match ending.failure() {
        None => span.end(),
        Some(failure) => span.fail(failure.code.as_str()),
    }
}

/// Tells of the agents that a run had when no engine had it, and that have ended with it.
pub(crate) fn agents_ended(
    ctx: &UserExecutionContext,
    place: Option<Trace>,
    last: &Last,
    ending: &Ending,
) {
    let Some(place) = place else { return };
    let (runtime, mut within) = (ctx.runtime(), place);
    let failure = ending.failure().map(|failure| failure.code.as_str());
    // They are closed from the innermost to the run's own. What was within what, the log does not say.
    for emission in last.emissions.iter().rev() {
        let EventKind::AgentCompleted {
            agent, duration_ms, ..
        } = &emission.kind
        else {
            continue;
        };
        let own = within.within(place.numbered(emission.step.unwrap_or(FIRST_STEP)));
        let name = || format!("invoke_agent {agent}");
        let mut span = runtime.span(Some(own), SpanKind::Internal, name);
        let took = i64::try_from(*duration_ms).unwrap_or(0);
        span.since(runtime.now().plus_millis(-took));
        span.set("gen_ai.operation.name", "invoke_agent");
        span.set("gen_ai.agent.name", agent);
        span.fail(failure.unwrap_or(CUT_OFF));
        if within == place {
            within = own;
        }
    }
}

/// The span of an agent at work. Dropped before its agent has ended it tells why, unless the run goes on later: then
/// whichever engine goes on with the agent tells of it.
pub(crate) struct AgentSpan<'e> {
    span: Mutex<Option<Span>>,
    live: &'e Live,
}

impl<'e> AgentSpan<'e> {
    /// Of an agent that began in this step, within what the context is in. Its place is the same in each attempt.
    pub(crate) fn begin(
        execution: &'e Execution,
        ctx: &UserExecutionContext,
        agent: &Definition,
        (first_step, began): (u32, Timestamp),
    ) -> Self {
        let places = execution.trace.zip(ctx.trace());
        let place = places.map(|(run, within)| within.within(run.numbered(first_step)));
        let kind = match agent.body {
            Body::Http(_) => SpanKind::Client,
            _ => SpanKind::Internal,
        };
        let name = || format!("invoke_agent {}", agent.name);
        let mut span = ctx.runtime().span(place, kind, name);
        if span.place().is_some() {
            let run = execution.emitter.run();
            span.since(began);
            span.set("gen_ai.operation.name", "invoke_agent");
            span.set("gen_ai.agent.name", &agent.name);
            span.set("gen_ai.conversation.id", &run.thread_id.to_string());
            span.set("netra.run.id", &run.id.to_string());
            span.set("netra.step", first_step);
        }
        Self {
            span: Mutex::new(Some(span)),
            live: &execution.live,
        }
    }

    /// A context for what the agent does; none where the one that there is will do.
    pub(crate) fn context(&self, ctx: &UserExecutionContext) -> Option<Box<UserExecutionContext>> {
        within(ctx, self.span.lock().as_ref()?)
    }

    /// The agent has its result.
    pub(crate) fn end(&self) {
        if let Some(span) = self.span.lock().take() {
            span.end();
        }
    }

    /// The agent has given no result.
    pub(crate) fn stopped_by(&self, fault: &Fault) {
        let Some(span) = self.span.lock().take() else {
            return;
        };
        match (fault, self.live.stop.reason()) {
            (Fault::Waiting, _) => span.forget(),
            (_, Some(_)) => self.stopped(span),
            (Fault::Agent(failure) | Fault::Run(failure), None) => span.fail(failure.code.as_str()),
        }
    }

    /// The agent was dropped, or failed because its run was told to stop.
    fn stopped(&self, span: Span) {
        match self.live.stop.reason().map(|reason| reason.ending()) {
            Some(None) => span.forget(),
            Some(Some(ending)) => {
                let code = ending.failure().map(|failure| failure.code.as_str());
                span.fail(code.unwrap_or(CUT_OFF));
            }
            None => span.fail(CUT_OFF),
        }
    }
}

impl Drop for AgentSpan<'_> {
    fn drop(&mut self) {
        let span = self.span.lock().take();
        if let Some(span) = span {
            self.stopped(span);
        }
    }
}

/// A context in which whatever is begun is a part of the span; none where nobody is told of it.
fn within(ctx: &UserExecutionContext, span: &Span) -> Option<Box<UserExecutionContext>> {
    let place = span.place()?;
    Some(Box::new(
        ctx.child(ctx.operation().to_owned()).at(Some(place)),
    ))
}

/// A call of a model that goes on: its span, and its figures.
pub(crate) struct Asking {
    span: Span,
    began: Instant,
    asked: ModelRef,
}

impl Asking {
    pub(crate) fn begin(frame: &Frame<'_>, model: &ModelRef, request: &ChatRequest) -> Self {
        let name = || format!("chat {}", model.model);
        let mut span = frame.ctx.span(SpanKind::Client, name);
        if span.place().is_some() {
            let run = frame.execution.emitter.run();
            span.set("gen_ai.operation.name", "chat");
            span.set("gen_ai.request.model", &model.model);
            span.set_if("gen_ai.request.max_tokens", request.max_output_tokens);
            span.set_if("gen_ai.request.temperature", request.temperature);
            span.set("gen_ai.conversation.id", &run.thread_id.to_string());
            span.set("netra.step", frame.step());
        }
        if span.wants_content() {
            if let Some(system) = &request.system {
                span.set(
                    "gen_ai.system_instructions",
                    &json!([text(system)]).to_string(),
                );
            }
            let said: Value = request.messages.iter().map(said).collect();
            let said = shorten(&said, MAX_CONTENT_BYTES).to_string();
            span.set("gen_ai.input.messages", &said);
        }
        Self {
            span,
            began: Instant::now(),
            asked: model.clone(),
        }
    }

    /// A context for the call; none where that of the agent will do.
    pub(crate) fn context(&self, ctx: &UserExecutionContext) -> Option<Box<UserExecutionContext>> {
        within(ctx, &self.span)
    }

    /// It has ended, with an answer or without.
    pub(crate) fn end(self, frame: &Frame<'_>, answered: &Result<Answer, Fault>) {
        let models = &frame.execution.infra.models;
        match answered {
            Ok(answer) => {
                let by = answer.model.parse().unwrap_or_else(|_| self.asked.clone());
                let provider = provider(models.kind(&by));
                self.record(provider, &by, answer);
                self.answered(provider, &by, answer);
            }
            Err(fault) => {
                let provider = provider(models.kind(&self.asked));
                let code = match fault {
                    Fault::Agent(failure) | Fault::Run(failure) => failure.code.as_str(),
                    Fault::Waiting => CUT_OFF,
                };
                let Self {
                    mut span,
                    began,
                    asked,
                } = self;
                duration(provider, &asked, began, Some(code));
                span.set("gen_ai.provider.name", provider);
                span.fail(code);
            }
        }
    }

    fn record(&self, provider: &'static str, by: &ModelRef, answer: &Answer) {
        // What was kept costs nothing and takes no time: it would make the figures of the model better than it is.
        if answer.cached {
            return;
        }
        duration(provider, by, self.began, None);
        for (kind, tokens) in answer.usage.iter().flat_map(|usage| {
            [
                ("input", usage.input_tokens),
                ("output", usage.output_tokens),
            ]
        }) {
            metrics::histogram!("gen_ai_client_token_usage",
                "gen_ai_operation_name" => "chat",
                "gen_ai_provider_name" => provider,
                "gen_ai_request_model" => by.model.clone(),
                "gen_ai_token_type" => kind)
            .record(tokens as f64);
        }
    }

    fn answered(self, provider: &'static str, by: &ModelRef, answer: &Answer) {
        let mut span = self.span;
        if span.place().is_none() {
            return;
        }
        span.set("gen_ai.provider.name", provider);
        span.set("gen_ai.response.model", &by.model);
        let why = Told::Word(finish_reason(&answer.stop).into());
        span.set("gen_ai.response.finish_reasons", why);
        if let Some(usage) = &answer.usage {
            span.set("gen_ai.usage.input_tokens", usage.input_tokens);
            span.set("gen_ai.usage.output_tokens", usage.output_tokens);
            span.set_if("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
            span.set_if("netra.cost_usd", usage.cost_usd);
        }
        span.set("netra.cached", answer.cached);
        if span.wants_content() {
            let calls = answer.tool_calls.iter().map(call);
            let parts = std::iter::once(text(&answer.text)).chain(calls);
            let said = json!([{ "role": "assistant", "parts": parts.collect::<Value>(),
                                "finish_reason": finish_reason(&answer.stop) }]);
            let said = shorten(&said, MAX_CONTENT_BYTES).to_string();
            span.set("gen_ai.output.messages", &said);
        }
        span.end();
    }
}

fn duration(provider: &'static str, model: &ModelRef, began: Instant, error: Option<&'static str>) {
    let mut labels = vec![
        Label::from_static_parts("gen_ai_operation_name", "chat"),
        Label::from_static_parts("gen_ai_provider_name", provider),
        Label::new("gen_ai_request_model", model.model.clone()),
    ];
    labels.extend(error.map(|error| Label::from_static_parts("error_type", error)));
    metrics::histogram!("gen_ai_client_operation_duration_seconds", labels)
        .record(began.elapsed().as_secs_f64());
}

/// As the conventions call whoever is spoken to in this way.
fn provider(kind: &'static str) -> &'static str {
    match kind {
        "gemini" => "gcp.gemini",
        "azure" => "azure.ai.openai",
        other => other,
    }
}

fn finish_reason(stop: &StopReason) -> &str {
    match stop {
        StopReason::Stop => "stop",
        StopReason::ToolCalls => "tool_call",
        StopReason::MaxTokens => "length",
        StopReason::ContentFilter => "content_filter",
        StopReason::Refusal => "refusal",
        StopReason::Other(word) => word,
        StopReason::Unknown => "unknown",
    }
}

fn text(words: &str) -> Value {
    json!({ "type": "text", "content": words })
}

fn call(call: &netra_model::ToolCall) -> Value {
    json!({ "type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments })
}

/// A message as the conventions write it; of pictures, that they were there.
fn said(message: &Message) -> Value {
    match message {
        Message::User {
            text: words,
            images,
        } => {
            let pictures = images
                .iter()
                .map(|image| json!({ "type": "image", "mime_type": image.media_type }));
            let parts: Value = std::iter::once(text(words)).chain(pictures).collect();
            json!({ "role": "user", "parts": parts })
        }
        Message::Assistant {
            text: words,
            tool_calls,
            ..
        } => {
            let calls = tool_calls.iter().map(call);
            let parts: Value = std::iter::once(text(words)).chain(calls).collect();
            json!({ "role": "assistant", "parts": parts })
        }
        Message::ToolResult {
            tool_call_id,
            content,
        } => json!({
            "role": "tool",
            "parts": [{ "type": "tool_call_response", "id": tool_call_id, "response": content }],
        }),
    }
}
