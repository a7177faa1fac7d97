//! Which path goes to which function, and through which layers.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use netra_context::{Right, Rights};

use crate::error::Error;
use crate::routes::{
    account, admin, agents, approvals, audit, docs, events, files, health, invites, isolation,
    keys, me, metrics, plans, runs, secrets, sessions, threads, tool_servers, upload, usage,
};
use crate::state::{Gateway, Parts};
use crate::{layers, ui, ws};

/// Paths that answer without a signed-in user, or check credentials of their own.
fn open_routes() -> Vec<(&'static str, MethodRouter<Gateway>)> {
    vec![
        ("/api/auth/setup", post(account::setup)),
        ("/api/auth/register", post(account::register)),
        ("/api/auth/login", post(account::login)),
        ("/api/auth/refresh", post(account::refresh)),
        ("/api/auth/logout", post(account::logout)),
        ("/api/auth/reset", post(account::reset)),
        ("/api/metrics", get(metrics::metrics_get)),
        ("/api/openapi.json", get(docs::openapi_get)),
        ("/api/docs", get(docs::docs_get)),
        ("/health/live", get(health::health_live)),
        ("/health/ready", get(health::health_ready)),
        ("/ws", get(ws::socket_open)),
    ]
}

const READ: Rights = Rights::NONE.with(Right::Read);
/// The answers hold what was read, and an agent reads its conversation.
const RUN: Rights = READ.with(Right::Run);
const THREADS: Rights = Rights::NONE.with(Right::Run);
const FILES: Rights = Rights::NONE.with(Right::Files);
const ACCOUNT: Rights = Rights::NONE.with(Right::Account);
/// What is taken along holds what was read, and what the account has.
const EXPORT: Rights = ACCOUNT.with(Right::Read);
const APPROVE: Rights = Rights::NONE.with(Right::Approve);
const ADMIN: Rights = Rights::NONE.with(Right::Admin);

