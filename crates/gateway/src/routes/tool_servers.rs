//! Tool servers that users add for their own agents.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_protocol::tool::{OwnToolServer, PutToolServer};
use netra_protocol::{ErrorCode, Page};
use netra_tools::NotAdded;

use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, Paging};
use crate::json::Payload;
use crate::routes::agents::by_name;
use crate::state::Gateway;

impl From<NotAdded> for Error {
    fn from(not_added: NotAdded) -> Self {
        match not_added {
            NotAdded::Invalid { field, rule, words } => Self::invalid(words).breaks(field, rule),
            NotAdded::Forbidden(words) => Self::new(ErrorCode::Forbidden, words),
        }
    }
}

async fn own(gateway: &Gateway, caller: &Caller, name: &str) -> Result<OwnToolServer, Error> {
    let servers = gateway.tool_servers.own(&caller.ctx).await?;
    let found = servers.into_iter().find(|server| server.name == name);
    found.ok_or_else(Error::not_found)
}

/// Lists the user's own tool servers
///
/// By name: where each stands, and its tools. One whose tools are not known is asked for them.
#[utoipa::path(get, path = "/api/tool-servers", tag = "agents", operation_id = "tool_server_list",
    params(Paging),
    responses((status = 200, description = "Tool servers", body = Page<OwnToolServer>)))]
pub(crate) async fn tool_server_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<OwnToolServer>>, Error> {
    let servers = gateway.tool_servers.own(&caller.ctx).await?;
    by_name(servers, (&caller.query, &list), |server| &server.name)
}

/// Tells about one of the user's own tool servers
#[utoipa::path(get, path = "/api/tool-servers/{name}", tag = "agents",
    operation_id = "tool_server_get",
    params(("name" = String, Path, description = "The tool server")),
    responses((status = 200, description = "The tool server", body = OwnToolServer)))]
pub(crate) async fn tool_server_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Result<Answer<OwnToolServer>, Error> {
    Ok(Answer(own(&gateway, &caller, &name).await?))
}

/// Adds a tool server of the user's own
///
/// In place of the one that had the name; at most 10. It is asked for its tools at once, and is there though it does
/// not answer. Its tools are the user's alone, named `my_NAME__tool`. 403 where no policy permits it.
#[utoipa::path(put, path = "/api/tool-servers/{name}", tag = "agents",
    operation_id = "tool_server_put",
    params(("name" = String, Path, description = "A lower-case letter, then letters, digits or single `_`, at most 21",
        max_length = 21, pattern = "^[a-z](_?[a-z0-9])*$")),
    request_body = PutToolServer,
    responses((status = 200, description = "The tool server", body = OwnToolServer)))]
pub(crate) async fn tool_server_put(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
    body: Payload,
) -> Result<Answer<OwnToolServer>, Error> {
    let wanted: PutToolServer = body.read().await?;
    let new = gateway.tool_servers.judge(&caller.ctx, &name, wanted)?;
    gateway.store.tool_server_put(&caller.ctx, new).await?;
    Ok(Answer(own(&gateway, &caller, &name).await?))
}

/// Deletes a tool server of the user's own
///
/// What runs there for the user ends.
#[utoipa::path(delete, path = "/api/tool-servers/{name}", tag = "agents",
    operation_id = "tool_server_delete",
    params(("name" = String, Path, description = "The tool server")),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn tool_server_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Result<StatusCode, Error> {
    let store = &gateway.store;
    let found = store.tool_server(&caller.ctx, name).for_write().await?;
    let user = found.owner();
    store.tool_server_delete(&caller.ctx, found).await?;
    gateway.tool_servers.forget_own(user);
    Ok(StatusCode::NO_CONTENT)
}
