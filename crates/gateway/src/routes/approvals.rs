//! Approvals: what agents ask a person, and the answers.

use axum::Json as Answer;
use axum::extract::State;
use netra_context::UserExecutionContext;
use netra_protocol::Page;
use netra_protocol::approval::{Approval, ResolveApproval};
use netra_protocol::id::ApprovalId;
use netra_store::Writable;

use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, Paging};
use crate::json::Payload;
use crate::state::Gateway;

/// The longest note, in characters.
const MAX_NOTE_CHARS: usize = 2_000;

/// Answers an approval; for REST and WebSocket alike.
pub(crate) async fn resolve(
    gateway: &Gateway,
    ctx: &UserExecutionContext,
    approval: &Writable<Approval>,
    answer: ResolveApproval,
) -> Result<Approval, Error> {
    let note = answer.note.as_deref().unwrap_or_default();
    if note.chars().count() > MAX_NOTE_CHARS {
        return Err(
            Error::invalid("`note` has at most 2000 characters.").breaks("note", "maxLength 2000")
        );
    }
    Ok(gateway.engine.answer(ctx, approval, answer).await?)
}

/// Lists approvals
///
/// Newest first, answered ones too; `state` tells which wait for an answer.
#[utoipa::path(get, path = "/api/approvals", tag = "approvals", operation_id = "approval_list",
    params(Paging), responses((status = 200, description = "Approvals", body = Page<Approval>)))]
pub(crate) async fn approval_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Approval>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.approvals(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Answers an approval
///
/// Once: the second answer gets 409 `approval_resolved`. With `approve`, other `arguments` may be
/// given, which have to fit the tool.
#[utoipa::path(post, path = "/api/approvals/{id}", tag = "approvals",
    operation_id = "approval_resolve",
    params(("id" = ApprovalId, Path, description = "The approval")),
    request_body = ResolveApproval,
    responses((status = 200, description = "The approval, answered", body = Approval)))]
pub(crate) async fn approval_resolve(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<ApprovalId>,
    body: Payload,
) -> Result<Answer<Approval>, Error> {
    // Looked up before the body is validated, as everywhere.
    let approval = gateway.store.approval(&caller.ctx, id).for_write().await?;
    let answer: ResolveApproval = body.read().await?;
    Ok(Answer(
        resolve(&gateway, &caller.ctx, &approval, answer).await?,
    ))
}
