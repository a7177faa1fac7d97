//! The contract as OpenAPI 3.1, made from the handlers themselves.

use netra_protocol::ErrorCode;
use netra_protocol::error::{ErrorBody, ErrorDetail};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};

use crate::routes::{
    account, admin, agents, approvals, audit, docs, events, files, health, invites, isolation,
    keys, me, metrics, plans, runs, secrets, sessions, threads, tool_servers, upload, usage,
};
use crate::ws;

const SCHEME: &str = "bearer";
const KEY_SCHEME: &str = "api_key";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Netra",
        description = "Runs AI agents for many users at once. Errors have one body everywhere; \
            `Idempotency-Key` on every POST that creates makes it safe to repeat for 24 hours.",
    ),
    paths(
        account::setup,
        account::register,
        account::login,
        account::refresh,
        account::logout,
        account::reset,
        account::ws_ticket,
        account::me,
        sessions::session_list,
        sessions::session_delete,
        me::me_export,
        me::me_delete,
        keys::key_list,
        keys::key_create,
        keys::key_delete,
        secrets::secret_get,
        secrets::secret_put,
        secrets::secret_delete,
        tool_servers::tool_server_list,
        tool_servers::tool_server_get,
        tool_servers::tool_server_put,
        tool_servers::tool_server_delete,
        agents::agent_list,
        agents::agent_get,
        agents::tool_list,
        upload::file_create,
        files::file_list,
        files::file_get,
        files::file_delete,
        files::file_content,
        threads::thread_list,
        threads::thread_create,
        threads::thread_get,
        threads::thread_update,
        threads::thread_delete,
        threads::message_list,
        threads::thread_fork,
        runs::run_create,
        runs::thread_run_create,
        runs::run_list,
        runs::run_get,
        runs::run_wait,
        runs::run_cancel,
        runs::run_retry,
        approvals::approval_list,
        approvals::approval_resolve,
        events::event_stream,
        events::run_event_stream,
        ws::socket_open,
        usage::usage_get,
        audit::audit_list,
        admin::user_list,
        admin::user_create,
        admin::user_update,
        invites::invite_list,
        invites::invite_create,
        invites::invite_delete,
        plans::plans_get,
        plans::plans_set,
        plans::audit_list,
        plans::metrics_history,
        admin::run_list,
        isolation::isolation_get,
        admin::run_cancel,
        admin::model_list,
        admin::tool_server_list,
        metrics::metrics_get,
        health::health_live,
        health::health_ready,
        health::health_dependencies,
        docs::openapi_get,
        docs::docs_get,
    ),
    components(schemas(
        ErrorBody,
        ErrorDetail,
        ErrorCode,
        netra_protocol::frame::ClientFrame,
        netra_protocol::frame::ServerFrame,
        netra_protocol::event::EventKind,
    ))
)]
struct Contract;

/// The contract of this build.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut api = Contract::openapi();
    api.info.version = env!("CARGO_PKG_VERSION").into();
    api.info.license = None;
    api.info.contact = None;
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT or API key")
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(scheme));
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")));
    components.add_security_scheme(KEY_SCHEME, key);
    for (path, item) in &mut api.paths.paths {
        let all = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.put,
            &mut item.delete,
        ];
        for operation in all.into_iter().flatten() {
            complete(path, operation);
        }
    }
    api
}

/// Adds what follows from the rules of the edge: who may ask, and which errors there can be.
fn complete(path: &str, operation: &mut Operation) {
    let open = operation.security.take().is_some();
    if !open {
        let one = |scheme| SecurityRequirement::new(scheme, Vec::<String>::new());
        operation.security = Some(vec![one(SCHEME), one(KEY_SCHEME)]);
    }
    let signs_in = path.starts_with("/api/auth/");
    let has_body = operation.request_body.is_some();
    let mut add = |code: ErrorCode| error_response(operation, code);
    add(ErrorCode::InvalidRequest);
    add(ErrorCode::OriginRefused);
    add(ErrorCode::RateLimited);
    add(ErrorCode::Internal);
    add(ErrorCode::StoreUnavailable);
    if !open || signs_in {
        add(ErrorCode::Unauthenticated);
    }
    if path.contains('{') {
        add(ErrorCode::NotFound);
    }
    if has_body {
        add(ErrorCode::TooLarge);
        add(ErrorCode::UnsupportedMediaType);
    }
    let conflicts = match operation.operation_id.as_deref().unwrap_or_default() {
        "run_create" => &[
            ErrorCode::NotFound,
            ErrorCode::IdempotencyKeyReused,
            ErrorCode::AgentNotReady,
        ][..],
        "thread_run_create" | "run_retry" => &[ErrorCode::ThreadBusy, ErrorCode::AgentNotReady],
        "thread_create" | "thread_fork" | "file_create" | "key_create" => {
            &[ErrorCode::IdempotencyKeyReused]
        }
        "thread_delete" => &[ErrorCode::ThreadBusy],
        "run_cancel" | "admin_run_cancel" => &[ErrorCode::RunEnded],
        "admin_user_create" | "admin_invite_create" => {
            &[ErrorCode::Conflict, ErrorCode::IdempotencyKeyReused]
        }
        "admin_user_update" | "me_delete" => &[ErrorCode::Conflict],
        "approval_resolve" => &[ErrorCode::ApprovalResolved],
        "account_register" | "account_setup" => &[ErrorCode::Conflict],
        "event_stream" | "run_event_stream" => &[ErrorCode::CursorExpired],
        _ => &[],
    };
    conflicts
        .iter()
        .for_each(|code| error_response(operation, *code));
}

/// Every code that comes with the same status as this one.
fn codes_beside(code: ErrorCode) -> String {
    let beside = ErrorCode::ALL
        .iter()
        .filter(|other| other.status() == code.status());
    beside
        .map(|code| format!("`{code}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn error_response(operation: &mut Operation, code: ErrorCode) {
    let responses = &mut operation.responses.responses;
    responses
        .entry(code.status().to_string())
        .or_insert_with(|| {
            let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
            let described = ResponseBuilder::new()
                .description(codes_beside(code))
                .content("application/json", body);
            RefOr::T(described.build())
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_summary_an_id_and_errors() {
        let api = openapi();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in &api.paths.paths {
            for operation in [&item.get, &item.post, &item.patch, &item.delete]
                .into_iter()
                .flatten()
            {
                assert!(
                    operation
                        .summary
                        .as_ref()
                        .is_some_and(|text| !text.is_empty()),
                    "{path}"
                );
                assert!(
                    ids.insert(operation.operation_id.clone().unwrap()),
                    "{path}: id twice"
                );
                assert!(operation.responses.responses.contains_key("500"), "{path}");
                let signed_in = operation.security.is_some();
                let refuses = operation.responses.responses.contains_key("401");
                assert!(refuses || !signed_in, "{path}");
            }
        }
    }

    #[test]
    fn no_reference_leads_nowhere() {
        let json = serde_json::to_value(openapi()).unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let text = json.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(json["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
