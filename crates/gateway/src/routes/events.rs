//! Event streams over plain HTTP.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use netra_events::{Filter, Start};
use netra_protocol::id::{RunId, ThreadId};
use serde::Deserialize;

use crate::error::Error;
use crate::extract::{Caller, Id};
use crate::sse::{self, Cursor};
use crate::state::Gateway;

/// The most threads that a stream may name.
pub(crate) const MAX_THREADS: usize = 1_000;

/// The parameters of a stream.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Stream {
    /// Go on after this event: `seq` or `epoch:seq`. The header `Last-Event-ID` wins.
    #[param(pattern = "^([!-~]+:)?[0-9]{1,19}$")]
    after: Option<String>,
    /// Whether `message_delta` is wanted; yes when absent.
    deltas: Option<bool>,
    /// Only events of these conversations: ids with commas between.
    threads: Option<String>,
}

impl Stream {
    fn threads(&self) -> Result<Option<HashSet<ThreadId>>, Error> {
        let Some(text) = &self.threads else {
            return Ok(None);
        };
        let ids: Result<HashSet<ThreadId>, _> = text.split(',').map(str::parse).collect();
        let rule = match ids {
            Ok(ids) if ids.len() <= MAX_THREADS => return Ok(Some(ids)),
            Ok(_) => "maxItems 1000",
            Err(_) => ThreadId::RULE,
        };
        let message = "`threads` is up to 1000 ids of conversations, with commas between.";
        Err(Error::invalid(message).breaks("threads", rule))
    }
}

/// Streams all events of the user from now on
///
/// Or after a cursor. The stream ends with the access token's life, and resumes.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "event_stream",
    params(Stream, ("Last-Event-ID" = Option<String>, Header, description = "Go on after it",
            pattern = "^(([!-~]+:)?[0-9]{1,19})?$")),
    responses((status = 200, description = "Events", content_type = "text/event-stream",
        body = netra_protocol::WireEvent)))]
pub(crate) async fn event_stream(
    State(gateway): State<Gateway>,
    caller: Caller<Stream>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let resume = sse::resume_at(&headers, caller.query.after.as_deref())?;
    let filter = Filter {
        threads: caller.query.threads()?,
        run: None,
        deltas: caller.query.deltas.unwrap_or(true),
    };
    let (start, epoch) = match resume {
        Some(Cursor { epoch, seq }) => (Start::After(seq), epoch),
        None => (Start::Now, None),
    };
    let subscription = gateway
        .bridge
        .subscribe(&caller.ctx, start, epoch.as_deref(), filter)
        .await?;
    sse::answer(&gateway, caller, subscription, false).await
}

/// Streams the events of a run from its start to its end
///
/// Or after a cursor; 204 when that is at or after the run's last event.
#[utoipa::path(get, path = "/api/runs/{id}/events", tag = "events",
    operation_id = "run_event_stream",
    params(("id" = RunId, Path, description = "The run"), Stream,
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after it",
            pattern = "^(([!-~]+:)?[0-9]{1,19})?$")),
    responses((status = 200, description = "Events", content_type = "text/event-stream",
        body = netra_protocol::WireEvent),
        (status = 204, description = "Nothing follows")))]
pub(crate) async fn run_event_stream(
    State(gateway): State<Gateway>,
    caller: Caller<Stream>,
    Id(id): Id<RunId>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let run = gateway.store.run(&caller.ctx, id).for_read().await?;
    let resume = sse::resume_at(&headers, caller.query.after.as_deref())?;
    let threads = caller.query.threads()?;
    let passes = threads
        .as_ref()
        .is_none_or(|threads| threads.contains(&run.thread_id));
    let deltas = caller.query.deltas.unwrap_or(true);
    let filter = Filter {
        threads,
        run: Some(id),
        deltas,
    };
    let span = gateway.store.run_span(&caller.ctx, &run).await?;
    let (after, epoch) = match resume {
        Some(Cursor { epoch, seq }) => (seq, epoch),
        None => (span.after_seq, None),
    };
    let start = Start::After(after);
    let subscription = gateway
        .bridge
        .subscribe(&caller.ctx, start, epoch.as_deref(), filter)
        .await?;
    // Read after subscribing: an end that comes later is on the stream.
    let terminal = gateway
        .store
        .run_span(&caller.ctx, &run)
        .await?
        .terminal_seq;
    if !passes || terminal.is_some_and(|terminal| after >= terminal) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    sse::answer(&gateway, caller, subscription, true).await
}
