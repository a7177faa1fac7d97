//! The user's own figures.

use axum::Json as Answer;
use axum::extract::State;
use netra_protocol::usage::Usage;

use crate::error::Error;
use crate::extract::Caller;
use crate::state::Gateway;

/// Tells what the user's runs used, by day, the slots in use now, and what calls of tools used
#[utoipa::path(get, path = "/api/usage", tag = "usage", operation_id = "usage_get",
    responses((status = 200, description = "Figures", body = Usage)))]
pub(crate) async fn usage_get(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Answer<Usage>, Error> {
    Ok(Answer(Usage {
        days: gateway.store.usage(&caller.ctx).await?,
        slots: gateway.engine.slots_over_nodes(&caller.ctx).await?,
        tools: gateway.store.tool_usage(&caller.ctx).await?,
    }))
}
