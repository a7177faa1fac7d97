//! An example of what each operation takes and gives, made of the contract's own types.

use std::fmt::Debug;

use netra_protocol::account::{
    CreateKey, Leave, Login, Plan, Refresh, Register, Reset, Role, Setup,
};
use netra_protocol::admin::{CreateInvite, CreateUser, UpdateUser};
use netra_protocol::approval::{Decision, ResolveApproval};
use netra_protocol::error::{ErrorBody, ErrorDetail};
use netra_protocol::frame::Empty;
use netra_protocol::run::StartRun;
use netra_protocol::secret::PutSecret;
use netra_protocol::thread::{CreateThread, ForkThread, UpdateThread};
use netra_protocol::tool::PutToolServer;
use netra_protocol::{ErrorCode, limits::LimitOverrides};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};

use super::objects as one;

const NAME: &str = "anna";
const PASSWORD: &str = "correct horse battery";
const TOKEN: &str = "mZ7yR4uE9oSdLfHjPzQvCxBnMVb1c2Xw0n6q5aGk3t8";
/// What a cursor looks like.
const CURSOR: &str = "MDE5MzViN2EyYzZlNWVlZDBmYTExZTdhM2IxZWQ1MDCQtzy6HCx2UF91yyVxwo2F";

/// Types of the contract become JSON always; a test reads every example.
fn value(of: impl Serialize + Debug) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

fn start() -> StartRun {
    StartRun {
        agent: "echo".into(),
        input: json!("Which model is cheapest?"),
        files: vec![one::file_id()],
        metadata: Some(Map::from_iter([("ticket".to_owned(), json!("A-17"))])),
        timeout_ms: Some(120_000),
        on_limit: Default::default(),
        on_busy: Default::default(),
    }
}

/// The body that the operation takes.
fn request(operation: &str) -> Option<Value> {
    let (name, password, token) = (NAME.to_owned(), PASSWORD.to_owned(), TOKEN.to_owned());
    Some(match operation {
        "account_setup" => value(Setup {
            token,
            name,
            password,
        }),
        "account_register" => value(Register {
            name,
            password,
            invite: Some(token),
        }),
        "account_login" => value(Login { name, password }),
        "account_refresh" | "account_logout" => value(Refresh {
            refresh_token: Some(one::tokens().refresh_token),
        }),
        "account_reset" => value(Reset { token, password }),
        "me_delete" => value(Leave {
            password: Some(password),
        }),
        "key_create" => value(CreateKey {
            name: one::key().name,
            scopes: one::key().scopes,
            expires_at: one::key().expires_at,
        }),
        "secret_put" => value(PutSecret {
            value: "k-7f3a9c21d4".into(),
            hosts: one::secret().hosts,
        }),
        "tool_server_put" => value(PutToolServer {
            url: one::own_tool_server().url,
            headers: one::headers(),
        }),
        "file_create" => json!("ts,model,input_tokens,output_tokens\n"),
        "thread_create" => value(CreateThread {
            title: Some(one::thread().title),
            metadata: Some(one::thread().metadata),
        }),
        "thread_update" => value(UpdateThread {
            title: Some("Prices".into()),
            metadata: None,
        }),
        "thread_fork" => value(ForkThread {
            after_message_id: Some(one::message_id()),
        }),
        "run_create" | "thread_run_create" => value(start()),
        "account_ws_ticket" | "run_cancel" | "run_retry" | "admin_run_cancel" => value(Empty {}),
        "approval_resolve" => value(ResolveApproval {
            decision: Decision::Approve,
            note: Some("looks right".into()),
            arguments: None,
        }),
        _ => return admin_request(operation),
    })
}

fn admin_request(operation: &str) -> Option<Value> {
    Some(match operation {
        "admin_user_create" => value(CreateUser {
            name: NAME.into(),
            password: None,
            role: Role::User,
            plan: Plan::Pro,
        }),
        "admin_user_update" => value(UpdateUser {
            plan: Some(Plan::Pro),
            groups: Some(vec!["research".into()]),
            limits: Some(LimitOverrides {
                concurrent_runs: Some(10),
                ..LimitOverrides::default()
            }),
            reset_link: Some(true),
            ..UpdateUser::default()
        }),
        "admin_invite_create" => value(CreateInvite {
            expires_in_ms: Some(86_400_000),
            ..CreateInvite::default()
        }),
        "admin_plans_set" => value(one::plans()),
        _ => return None,
    })
}

/// What it gives with this status, where that has a body.
fn response(operation: &str, status: &str) -> Option<Value> {
    Some(match operation {
        "account_setup" | "account_register" | "account_login" | "account_refresh" => {
            value(one::tokens())
        }
        "account_me" => value(one::user()),
        "account_ws_ticket" => value(one::ticket()),
        "session_list" => value(one::page(vec![one::session()])),
        "key_create" => value(one::new_key()),
        "key_list" => value(one::page(vec![one::key()])),
        "secret_get" | "secret_put" => value(one::secret()),
        "tool_server_list" => value(one::page(vec![one::own_tool_server()])),
        "tool_server_get" | "tool_server_put" => value(one::own_tool_server()),
        "agent_list" => value(one::page(vec![one::agent()])),
        "agent_get" => value(one::agent()),
        "tool_list" => value(one::page(vec![one::tool()])),
        "file_list" => value(one::page(vec![one::file()])),
        "file_create" | "file_get" => value(one::file()),
        "file_content" => json!("ts,model,input_tokens,output_tokens\n"),
        "thread_list" => value(one::page(vec![one::thread()])),
        "thread_create" | "thread_update" | "thread_fork" => value(one::thread()),
        "thread_get" => value(one::read_thread()),
        "message_list" => value(one::messages()),
        "run_create" | "thread_run_create" | "run_retry" => value(one::started_run()),
        "run_wait" if status == "202" => value(one::run()),
        "run_get" | "run_wait" => value(one::ended_run()),
        "run_list" => value(one::page(vec![one::run()])),
        "run_cancel" => value(one::run()),
        "event_stream" | "run_event_stream" => value(one::event()),
        "approval_list" => value(one::page(vec![one::approval()])),
        "approval_resolve" => value(one::approved()),
        "usage_get" => value(one::figures()),
        "audit_list" => value(one::page(vec![one::audit_entry()])),
        _ => return other_response(operation, status),
    })
}