type Route = (Rights, &'static str, MethodRouter<Gateway>);

/// Operations for signed-in users only, each with the rights that it needs. The store asks for
/// them too, where it reads or changes something.
fn signed_in_routes() -> impl Iterator<Item = Route> {
    let own = account_routes().into_iter().chain(work_routes());
    own.chain(admin_routes())
}

/// Who the user is, and what the account has.
fn account_routes() -> Vec<Route> {
    vec![
        (READ, "/api/auth/me", get(account::me)),
        (READ, "/api/auth/ws-ticket", post(account::ws_ticket)),
        (ACCOUNT, "/api/auth/sessions", get(sessions::session_list)),
        (
            ACCOUNT,
            "/api/auth/sessions",
            delete(sessions::session_delete_all),
        ),
        (
            ACCOUNT,
            "/api/auth/sessions/{id}",
            delete(sessions::session_delete),
        ),
        (EXPORT, "/api/me/export", get(me::me_export)),
        (ACCOUNT, "/api/me", delete(me::me_delete)),
        (ACCOUNT, "/api/keys", get(keys::key_list)),
        (ACCOUNT, "/api/keys", post(keys::key_create)),
        (ACCOUNT, "/api/keys/{id}", delete(keys::key_delete)),
        (ACCOUNT, "/api/secrets/{name}", get(secrets::secret_get)),
        (ACCOUNT, "/api/secrets/{name}", put(secrets::secret_put)),
        (
            ACCOUNT,
            "/api/secrets/{name}",
            delete(secrets::secret_delete),
        ),
        (
            ACCOUNT,
            "/api/tool-servers",
            get(tool_servers::tool_server_list),
        ),
        (
            ACCOUNT,
            "/api/tool-servers/{name}",
            get(tool_servers::tool_server_get),
        ),
        (
            ACCOUNT,
            "/api/tool-servers/{name}",
            put(tool_servers::tool_server_put),
        ),
        (
            ACCOUNT,
            "/api/tool-servers/{name}",
            delete(tool_servers::tool_server_delete),
        ),
    ]
}

/// What the user's agents do, and with what.
fn work_routes() -> Vec<Route> {
    vec![
        (READ, "/api/agents", get(agents::agent_list)),
        (READ, "/api/agents/{name}", get(agents::agent_get)),
        (READ, "/api/tools", get(agents::tool_list)),
        (READ, "/api/files", get(files::file_list)),
        (FILES, "/api/files", post(upload::file_create)),
        (READ, "/api/files/{id}", get(files::file_get)),
        (FILES, "/api/files/{id}", delete(files::file_delete)),
        (READ, "/api/files/{id}/content", get(files::file_content)),
        (READ, "/api/threads", get(threads::thread_list)),
        (THREADS, "/api/threads", post(threads::thread_create)),
        (READ, "/api/threads/{id}", get(threads::thread_get)),
        (THREADS, "/api/threads/{id}", patch(threads::thread_update)),
        (THREADS, "/api/threads/{id}", delete(threads::thread_delete)),
        (
            READ,
            "/api/threads/{id}/messages",
            get(threads::message_list),
        ),
        (RUN, "/api/threads/{id}/fork", post(threads::thread_fork)),
        (RUN, "/api/threads/{id}/runs", post(runs::thread_run_create)),
        (READ, "/api/runs", get(runs::run_list)),
        (RUN, "/api/runs", post(runs::run_create)),
        (READ, "/api/runs/{id}", get(runs::run_get)),
        (READ, "/api/runs/{id}/wait", get(runs::run_wait)),
        (READ, "/api/runs/{id}/events", get(events::run_event_stream)),
        (RUN, "/api/runs/{id}/cancel", post(runs::run_cancel)),
        (RUN, "/api/runs/{id}/retry", post(runs::run_retry)),
        (READ, "/api/approvals", get(approvals::approval_list)),
        (
            APPROVE,
            "/api/approvals/{id}",
            post(approvals::approval_resolve),
        ),
        (READ, "/api/events", get(events::event_stream)),
        (READ, "/api/usage", get(usage::usage_get)),
        (READ, "/api/audit", get(audit::audit_list)),
    ]
}

/// What is for those who run the server.
fn admin_routes() -> Vec<Route> {
    vec![
        (ADMIN, "/api/admin/isolation", get(isolation::isolation_get)),
        (ADMIN, "/api/admin/users", get(admin::user_list)),
        (ADMIN, "/api/admin/users", post(admin::user_create)),
        (ADMIN, "/api/admin/users/{id}", patch(admin::user_update)),
        (ADMIN, "/api/admin/invites", get(invites::invite_list)),
        (ADMIN, "/api/admin/invites", post(invites::invite_create)),
        (
            ADMIN,
            "/api/admin/invites/{id}",
            delete(invites::invite_delete),
        ),
        (ADMIN, "/api/admin/plans", get(plans::plans_get)),
        (ADMIN, "/api/admin/plans", put(plans::plans_set)),
        (ADMIN, "/api/admin/audit", get(plans::audit_list)),
        (
            ADMIN,
            "/api/admin/metrics/history",
            get(plans::metrics_history),
        ),
        (ADMIN, "/api/admin/runs", get(admin::run_list)),
        (
            ADMIN,
            "/api/admin/runs/{id}/cancel",
            post(admin::run_cancel),
        ),
        (ADMIN, "/api/admin/models", get(admin::model_list)),
        (
            ADMIN,
            "/api/admin/tool-servers",
            get(admin::tool_server_list),
        ),
        (
            ADMIN,
            "/health/dependencies",
            get(health::health_dependencies),
        ),
    ]
}

fn open() -> Router<Gateway> {
    let add = |router: Router<Gateway>, (path, methods)| router.route(path, methods);
    open_routes().into_iter().fold(Router::new(), add)
}

fn signed_in() -> Router<Gateway> {
    let add = |router: Router<Gateway>, (needed, path, methods): Route| {
        let check = from_fn(move |request, next| layers::authorise(needed, request, next));
        router.route(path, methods.route_layer(check))
    };
    signed_in_routes().fold(Router::new(), add)
}

/// The whole edge over these parts.
pub fn router(parts: Parts) -> Router {
    let gateway = Gateway::new(parts);
    // ---- authentication starts here: nothing below this line answers without a user ----
    let signed_in =
        signed_in().route_layer(from_fn_with_state(gateway.clone(), layers::authenticate));
    // -------------------------------------------------------------------------------------
    let open = open().route_layer(from_fn_with_state(gateway.clone(), layers::count_strangers));
    // The page, and what is no path at all, are for whoever asks too.
    let page = Router::new()
        .fallback(ui::page_or_nothing)
        .layer(from_fn_with_state(gateway.clone(), layers::count_strangers))
        .with_state(gateway.clone());
    let routes = open
        .merge(signed_in)
        .method_not_allowed_fallback(async || Error::no_method())
        .fallback_service(page);
    layered(routes, &gateway).with_state(gateway)
}

/// The layers that every request passes, outermost last.
fn layered(routes: Router<Gateway>, gateway: &Gateway) -> Router<Gateway> {
    routes
        // Innermost, so that what the other layers refuse needs no task.
        .layer(from_fn_with_state(gateway.clone(), layers::to_the_end))
        // Bodies are bounded where they are read: 1 MiB of JSON, the user's limit for uploads.
        .layer(DefaultBodyLimit::disable())
        // Foreign pages and credentials in addresses are refused before anything is looked up.
        .layer(from_fn_with_state(gateway.clone(), layers::guard))
        // Compresses nothing and adds nothing: the answer is as the handler made it.
        .layer(map_response(ui::with_policy))
        // Outermost, so that every answer, a panic's too, has its id, its error body and its log.
        .layer(from_fn_with_state(gateway.clone(), layers::finish))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_path_is_described_and_every_description_has_a_path() {
        let routes: BTreeSet<String> = open_routes()
            .into_iter()
            .map(|(path, _)| path)
            .chain(signed_in_routes().map(|(_, path, _)| path))
            .map(str::to_owned)
            .collect();
        let described: BTreeSet<String> = crate::openapi().paths.paths.into_keys().collect();
        assert_eq!(routes, described);
    }
}
