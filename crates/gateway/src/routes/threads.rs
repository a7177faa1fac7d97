//! Conversations and their messages.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_protocol::Page;
use netra_protocol::id::ThreadId;
use netra_protocol::message::Message;
use netra_protocol::thread::{CreateThread, ForkThread, Thread, UpdateThread};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cursor::{Cursor, List};
use crate::error::Error;
use crate::extract::{Caller, Id, IdempotencyKey, Paging, checked_limit};
use crate::json::Payload;
use crate::state::Gateway;

const MAX_TITLE_CHARS: usize = 200;
/// The largest metadata, in bytes of JSON.
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// The longest text that is searched for.
const MAX_SEARCH_CHARS: usize = 1_000;

/// The text to search for; none where it is blank.
fn checked_search(q: Option<&str>) -> Result<Option<&str>, Error> {
    let q = q.filter(|q| !q.trim().is_empty());
    let rule = match q {
        Some(q) if q.chars().count() > MAX_SEARCH_CHARS => "maxLength 1000",
        Some(q) if q.chars().any(char::is_control) => r"pattern ^[^\x00-\x1f\x7f-\x9f]*$",
        _ => return Ok(q),
    };
    let message = "`q` has at most 1,000 characters, none of them a control character.";
    Err(Error::invalid(message).breaks("q", rule))
}

/// Refuses metadata that is too large.
pub(crate) fn check_metadata(metadata: Option<&Map<String, Value>>) -> Result<(), Error> {
    let bytes = metadata
        .map(serde_json::to_vec)
        .transpose()
        .map_err(Error::internal)?;
    if bytes.is_some_and(|bytes| bytes.len() > MAX_METADATA_BYTES) {
        let refused = Error::invalid("`metadata` has at most 16 KiB of JSON.");
        return Err(refused.breaks("metadata", "maxBytes 16384"));
    }
    Ok(())
}

fn check_title(title: Option<&String>) -> Result<(), Error> {
    if title.is_some_and(|title| title.chars().count() > MAX_TITLE_CHARS) {
        return Err(
            Error::invalid("`title` has at most 200 characters.").breaks("title", "maxLength 200")
        );
    }
    Ok(())
}

/// The parameters of the list of conversations.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// Text to look for in titles and messages, at most 1,000 characters, none of them a control character.
    #[param(max_length = 1000, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    q: Option<String>,
    /// Items of a page, 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Lists or searches conversations
///
/// Those that last changed come first.
#[utoipa::path(get, path = "/api/threads", tag = "threads", operation_id = "thread_list",
    params(Search), responses((status = 200, description = "Conversations", body = Page<Thread>)))]
pub(crate) async fn thread_list(
    State(gateway): State<Gateway>,
    caller: Caller<Search>,
    list: List,
) -> Result<Answer<Page<Thread>>, Error> {
    let Search { q, limit, cursor } = &caller.query;
    let limit = checked_limit(*limit)?;
    let q = checked_search(q.as_deref())?;
    let (store, from) = (&gateway.store, list.position(cursor.as_ref())?);
    let page = store.threads(&caller.ctx, q, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Makes a conversation
#[utoipa::path(post, path = "/api/threads", tag = "threads", operation_id = "thread_create",
    request_body = Option<CreateThread>,
    responses((status = 201, description = "The conversation", body = Thread)))]
pub(crate) async fn thread_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    key: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Thread>), Error> {
    let body: CreateThread = body.read_or_default().await?;
    check_title(body.title.as_ref())?;
    check_metadata(body.metadata.as_ref())?;
    let key = key.of("thread_create", &body)?;
    let created = gateway
        .store
        .thread_create(&caller.ctx, body, key.as_ref())
        .await?;
    Ok((StatusCode::CREATED, Answer(created.value)))
}

/// Reads a conversation
#[utoipa::path(get, path = "/api/threads/{id}", tag = "threads", operation_id = "thread_get",
    params(("id" = ThreadId, Path, description = "The conversation")),
    responses((status = 200, description = "The conversation", body = Thread)))]
pub(crate) async fn thread_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ThreadId>,
) -> Result<Answer<Thread>, Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_read().await?;
    Ok(Answer(thread.into_inner()))
}

/// Changes a conversation
///
/// What is absent stays.
#[utoipa::path(patch, path = "/api/threads/{id}", tag = "threads", operation_id = "thread_update",
    params(("id" = ThreadId, Path, description = "The conversation")), request_body = UpdateThread,
    responses((status = 200, description = "The conversation", body = Thread)))]
pub(crate) async fn thread_update(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ThreadId>,
    body: Payload,
) -> Result<Answer<Thread>, Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_write().await?;
    let body: UpdateThread = body.read().await?;
    check_title(body.title.as_ref())?;
    check_metadata(body.metadata.as_ref())?;
    Ok(Answer(
        gateway
            .store
            .thread_update(&caller.ctx, &thread, body)
            .await?,
    ))
}

/// Deletes a conversation with its runs and events
///
/// Not while it has an active run.
#[utoipa::path(delete, path = "/api/threads/{id}", tag = "threads",
    operation_id = "thread_delete",
    params(("id" = ThreadId, Path, description = "The conversation")),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn thread_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ThreadId>,
) -> Result<StatusCode, Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_write().await?;
    gateway.store.thread_delete(&caller.ctx, thread).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the messages of a conversation
///
/// Oldest first; the first page carries `as_of`.
#[utoipa::path(get, path = "/api/threads/{id}/messages", tag = "threads",
    operation_id = "message_list",
    params(("id" = ThreadId, Path, description = "The conversation"), Paging),
    responses((status = 200, description = "Messages", body = Page<Message>)))]
pub(crate) async fn message_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    Id(id): Id<ThreadId>,
    list: List,
) -> Result<Answer<Page<Message>>, Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_read().await?;
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let store = &gateway.store;
    let page = store.messages(&caller.ctx, &thread, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Makes a new conversation of an old one's messages
///
/// Up to `after_message_id`, or all.
#[utoipa::path(post, path = "/api/threads/{id}/fork", tag = "threads",
    operation_id = "thread_fork",
    params(("id" = ThreadId, Path, description = "The conversation")),
    request_body = Option<ForkThread>,
    responses((status = 201, description = "The new conversation", body = Thread)))]
pub(crate) async fn thread_fork(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ThreadId>,
    key: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Thread>), Error> {
    let thread = gateway.store.thread(&caller.ctx, id).for_read().await?;
    let body: ForkThread = body.read_or_default().await?;
    let key = key.of(format!("thread_fork:{id}"), &body)?;
    let forked = gateway
        .store
        .thread_fork(&caller.ctx, &thread, body, key.as_ref())
        .await?;
    Ok((StatusCode::CREATED, Answer(forked.value)))
}