/// Of admins, and of those who look after the server.
fn other_response(operation: &str, status: &str) -> Option<Value> {
    Some(match operation {
        "admin_user_list" => value(one::page(vec![one::user()])),
        "admin_user_create" | "admin_user_update" => value(one::changed_user()),
        "admin_invite_list" => value(one::page(vec![one::invite()])),
        "admin_invite_create" => value(one::new_invite()),
        "admin_plans_get" | "admin_plans_set" => value(one::plans()),
        "admin_audit_list" => value(one::page(vec![one::admin_audit_entry()])),
        "admin_metrics_history" => value(one::history()),
        "admin_run_list" => value(one::page(vec![one::admin_run()])),
        "admin_run_cancel" => value(one::admin_run()),
        "admin_isolation_get" => value(one::isolation()),
        "admin_model_list" => value(one::page(vec![one::model()])),
        "admin_tool_server_list" => value(one::page(vec![one::tool_server()])),
        "me_export" => json!("(a tar archive)"),
        "metrics_get" => json!("netra_runs_active 3\n"),
        "health_live" => json!({"status": "live"}),
        "health_ready" => json!({"status": "ready"}),
        "health_dependencies" => {
            let (word, problem) = match status {
                "503" => ("failed", Some("the disk is full")),
                _ => ("ok", None),
            };
            let mut store = json!({"name": "store", "status": word, "duration_ms": 2});
            if let Some(problem) = problem {
                store["problem"] = problem.into();
            }
            json!({"status": word, "dependencies": [store]})
        }
        "openapi_get" => json!({"openapi": "3.1.0", "info": {"title": "Netra"}, "paths": {}}),
        "docs_get" => json!("<!doctype html><title>Netra API</title>"),
        _ => return None,
    })
}

/// The body of an error with this code.
pub(super) fn error(code: ErrorCode) -> Value {
    let details = match code {
        ErrorCode::InvalidRequest => Some(json!({"field": "title", "rule": "maxLength 200"})),
        ErrorCode::TooLarge => Some(json!({"limit_bytes": 1_048_576})),
        ErrorCode::CursorExpired => {
            Some(json!({"epoch": "9f86d081884c7d65", "oldest_seq": 12, "latest_seq": 44}))
        }
        _ => None,
    };
    value(ErrorBody {
        error: ErrorDetail {
            code,
            message: "What happened and what to do, in a sentence.".into(),
            request_id: one::request_id(),
            details,
            docs: format!("/api/docs#{code}"),
        },
    })
}

/// What a parameter may look like.
fn parameter(operation: &str, name: &str) -> Option<Value> {
    Some(match (operation, name) {
        ("secret_get" | "secret_put" | "secret_delete", "name") => json!(one::secret().name),
        ("file_create", "name") => json!(one::file().name),
        ("agent_get", "name") => json!(one::agent().name),
        (_, "name") => json!(one::own_tool_server().name),
        (_, "limit") => json!(20),
        (_, "cursor") => json!(CURSOR),
        (_, "q") => json!("cheapest"),
        (_, "timeout_ms") => json!(30_000),
        (_, "after" | "Last-Event-ID") => json!("9f86d081884c7d65:41"),
        (_, "deltas") => json!(false),
        (_, "threads") => json!(one::thread_id()),
        (_, "ticket") => json!(one::ticket().ticket),
        (_, "action") => json!("user.update"),
        (_, "status") => json!("running"),
        (_, "Idempotency-Key") => json!("order-17-once"),
        _ => return None,
    })
}

/// Puts the examples of an operation in their places.
pub(super) fn add(operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    for parameter_of in operation.parameters.iter_mut().flatten() {
        let is_id = parameter_of.parameter_in == ParameterIn::Path && parameter_of.name == "id";
        if !is_id && parameter_of.name != "user" {
            let example = parameter(&id, &parameter_of.name);
            let shown = ParameterBuilder::from(parameter_of.clone()).example(example);
            *parameter_of = shown.build();
        }
    }
    if let Some(body) = &mut operation.request_body {
        for (media_type, content) in &mut body.content {
            content.example = match media_type.as_str() {
                "multipart/form-data" => request(&id).map(|file| json!({ "file": file })),
                _ => request(&id),
            };
        }
    }
    for (status, answer) in &mut operation.responses.responses {
        if let RefOr::T(answer) = answer {
            for content in answer.content.values_mut() {
                content.example = response(&id, status);
            }
        }
    }
}
