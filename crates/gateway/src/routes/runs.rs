//! Runs: start, state, end.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_context::UserExecutionContext;
use netra_protocol::Page;
use netra_protocol::frame::Empty;
use netra_protocol::id::{RunId, ThreadId};
use netra_protocol::run::{Run, StartRun};
use netra_protocol::thread::Thread;
use netra_store::Idempotency;
use serde::Deserialize;

use super::threads::check_metadata;
use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, IdempotencyKey, Paging};
use crate::json::Payload;
use crate::state::Gateway;

const DEFAULT_WAIT_MS: u64 = 30_000;
const MAX_WAIT_MS: u64 = 60_000;

/// Starts a run; for REST and WebSocket alike.
pub(crate) async fn start(
    gateway: &Gateway,
    ctx: &UserExecutionContext,
    thread: Option<netra_store::Writable<Thread>>,
    body: StartRun,
    key: Option<Idempotency>,
) -> Result<Run, Error> {
    check_metadata(body.metadata.as_ref())?;
    let started = gateway.engine.start(ctx, thread, body, key).await?;
    let mut run = started.run;
    run.run_id = Some(run.id);
    Ok(run)
}

/// Tells a run to end; for REST and WebSocket alike.
pub(crate) async fn cancel(
    gateway: &Gateway,
    ctx: &UserExecutionContext,
    id: RunId,
) -> Result<(), Error> {
    let run = gateway.store.run(ctx, id).for_write().await?;
    // Between the last event and the engine's own end a run has ended for everybody else.
    if run.status.is_terminal() {
        return Err(netra_store::Error::RunEnded.into());
    }
    Ok(gateway.engine.cancel(ctx, &run).await?)
}

/// Starts a run in a new conversation
#[utoipa::path(post, path = "/api/runs", tag = "runs", operation_id = "run_create",
    request_body = StartRun, responses((status = 202, description = "The run", body = Run)))]
pub(crate) async fn run_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    key: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Run>), Error> {
    let body: StartRun = body.read().await?;
    let key = key.of("run_create", &body)?;
    let run = start(&gateway, &caller.ctx, None, body, key).await?;
    Ok((StatusCode::ACCEPTED, Answer(run)))
}

/// Starts a run in a conversation
#[utoipa::path(post, path = "/api/threads/{id}/runs", tag = "runs",
    operation_id = "thread_run_create",
    params(("id" = ThreadId, Path, description = "The conversation")), request_body = StartRun,
    responses((status = 202, description = "The run", body = Run)))]
pub(crate) async fn thread_run_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ThreadId>,
    key: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Run>), Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_write().await?;
    let body: StartRun = body.read().await?;
    let key = key.of(format!("run_create:{id}"), &body)?;
    let run = start(&gateway, &caller.ctx, Some(thread), body, key).await?;
    Ok((StatusCode::ACCEPTED, Answer(run)))
}

/// Lists runs
///
/// Newest first.
#[utoipa::path(get, path = "/api/runs", tag = "runs", operation_id = "run_list",
    params(Paging), responses((status = 200, description = "Runs", body = Page<Run>)))]
pub(crate) async fn run_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Run>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.runs(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Reads a run
#[utoipa::path(get, path = "/api/runs/{id}", tag = "runs", operation_id = "run_get",
    params(("id" = RunId, Path, description = "The run")),
    responses((status = 200, description = "The run", body = Run)))]
pub(crate) async fn run_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RunId>,
) -> Result<Answer<Run>, Error> {
    let run = gateway.store.run(&caller.ctx, id).for_read().await?;
    Ok(Answer(run.into_inner()))
}

/// The parameters of waiting.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wait {
    /// How long to wait, in milliseconds; 30,000 when absent.
    #[param(minimum = 0, maximum = 60_000)]
    timeout_ms: Option<i64>,
}

impl Wait {
    fn timeout(&self) -> Result<Duration, Error> {
        let rule = match self.timeout_ms.map(u64::try_from) {
            None => return Ok(Duration::from_millis(DEFAULT_WAIT_MS)),
            Some(Ok(ms)) if ms <= MAX_WAIT_MS => return Ok(Duration::from_millis(ms)),
            Some(Ok(_)) => "maximum 60000",
            Some(Err(_)) => "minimum 0",
        };
        let message = "`timeout_ms` is a number from 0 to 60000.";
        Err(Error::invalid(message).breaks("timeout_ms", rule))
    }
}

/// Waits until a run has ended
///
/// 200 when it has, 202 with its present state at the timeout or when the server drains.
#[utoipa::path(get, path = "/api/runs/{id}/wait", tag = "runs", operation_id = "run_wait",
    params(("id" = RunId, Path, description = "The run"), Wait),
    responses((status = 200, description = "The run, ended", body = Run),
        (status = 202, description = "The run, not yet ended", body = Run)))]
pub(crate) async fn run_wait(
    State(gateway): State<Gateway>,
    caller: Caller<Wait>,
    Id(id): Id<RunId>,
) -> Result<(StatusCode, Answer<Run>), Error> {
    let timeout = caller.query.timeout()?;
    let run = gateway
        .bridge
        .wait_run(&caller.ctx, id, timeout)
        .await?
        .into_inner();
    let status = if run.status.is_terminal() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Answer(run)))
}

/// Cancels a run
///
/// Again while it ends: 202 too. After it has ended: 409 `run_ended`.
#[utoipa::path(post, path = "/api/runs/{id}/cancel", tag = "runs", operation_id = "run_cancel",
    params(("id" = RunId, Path, description = "The run")),
    request_body = Option<Empty>,
    responses((status = 202, description = "The run, about to end", body = Run)))]
pub(crate) async fn run_cancel(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RunId>,
    body: Payload,
) -> Result<(StatusCode, Answer<Run>), Error> {
    // Looked up before the body is validated, as everywhere.
    gateway.store.run(&caller.ctx, id).for_write().await?;
    let Empty {} = body.read_or_default().await?;
    cancel(&gateway, &caller.ctx, id).await?;
    let run = gateway.store.run(&caller.ctx, id).for_read().await?;
    Ok((StatusCode::ACCEPTED, Answer(run.into_inner())))
}

/// Runs an ended run again
///
/// In the same conversation, with the same input and files.
#[utoipa::path(post, path = "/api/runs/{id}/retry", tag = "runs", operation_id = "run_retry",
    params(("id" = RunId, Path, description = "The ended run")),
    request_body = Option<Empty>,
    responses((status = 202, description = "The new run", body = Run)))]
pub(crate) async fn run_retry(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RunId>,
    key: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Run>), Error> {
    let ended = gateway.store.run(&caller.ctx, id).for_read().await?;
    let body: Empty = body.read_or_default().await?;
    let key = key.of(format!("run_retry:{id}"), &body)?;
    let mut run = gateway.engine.retry(&caller.ctx, &ended, key).await?.run;
    run.run_id = Some(run.id);
    Ok((StatusCode::ACCEPTED, Answer(run)))
}
