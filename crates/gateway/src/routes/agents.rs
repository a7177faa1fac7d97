//! Agents and tools, as the user may run and call them.

use axum::Json as Answer;
use axum::extract::State;
use netra_protocol::Page;
use netra_protocol::agent::Agent;
use netra_protocol::tool::Tool;

use crate::cursor::List;
use crate::error::Error;
use crate::extract::{Caller, Id, Paging};
use crate::state::Gateway;

/// A page of a list that is in memory, by name; its position is the last name of the page before.
pub(crate) fn by_name<T>(
    mut all: Vec<T>,
    (paging, list): (&Paging, &List),
    name: impl Fn(&T) -> &str,
) -> Result<Answer<Page<T>>, Error> {
    let limit = paging.limit()? as usize;
    all.sort_by(|a, b| name(a).cmp(name(b)));
    if let Some(last) = list.position(paging.cursor.as_ref())? {
        all.retain(|item| name(item) > last.as_str());
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next_cursor = all
        .last()
        .filter(|_| more)
        .map(|item| name(item).to_owned());
    Ok(list.answer(Page {
        items: all,
        next_cursor,
        as_of: None,
    }))
}

/// Lists the agents that this user may run
///
/// By name; one that is not ready says why.
#[utoipa::path(get, path = "/api/agents", tag = "agents", operation_id = "agent_list",
    params(Paging), responses((status = 200, description = "Agents", body = Page<Agent>)))]
pub(crate) async fn agent_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Agent>>, Error> {
    let agents = gateway.engine.agents_for(&caller.ctx).await?;
    by_name(agents, (&caller.query, &list), |agent| &agent.name)
}

/// Tells about one agent
#[utoipa::path(get, path = "/api/agents/{name}", tag = "agents", operation_id = "agent_get",
    params(("name" = String, Path, description = "The agent")),
    responses((status = 200, description = "The agent", body = Agent)))]
pub(crate) async fn agent_get(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(name): Id<String>,
) -> Result<Answer<Agent>, Error> {
    let agents = gateway.engine.agents_for(&caller.ctx).await?;
    let found = agents.into_iter().find(|agent| agent.name == name);
    found.map(Answer).ok_or_else(Error::not_found)
}

/// Lists the tools, and whether this user may call them
///
/// By name; one that is refused says why.
#[utoipa::path(get, path = "/api/tools", tag = "agents", operation_id = "tool_list",
    params(Paging), responses((status = 200, description = "Tools", body = Page<Tool>)))]
pub(crate) async fn tool_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Tool>>, Error> {
    let tools = gateway.tools.list_for(&caller.ctx).await;
    by_name(tools, (&caller.query, &list), |tool| &tool.name)
}
