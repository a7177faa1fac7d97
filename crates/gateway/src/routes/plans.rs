//! What admins set for all users of a plan, see of everybody's audit, and how the server was in the last hour.

use axum::Json as Answer;
use axum::extract::State;
use netra_protocol::Page;
use netra_protocol::admin::{AdminAuditEntry, MetricsHistory, Plans};
use netra_protocol::id::UserId;
use netra_store::AuditFilter;
use serde::Deserialize;

use crate::auth::verifier::Revoked;
use crate::cursor::{Cursor, List};
use crate::error::Error;
use crate::extract::{Caller, checked_limit};
use crate::json::Payload;
use crate::routes::admin::check_limits;
use crate::state::Gateway;

/// Shows the limits of the plans
///
/// Where they are not those of the configuration. For admins.
#[utoipa::path(get, path = "/api/admin/plans", tag = "admin", operation_id = "admin_plans_get",
    responses((status = 200, description = "Limits by plan", body = Plans)))]
pub(crate) async fn plans_get(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Answer<Plans>, Error> {
    Ok(Answer(gateway.store.plans(&caller.ctx).await?))
}

/// Sets the limits of the plans
///
/// Of all three at once: what is absent is as configured. They hold for every request and run from then on; a user's own
/// limits stay above them. For admins; audited.
#[utoipa::path(put, path = "/api/admin/plans", tag = "admin", operation_id = "admin_plans_set",
    request_body = Plans, responses((status = 200, description = "Limits by plan", body = Plans)))]
pub(crate) async fn plans_set(
    State(gateway): State<Gateway>,
    caller: Caller,
    body: Payload,
) -> Result<Answer<Plans>, Error> {
    let plans: Plans = body.read().await?;
    for (plan, limits) in plans.each() {
        check_limits(limits, plan.as_str())?;
    }
    let store = &gateway.store;
    store.plans_set(&caller.ctx, plans.clone()).await?;
    gateway.verifier.revoke(Revoked::Plans);
    Ok(Answer(plans))
}

/// The parameters of the list of everybody's audit records.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Records {
    /// In this user's audit only.
    user: Option<UserId>,
    /// Of this action only, such as `user.update`.
    action: Option<String>,
    /// Items of a page, 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Lists everybody's audit records
///
/// Newest first, those of users who have left too. What an admin does to a user stands in both audits. For admins.
#[utoipa::path(get, path = "/api/admin/audit", tag = "admin", operation_id = "admin_audit_list",
    params(Records),
    responses((status = 200, description = "Records", body = Page<AdminAuditEntry>)))]
pub(crate) async fn audit_list(
    State(gateway): State<Gateway>,
    caller: Caller<Records>,
    list: List,
) -> Result<Answer<Page<AdminAuditEntry>>, Error> {
    let Records {
        user,
        action,
        limit,
        cursor,
    } = caller.query;
    let (filter, limit) = (AuditFilter { user, action }, checked_limit(limit)?);
    let (store, from) = (&gateway.store, list.position(cursor.as_ref())?);
    let page = store.audit_of_all(&caller.ctx, filter, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Shows how the server was in the last hour
///
/// The figures of this node, one point for every ten seconds since its start, at most an hour back. For admins.
#[utoipa::path(get, path = "/api/admin/metrics/history", tag = "admin",
    operation_id = "admin_metrics_history",
    responses((status = 200, description = "Points, oldest first", body = MetricsHistory)))]
pub(crate) async fn metrics_history(
    State(gateway): State<Gateway>,
    _: Caller,
) -> Answer<MetricsHistory> {
    Answer((gateway.history)())
}
