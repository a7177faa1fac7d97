//! What each operation and frame is tried with, and who is answered at all. A new one without a row
//! here fails the tests.

use anyhow::{Result, ensure};

use super::contract::{Frame, Operation};

/// Who is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody, without credentials.
    Anyone,
    /// Whoever is signed in.
    SignedIn,
    /// Admins, whose object it ever is.
    Admin,
}

/// One operation or frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) access: Access,
    /// What an API key needs for it, in words.
    pub(super) scopes: &'static str,
    /// A body that is good; empty for none.
    pub(super) body: &'static str,
    /// Parameters that make the answer come at once and hold all.
    pub(super) query: &'static str,
}

const fn row(name: &'static str, access: Access, body: &'static str) -> Row {
    Row {
        name,
        access,
        scopes: "",
        body,
        query: "",
    }
}

const fn asked(name: &'static str, scopes: &'static str, query: &'static str) -> Row {
    Row {
        query,
        ..own(name, scopes, "")
    }
}

const fn own(name: &'static str, scopes: &'static str, body: &'static str) -> Row {
    Row {
        scopes,
        ..row(name, Access::SignedIn, body)
    }
}

const fn admin(name: &'static str, scopes: &'static str, body: &'static str) -> Row {
    Row {
        scopes,
        ..row(name, Access::Admin, body)
    }
}

const START: &str = r#"{"agent": "echo", "input": "of a stranger"}"#;
const NEVER: &str = r#"{"token": "wrong", "name": "eve", "password": "correct horse"}"#;

