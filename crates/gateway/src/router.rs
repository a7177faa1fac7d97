//! Which path goes to which function, and through which layers.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{MethodRouter, delete, get, post};

use crate::error::Error;
use crate::routes::{
    account, agents, approvals, docs, events, files, health, metrics, runs, sessions, threads,
    upload, usage,
};
use crate::state::{Gateway, Parts};
use crate::{layers, ui, ws};

type Routes = Vec<(&'static str, MethodRouter<Gateway>)>;

/// Paths that answer without a signed-in user, or check credentials of their own.
fn open_routes() -> Routes {
    vec![
        ("/api/auth/setup", post(account::setup)),
        ("/api/auth/register", post(account::register)),
        ("/api/auth/login", post(account::login)),
        ("/api/auth/refresh", post(account::refresh)),
        ("/api/auth/logout", post(account::logout)),
        ("/api/metrics", get(metrics::metrics_get)),
        ("/api/openapi.json", get(docs::openapi_get)),
        ("/api/docs", get(docs::docs_get)),
        ("/health/live", get(health::health_live)),
        ("/health/ready", get(health::health_ready)),
        ("/ws", get(ws::socket_open)),
    ]
}

/// Paths for signed-in users only.
fn signed_in_routes() -> Routes {
    vec![
        ("/api/auth/me", get(account::me)),
        ("/api/auth/ws-ticket", post(account::ws_ticket)),
        ("/api/auth/sessions", get(sessions::session_list)),
        ("/api/auth/sessions/{id}", delete(sessions::session_delete)),
        ("/api/agents", get(agents::agent_list)),
        ("/api/agents/{name}", get(agents::agent_get)),
        ("/api/tools", get(agents::tool_list)),
        (
            "/api/files",
            get(files::file_list).post(upload::file_create),
        ),
        (
            "/api/files/{id}",
            get(files::file_get).delete(files::file_delete),
        ),
        ("/api/files/{id}/content", get(files::file_content)),
        (
            "/api/threads",
            get(threads::thread_list).post(threads::thread_create),
        ),
        (
            "/api/threads/{id}",
            get(threads::thread_get)
                .patch(threads::thread_update)
                .delete(threads::thread_delete),
        ),
        ("/api/threads/{id}/messages", get(threads::message_list)),
        ("/api/threads/{id}/fork", post(threads::thread_fork)),
        ("/api/threads/{id}/runs", post(runs::thread_run_create)),
        ("/api/runs", get(runs::run_list).post(runs::run_create)),
        ("/api/runs/{id}", get(runs::run_get)),
        ("/api/runs/{id}/wait", get(runs::run_wait)),
        ("/api/runs/{id}/events", get(events::run_event_stream)),
        ("/api/runs/{id}/cancel", post(runs::run_cancel)),
        ("/api/runs/{id}/retry", post(runs::run_retry)),
        ("/api/approvals", get(approvals::approval_list)),
        ("/api/approvals/{id}", post(approvals::approval_resolve)),
        ("/api/events", get(events::event_stream)),
        ("/api/usage", get(usage::usage_get)),
        ("/health/dependencies", get(health::health_dependencies)),
    ]
}

fn collect(routes: Routes) -> Router<Gateway> {
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        })
}

/// The whole edge over these parts.
pub fn router(parts: Parts) -> Router {
    let gateway = Gateway::new(parts);
    // ---- authentication starts here: nothing below this line answers without a user ----
    let signed_in = collect(signed_in_routes())
        .route_layer(from_fn_with_state(gateway.clone(), layers::authenticate));
    // -------------------------------------------------------------------------------------
    let routes = collect(open_routes())
        .merge(signed_in)
        .method_not_allowed_fallback(async || Error::no_method())
        .fallback(ui::page_or_nothing);
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
            .chain(signed_in_routes())
            .map(|(path, _)| path.to_owned())
            .collect();
        let described: BTreeSet<String> = crate::openapi().paths.paths.into_keys().collect();
        assert_eq!(routes, described);
    }
}
