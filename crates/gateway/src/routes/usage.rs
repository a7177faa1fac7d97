//! The user's own figures.

use axum::Json as Answer;
use axum::extract::State;
use netra_protocol::usage::Usage;

use crate::error::Error;
use crate::extract::Caller;
use crate::state::Gateway;

/// Tells what the user's runs used, by day, and the slots in use now
#[utoipa::path(get, path = "/api/usage", tag = "usage", operation_id = "usage_get",
    responses((status = 200, description = "Figures", body = Usage)))]
pub(crate) async fn usage_get(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Answer<Usage>, Error> {
    let days = gateway.store.usage(&caller.ctx).await?;
    Ok(Answer(Usage {
        days,
        slots: gateway.engine.slots(&caller.ctx),
    }))
}
