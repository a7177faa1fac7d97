//! What admins see and do: accounts, and everybody's runs without their content.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use netra_protocol::Page;
use netra_protocol::account::{Plan, Role, User, is_group_name};
use netra_protocol::admin::{AdminRun, ChangedUser, CreateUser, Link, UpdateUser};
use netra_protocol::frame::Empty;
use netra_protocol::id::{RunId, UserId};
use netra_protocol::limits::LimitOverrides;
use netra_protocol::model::Model;
use netra_protocol::run::RunStatus;
use netra_protocol::tool::ToolServer;
use netra_store::{NewUser, RunFilter};
use serde::{Deserialize, Serialize};

use crate::auth::link::{self, OneTimeLink};
use crate::auth::verifier::Revoked;
use crate::cursor::{Cursor, List};
use crate::error::Error;
use crate::extract::{Caller, Id, IdempotencyKey, Paging, Visitor, checked_limit};
use crate::json::Payload;
use crate::routes::account::check_name;
use crate::routes::agents::by_name;
use crate::state::Gateway;

/// Lists all accounts
///
/// Oldest first. For admins.
#[utoipa::path(get, path = "/api/admin/users", tag = "admin", operation_id = "admin_user_list",
    params(Paging), responses((status = 200, description = "Accounts", body = Page<User>)))]
pub(crate) async fn user_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<User>>, Error> {
    let limit = caller.query.limit()?;
    let from = list.position(caller.query.cursor.as_ref())?;
    let page = gateway.store.users(&caller.ctx, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// What of a new account a repetition has to say again. Not the password: a fast hash of it must not be kept.
#[derive(Serialize)]
struct Repeated<'a> {
    name: &'a str,
    role: Role,
    plan: Plan,
}

/// Makes an account
///
/// With a password, or with a link in the answer by which the user sets one; a repetition with the same
/// `Idempotency-Key` gives the account without a link. For admins; audited in the user's audit too.
#[utoipa::path(post, path = "/api/admin/users", tag = "admin", operation_id = "admin_user_create",
    request_body = CreateUser,
    responses((status = 201, description = "The account", body = ChangedUser)))]
pub(crate) async fn user_create(
    State(gateway): State<Gateway>,
    caller: Caller,
    visitor: Visitor,
    idempotency: IdempotencyKey,
    body: Payload,
) -> Result<(StatusCode, Answer<ChangedUser>), Error> {
    let CreateUser {
        name,
        password,
        role,
        plan,
    } = body.read().await?;
    let repeated = Repeated {
        name: &name,
        role,
        plan,
    };
    let idempotency = idempotency.of("admin_user_create", &repeated)?;
    check_name(&name)?;
    let password_hash = match password {
        Some(password) => Some(gateway.passwords.hash(password, &name).await?),
        None => None,
    };
    let wants_link = password_hash.is_none();
    let new = NewUser {
        name,
        role,
        plan,
        password_hash,
    };
    let store = &gateway.store;
    let created = store.user_create_by_admin(&caller.ctx, new, idempotency.as_ref());
    let created = created.await?;
    let mut answer = ChangedUser {
        user: created.value,
        reset_link: None,
    };
    if wants_link && !created.replayed {
        let id = answer.user.id;
        answer.reset_link = Some(reset_link(&gateway, &caller, &visitor, id).await?);
    }
    Ok((StatusCode::CREATED, Answer(answer)))
}

async fn reset_link(
    gateway: &Gateway,
    caller: &Caller,
    visitor: &Visitor,
    id: UserId,
) -> Result<Link, Error> {
    let user = gateway.store.user_supervised(&caller.ctx, id).await?;
    let place = (&visitor.headers, &visitor.uri);
    let (link, kept) = link::make(gateway, OneTimeLink::Reset, link::RESET_LIFE, place);
    let store = &gateway.store;
    store.reset_link_create(&caller.ctx, &user, kept).await?;
    Ok(link)
}

/// Refuses limits that nobody can have.
pub(crate) fn check_limits(limits: &LimitOverrides, at: &str) -> Result<(), Error> {
    match limits.too_low() {
        None => Ok(()),
        Some((name, least)) => {
            let field = format!("{at}.{name}");
            let message = format!("`{field}` is at least {least}.");
            Err(Error::invalid(message).breaks(&field, &format!("minimum {least}")))
        }
    }
}

fn refused_groups(groups: &[String]) -> Error {
    let message = "`groups` are at most 32 names of 1 to 64 letters, digits, `.`, `_` or `-`.";
    let refused = Error::invalid(message);
    match groups.iter().position(|name| !is_group_name(name)) {
        Some(place) => {
            let field = format!("groups[{place}]");
            refused.breaks(&field, "pattern ^[A-Za-z0-9._-]{1,64}$")
        }
        None => refused.breaks("groups", "maxItems 32"),
    }
}

