//! The user's own audit records.

use axum::Json as Answer;
use axum::extract::State;
use netra_protocol::Page;
use netra_protocol::audit::AuditEntry;

use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Paging};
use crate::state::Gateway;

/// Lists audit records
///
/// What was done in the user's name, and by others to what is the user's; newest first. Each
/// record's `hash` covers the one before it.
#[utoipa::path(get, path = "/api/audit", tag = "audit", operation_id = "audit_list",
    params(Paging), responses((status = 200, description = "Records", body = Page<AuditEntry>)))]
pub(crate) async fn audit_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<AuditEntry>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.audit(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}
