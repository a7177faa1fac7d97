//! The contract as OpenAPI 3.1, made from the handlers themselves.

mod errors;
mod examples;
mod objects;
#[cfg(test)]
mod tests;

use netra_protocol::ErrorCode;
use netra_protocol::error::{ErrorBody, ErrorDetail};
use netra_protocol::limits::LimitOverrides;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, PathItem, RefOr, Required};

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
        sessions::session_delete_all,
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
    components.schemas.values_mut().for_each(correct);
    if let Some(RefOr::T(Schema::Object(limits))) = components.schemas.get_mut("LimitOverrides") {
        // Not `int64`, which ends where a sign would begin.
        for limit in limits.properties.values_mut() {
            if let RefOr::T(Schema::Object(limit)) = limit
                && limit.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int64))
            {
                limit.format = None;
            }
        }
        for (name, least) in LimitOverrides::LEAST {
            if let Some(RefOr::T(Schema::Object(limit))) = limits.properties.get_mut(*name) {
                limit.minimum = Some((*least).into());
            }
        }
    }
    errors::describe(components);
    for (path, item) in &mut api.paths.paths {
        for operation in operations_of(item) {
            complete(path, operation);
        }
    }
    api
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.put,
        &mut item.delete,
    ];
    all.into_iter().flatten()
}

/// Adds what follows from the rules of the edge: who may ask, what makes it safe to repeat, which errors there can be.
fn complete(path: &str, operation: &mut Operation) {
    let open = operation.security.take().is_some();
    if !open {
        let one = |scheme| SecurityRequirement::new(scheme, Vec::<String>::new());
        operation.security = Some(vec![one(SCHEME), one(KEY_SCHEME)]);
    }
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if id == "account_logout" {
        // Who has only a refresh token may sign out too.
        let requirements = operation.security.get_or_insert_default();
        requirements.push(SecurityRequirement::default());
    }
    if CREATE.contains(&id) {
        let parameters = operation.parameters.get_or_insert_default();
        parameters.push(idempotency_key());
    }
    bodies(operation);
    errors::add(path, operation, open);
    examples::add(operation);
}

/// A body that may be absent is not one that may be null, and bytes are no list of numbers.
fn bodies(operation: &mut Operation) {
    if let Some(body) = &mut operation.request_body {
        for content in body.content.values_mut() {
            if let Some(RefOr::T(Schema::OneOf(or_null))) = &mut content.schema {
                content.schema = or_null.items.pop();
                body.required = Some(Required::False);
            }
        }
        body.content.iter_mut().for_each(as_bytes);
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            answer.content.iter_mut().for_each(as_bytes);
        }
    }
}

fn as_bytes((media_type, content): (&String, &mut Content)) {
    if matches!(
        media_type.as_str(),
        "application/octet-stream" | "application/x-tar"
    ) {
        let bytes = SchemaFormat::KnownFormat(KnownFormat::Binary);
        let bytes = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(bytes));
        content.schema = Some(bytes.build().into());
    }
}

/// What creates something, and can be repeated without creating it twice.
const CREATE: [&str; 9] = [
    "admin_invite_create",
    "admin_user_create",
    "file_create",
    "key_create",
    "run_create",
    "run_retry",
    "thread_create",
    "thread_fork",
    "thread_run_create",
];

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[ -~]{1,255}$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Made by the client, once for each thing to be created: with the same key and the same request nothing \
             is created again, for 24 hours. With another request it is refused.",
        ))
        .schema(Some(text.build()))
        .build()
}

/// A number of 32 bits without a sign has an upper bound, which its format does not say. A list is left out where it is
/// empty, and a field with a default is one that is always there.
fn correct(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let of_32_bits = Some(SchemaFormat::KnownFormat(KnownFormat::Int32));
            if object.format == of_32_bits && object.minimum.is_some() && object.maximum.is_none() {
                object.maximum = Some(u32::MAX.into());
            }
            object.properties.values_mut().for_each(correct);
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(correct),
        RefOr::T(Schema::OneOf(one)) => one.items.iter_mut().for_each(correct),
        RefOr::T(Schema::Array(list)) => list.default = None,
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}
