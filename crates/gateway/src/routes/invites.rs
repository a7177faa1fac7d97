//! Invitations, by which people make their own accounts with what an admin has promised.

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_protocol::Page;
use netra_protocol::admin::{CreateInvite, Invite};
use netra_protocol::id::InviteId;

use crate::auth::link::{self, OneTimeLink};
use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, IdempotencyKey, Paging, Visitor};
use crate::json::Payload;
use crate::state::Gateway;

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// How long an invitation is good where nothing is said, and at most.
const LIFE_MS: u64 = 7 * DAY_MS;
const MOST_LIFE_MS: u64 = 90 * DAY_MS;

/// Makes an invitation
///
/// For one account, with this role and plan. The link is in this answer and nowhere else: a repetition with the same
/// `Idempotency-Key` gives the invitation without it. For admins.
#[utoipa::path(post, path = "/api/admin/invites", tag = "admin", operation_id = "admin_invite_create",
    request_body = Option<CreateInvite>,
    responses((status = 201, description = "The invitation, with its link", body = Invite)))]
pub(crate) async fn invite_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    visitor: Visitor,
    idempotency: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<Invite>), Error> {
    let body: CreateInvite = body.read_or_default().await?;
    let idempotency = idempotency.of("admin_invite_create", &body)?;
    let CreateInvite {
        role,
        plan,
        expires_in_ms,
    } = body;
    let life_ms = expires_in_ms.unwrap_or(LIFE_MS);
    if !(1..=MOST_LIFE_MS).contains(&life_ms) {
        let message = format!("`expires_in_ms` is from 1 to {MOST_LIFE_MS}.");
        let rule = match life_ms {
            0 => "minimum 1",
            _ => "maximum 7776000000",
        };
        return Err(Error::invalid(message).breaks("expires_in_ms", rule));
    }
    let (life, place) = (
        Duration::from_millis(life_ms),
        (&visitor.headers, &visitor.uri),
    );
    let (link, kept) = link::make(&gateway, OneTimeLink::Invite, life, place);
    let store = &gateway.store;
    let created = store.invite_create(&caller.ctx, (role, plan), kept, idempotency.as_ref());
    let created = created.await?;
    let mut invite = created.value;
    invite.link = (!created.replayed).then_some(link);
    Ok((StatusCode::CREATED, Answer(invite)))
}

/// Lists the invitations that nobody has taken
///
/// Newest first, without their links. For admins.
#[utoipa::path(get, path = "/api/admin/invites", tag = "admin", operation_id = "admin_invite_list",
    params(Paging), responses((status = 200, description = "Invitations", body = Page<Invite>)))]
pub(crate) async fn invite_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Invite>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.invites(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Takes an invitation back
///
/// Nobody can take it any more. For admins.
#[utoipa::path(delete, path = "/api/admin/invites/{id}", tag = "admin",
    operation_id = "admin_invite_delete",
    params(("id" = InviteId, Path, description = "The invitation")),
    responses((status = 204, description = "Taken back")))]
pub(crate) async fn invite_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<InviteId>,
) -> Result<StatusCode, Error> {
    gateway.store.invite_delete(&caller.ctx, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
