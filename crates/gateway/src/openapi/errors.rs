//! Which errors each operation can give: what follows from the rules of the edge, and what is its own.

use netra_protocol::ErrorCode;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Components, Content, Ref, RefOr, ResponseBuilder};

use super::examples;

/// What a body that brings nothing for too long is answered with. No code of the contract has it.
const STALLED: &str = "408";

/// Adds the errors that can come of an operation.
pub(super) fn add(path: &str, operation: &mut Operation, open: bool) {
    let has_body = operation.request_body.is_some();
    let mut codes = vec![
        ErrorCode::InvalidRequest,
        ErrorCode::OriginRefused,
        ErrorCode::RateLimited,
        ErrorCode::Internal,
        ErrorCode::StoreUnavailable,
    ];
    if !open || path.starts_with("/api/auth/") {
        codes.push(ErrorCode::Unauthenticated);
    }
    if path.contains('{') {
        codes.push(ErrorCode::NotFound);
    }
    if has_body {
        codes.extend([ErrorCode::TooLarge, ErrorCode::UnsupportedMediaType]);
        refer(operation, STALLED.to_owned());
    }
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if super::CREATE.contains(&id) {
        codes.push(ErrorCode::IdempotencyKeyReused);
    }
    codes.extend(own(id));
    for code in codes {
        refer(operation, code.status().to_string());
    }
}

/// What can come of this operation besides.
fn own(operation: &str) -> &'static [ErrorCode] {
    match operation {
        "run_create" => &[ErrorCode::NotFound, ErrorCode::AgentNotReady],
        "thread_run_create" | "run_retry" => &[ErrorCode::ThreadBusy, ErrorCode::AgentNotReady],
        "thread_delete" => &[ErrorCode::ThreadBusy],
        "run_cancel" | "admin_run_cancel" => &[ErrorCode::RunEnded],
        "admin_user_update"
        | "admin_user_create"
        | "admin_invite_create"
        | "me_delete"
        | "key_create"
        | "secret_put"
        | "tool_server_put"
        | "account_register"
        | "account_setup" => &[ErrorCode::Conflict],
        "approval_resolve" => &[ErrorCode::ApprovalResolved],
        "event_stream" | "run_event_stream" => &[ErrorCode::CursorExpired],
        _ => &[],
    }
}

fn component(status: &str) -> String {
    format!("error_{status}")
}

/// An operation that describes the status itself keeps its words.
fn refer(operation: &mut Operation, status: String) {
    let shared = Ref::from_response_name(component(&status));
    let responses = &mut operation.responses.responses;
    responses.entry(status).or_insert(RefOr::Ref(shared));
}

/// The error answers, one for each status.
pub(super) fn describe(components: &mut Components) {
    for code in ErrorCode::ALL.iter().filter(|code| code.status() != 0) {
        let status = code.status().to_string();
        let name = component(&status);
        components
            .responses
            .entry(name)
            .or_insert_with(|| RefOr::T(answer(&status, &codes_beside(*code), *code)));
    }
    let words = "`invalid_request`: the body brought nothing for 30 seconds";
    let stalled = answer(STALLED, words, ErrorCode::InvalidRequest);
    let name = component(STALLED);
    components.responses.insert(name, RefOr::T(stalled));
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

fn answer(status: &str, words: &str, code: ErrorCode) -> Response {
    let mut body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
    body.example = Some(examples::error(code));
    let header = |words: &str, kind| {
        let schema = ObjectBuilder::new().schema_type(kind);
        let mut header = Header::new(schema.build());
        header.description = Some(words.to_owned());
        header
    };
    let mut answer = ResponseBuilder::new()
        .description(words)
        .content("application/json", body)
        .header("X-Request-Id", header("As in the body.", Type::String));
    if matches!(status, "429" | "503") {
        let again = header("Seconds after which to try again.", Type::Integer);
        answer = answer.header("Retry-After", again);
    }
    answer.build()
}