/// Changes an account
///
/// Role, plan, groups, the user's own limits, and whether it is disabled; with `reset_link` the answer has a link by
/// which the user sets a new password. Disabling ends the user's sessions, API keys and tickets
/// for good, closes sockets and streams, and cancels all runs, at once. The last admin stays one:
/// 409. For admins; audited in the user's audit too.
#[utoipa::path(patch, path = "/api/admin/users/{id}", tag = "admin",
    operation_id = "admin_user_update",
    params(("id" = UserId, Path, description = "The user")), request_body = UpdateUser,
    responses((status = 200, description = "The account", body = ChangedUser)))]
pub(crate) async fn user_update(
    State(gateway): State<Gateway>,
    caller: Caller,
    visitor: Visitor,
    Id(id): Id<UserId>,
    body: Payload,
) -> Result<Answer<ChangedUser>, Error> {
    // Looked up before the body is validated, as everywhere.
    let user = gateway.store.user_supervised(&caller.ctx, id).await?;
    let change: UpdateUser = body.read().await?;
    if !change.has_good_groups() {
        return Err(refused_groups(&change.groups.unwrap_or_default()));
    }
    if let Some(limits) = &change.limits {
        check_limits(limits, "limits")?;
    }
    let (store, wants_link) = (&gateway.store, change.reset_link == Some(true));
    // Refused before anything is changed.
    if wants_link && user.identity.is_some() {
        return Err(netra_store::Error::Conflict(netra_store::NO_PASSWORD_HERE).into());
    }
    let user = store.user_update(&caller.ctx, &user, change).await?;
    gateway.verifier.revoke(Revoked::User(id));
    if user.disabled {
        gateway.engine.end_runs_of(id).await;
        gateway.tool_servers.forget(id);
    }
    let reset_link = match wants_link {
        true => Some(reset_link(&gateway, &caller, &visitor, id).await?),
        false => None,
    };
    Ok(Answer(ChangedUser { user, reset_link }))
}

/// The parameters of the list of all runs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Runs {
    /// This user's only.
    user: Option<UserId>,
    /// Those that stand here only.
    status: Option<RunStatus>,
    /// Items of a page, 1 to 100; 20 when absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// Lists everybody's runs
///
/// Newest first, without input, result and metadata. For admins.
#[utoipa::path(get, path = "/api/admin/runs", tag = "admin", operation_id = "admin_run_list",
    params(Runs), responses((status = 200, description = "Runs", body = Page<AdminRun>)))]
pub(crate) async fn run_list(
    State(gateway): State<Gateway>,
    caller: Caller<Runs>,
    list: List,
) -> Result<Answer<Page<AdminRun>>, Error> {
    let Runs {
        user,
        status,
        limit,
        cursor,
    } = caller.query;
    let (filter, limit) = (RunFilter { user, status }, checked_limit(limit)?);
    let (store, from) = (&gateway.store, list.position(cursor.as_ref())?);
    let page = store.runs_of_all(&caller.ctx, filter, limit, from.as_deref());
    Ok(list.answer(page.await?))
}

/// Cancels anybody's run
///
/// Again while it ends: 202 too. After it has ended: 409 `run_ended`. For admins; audited in the
/// user's audit too.
#[utoipa::path(post, path = "/api/admin/runs/{id}/cancel", tag = "admin",
    operation_id = "admin_run_cancel", params(("id" = RunId, Path, description = "The run")),
    request_body = Option<Empty>,
    responses((status = 202, description = "The run, about to end", body = AdminRun)))]
pub(crate) async fn run_cancel(
    State(gateway): State<Gateway>,
    caller: Caller,
    Id(id): Id<RunId>,
    body: Payload,
) -> Result<(StatusCode, Answer<AdminRun>), Error> {
    let run = gateway.store.run_supervised(&caller.ctx, id).await?;
    let Empty {} = body.read_or_default().await?;
    gateway.engine.cancel_by_admin(&caller.ctx, &run).await?;
    let run = gateway.store.run_supervised(&caller.ctx, id).await?;
    Ok((StatusCode::ACCEPTED, Answer(run.into_inner())))
}

/// Lists the language models
///
/// By name: those that the configuration names, and `provider/*` for a provider that takes any
/// name; whether each can be used, as far as is known without a call, and its price. For admins.
#[utoipa::path(get, path = "/api/admin/models", tag = "admin",
    operation_id = "admin_model_list", params(Paging),
    responses((status = 200, description = "Models", body = Page<Model>)))]
pub(crate) async fn model_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<Model>>, Error> {
    let models = gateway.engine.models().list();
    by_name(models, (&caller.query, &list), |model| &model.name)
}

/// Lists the tool servers
///
/// By name: how each is reached, where it stands and why, its tools, and how many instances of it
/// run. For admins.
#[utoipa::path(get, path = "/api/admin/tool-servers", tag = "admin",
    operation_id = "admin_tool_server_list", params(Paging),
    responses((status = 200, description = "Tool servers", body = Page<ToolServer>)))]
pub(crate) async fn tool_server_list(
    State(gateway): State<Gateway>,
    caller: Caller<Paging>,
    list: List,
) -> Result<Answer<Page<ToolServer>>, Error> {
    let servers = gateway.tool_servers.list();
    by_name(servers, (&caller.query, &list), |server| &server.name)
}
