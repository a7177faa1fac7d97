//! The user's own sign-ins.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_protocol::Page;
use netra_protocol::account::Session;
use netra_protocol::id::SessionId;

use crate::auth::verifier::Revoked;
use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, Paging};
use crate::state::Gateway;

/// Lists the sign-ins that are still good
///
/// Newest first.
#[utoipa::path(get, path = "/api/auth/sessions", tag = "accounts", operation_id = "session_list",
    params(Paging), responses((status = 200, description = "Sign-ins", body = Page<Session>)))]
pub(crate) async fn session_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Session>>, Error> {
    let limit = caller.query.limit()? as usize;
    let mut items = gateway.store.sessions(&caller.ctx).await?;
    if let Some(last) = list.position(caller.query.cursor.as_ref())? {
        let last: SessionId = last.parse().map_err(Error::internal)?;
        items.retain(|session| session.id < last);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next_cursor = items
        .last()
        .filter(|_| more)
        .map(|session| session.id.to_string());
    Ok(list.answer(Page {
        items,
        next_cursor,
        as_of: None,
    }))
}

/// Ends all sign-ins
///
/// The one that asks too: tokens of all of them are refused and their sockets closed from now on. API keys stay.
#[utoipa::path(delete, path = "/api/auth/sessions", tag = "accounts",
    operation_id = "session_delete_all", responses((status = 204, description = "Ended")))]
pub(crate) async fn session_delete_all(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<StatusCode, Error> {
    for ended in gateway.store.sessions_revoke(&caller.ctx).await? {
        gateway.verifier.revoke(Revoked::Session(ended));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a sign-in
///
/// Its tokens are refused and its sockets closed from now on.
#[utoipa::path(delete, path = "/api/auth/sessions/{id}", tag = "accounts",
    operation_id = "session_delete", params(("id" = SessionId, Path, description = "The sign-in")),
    responses((status = 204, description = "Ended")))]
pub(crate) async fn session_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<SessionId>,
) -> Result<StatusCode, Error> {
    gateway.store.session_revoke(&caller.ctx, id).await?;
    gateway.verifier.revoke(Revoked::Session(id));
    Ok(StatusCode::NO_CONTENT)
}