/// In the order in which an owner can do them all.
pub(super) const OPERATIONS: &[Row] = &[
    row("account_setup", Access::Anyone, NEVER),
    row(
        "account_register",
        Access::Anyone,
        r#"{"name": "eve", "password": "correct horse"}"#,
    ),
    row(
        "account_login",
        Access::Anyone,
        r#"{"name": "eve", "password": "correct horse"}"#,
    ),
    row(
        "account_refresh",
        Access::Anyone,
        r#"{"refresh_token": "wrong"}"#,
    ),
    row(
        "account_reset",
        Access::Anyone,
        r#"{"token": "wrong", "password": "correct horse battery"}"#,
    ),
    row("openapi_get", Access::Anyone, ""),
    row("docs_get", Access::Anyone, ""),
    row("health_live", Access::Anyone, ""),
    row("health_ready", Access::Anyone, ""),
    admin("health_dependencies", "admin", ""),
    admin("metrics_get", "metrics", ""),
    own("account_me", "read", ""),
    own("account_ws_ticket", "read", ""),
    own("socket_open", "read", ""),
    asked("session_list", "account", "limit=100"),
    asked("agent_list", "read", "limit=100"),
    own("agent_get", "read", ""),
    asked("tool_list", "read", "limit=100"),
    asked("file_list", "read", "limit=100"),
    asked("file_create", "files", "name=strange.txt"),
    own("file_get", "read", ""),
    own("file_content", "read", ""),
    asked("thread_list", "read", "limit=100"),
    own("thread_create", "run", r#"{"title": "of a stranger"}"#),
    own("thread_get", "read", ""),
    own("thread_update", "run", r#"{"title": "mine now"}"#),
    asked("message_list", "read", "limit=100"),
    own("thread_fork", "read run", "{}"),
    asked("run_list", "read", "limit=100"),
    own("run_create", "read run", START),
    own("run_get", "read", ""),
    asked("run_wait", "read", "timeout_ms=0"),
    own("run_event_stream", "read", ""),
    asked("event_stream", "read", "after=0"),
    asked("approval_list", "read", "limit=100"),
    own("approval_resolve", "approve", r#"{"decision": "deny"}"#),
    asked("key_list", "account", "limit=100"),
    own(
        "key_create",
        "account",
        r#"{"name": "of a stranger", "scopes": ["account"]}"#,
    ),
    own("key_delete", "account", ""),
    // By names of one's own: another user's is not even asked for.
    own(
        "secret_put",
        "account",
        r#"{"value": "secret of a stranger"}"#,
    ),
    own("secret_get", "account", ""),
    own("secret_delete", "account", ""),
    asked("tool_server_list", "account", "limit=100"),
    // Nothing listens there, and it is there all the same.
    own(
        "tool_server_put",
        "account",
        r#"{"url": "http://127.0.0.1:9/of-a-stranger"}"#,
    ),
    own("tool_server_get", "account", ""),
    own("tool_server_delete", "account", ""),
    own("usage_get", "read", ""),
    own("me_export", "read account", ""),
    own("audit_list", "read", ""),
    Row {
        query: "limit=100",
        ..admin("admin_user_list", "admin", "")
    },
    admin("admin_user_update", "admin", r#"{"plan": "pro"}"#),
    admin(
        "admin_user_create",
        "admin",
        r#"{"name": "made-by-an-admin", "plan": "pro"}"#,
    ),
    admin("admin_invite_create", "admin", r#"{"plan": "pro"}"#),
    Row {
        query: "limit=100",
        ..admin("admin_invite_list", "admin", "")
    },
    admin("admin_invite_delete", "admin", ""),
    admin("admin_plans_get", "admin", ""),
    admin("admin_plans_set", "admin", "{}"),
    Row {
        query: "limit=100",
        ..admin("admin_audit_list", "admin", "")
    },
    admin("admin_metrics_history", "admin", ""),
    Row {
        query: "limit=100",
        ..admin("admin_run_list", "admin", "")
    },
    admin("admin_run_cancel", "admin", ""),
    admin("admin_isolation_get", "admin", ""),
    admin("admin_model_list", "admin", ""),
    admin("admin_tool_server_list", "admin", ""),
    own("run_retry", "read run", ""),
    own("run_cancel", "read run", ""),
    own("thread_run_create", "read run", START),
    own("file_delete", "files", ""),
    own("thread_delete", "run", ""),
    own("session_delete", "account", ""),
    own("session_delete_all", "account", ""),
    own("account_logout", "", "{}"),
    // Nothing can be done after it.
    own(
        "me_delete",
        "account",
        r#"{"password": "correct horse battery"}"#,
    ),
];

pub(super) const FRAMES: &[Row] = &[
    own("run.start", "run", START),
    own("run.cancel", "run", "{}"),
    own("approval.respond", "approve", r#"{"decision": "deny"}"#),
    own("subscribe", "read", r#"{"after": 0}"#),
    own("delivered", "", r#"{"seq": 0}"#),
    own("auth.refresh", "", r#"{"token": "wrong"}"#),
    own("ping", "", "{}"),
];

/// The row of this name; both ways round, so that none is left over.
pub(super) fn covered(rows: &[Row], names: &[&str], what: &str) -> Result<()> {
    for name in names {
        ensure!(
            rows.iter().any(|row| row.name == *name),
            "no stranger tries the {what} `{name}`: give it a row in `security/table.rs`"
        );
    }
    for row in rows {
        ensure!(
            names.contains(&row.name),
            "there is no {what} `{}` any more",
            row.name
        );
    }
    Ok(())
}

/// The operations with their rows, in the rows' order.
pub(super) fn operations(all: &[Operation]) -> Result<Vec<(Row, &Operation)>> {
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    covered(OPERATIONS, &names, "operation")?;
    let find = |row: &Row| all.iter().find(|one| one.name == row.name);
    Ok(OPERATIONS
        .iter()
        .filter_map(|row| Some((*row, find(row)?)))
        .collect())
}

/// The frames with their rows.
pub(super) fn frames(all: &[Frame]) -> Result<Vec<(Row, &Frame)>> {
    let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    covered(FRAMES, &names, "frame")?;
    let find = |row: &Row| all.iter().find(|one| one.name == row.name);
    Ok(FRAMES
        .iter()
        .filter_map(|row| Some((*row, find(row)?)))
        .collect())
}

#[test]
fn an_operation_without_a_row_is_named() {
    let error = covered(OPERATIONS, &["brand_new"], "operation").unwrap_err();
    assert!(error.to_string().contains("`brand_new`"), "{error}");
    let missing = covered(FRAMES, &[], "frame").unwrap_err();
    assert!(missing.to_string().contains("run.start"), "{missing}");
}
