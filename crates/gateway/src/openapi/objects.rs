//! The objects that the document's examples show: one small world, in the contract's own types.

use std::collections::BTreeMap;

use netra_protocol::account::{Key, Plan, Role, Session, Ticket, Tokens, User};
use netra_protocol::admin::AdminAuditEntry;
use netra_protocol::agent::{Agent, AgentKind};
use netra_protocol::approval::{Approval, ApprovalState};
use netra_protocol::audit::AuditEntry;
use netra_protocol::event::{Event, EventKind, WireEvent};
use netra_protocol::file::File;
use netra_protocol::id::{
    ApprovalId, AuditId, EventId, FileId, KeyId, MessageId, RequestId, RunId, SessionId, ThreadId,
    ToolCallId, UserId,
};
use netra_protocol::limits::Limits;
use netra_protocol::message::{Content, Message, MessageRole};
use netra_protocol::run::{Run, RunStatus};
use netra_protocol::secret::SecretInfo;
use netra_protocol::thread::Thread;
use netra_protocol::tool::{
    OwnToolServer, Risk, SecretUse, Tool, ToolServer, ToolServerScope, ToolServerState,
    ToolServerTransport,
};
use netra_protocol::usage::{DayUsage, RunUsage, SlotUsage, ToolUsage, Usage};
use netra_protocol::{AsOf, Page, Timestamp};
use serde_json::{Map, Value, json};

/// 22 November 2026, 18:00 UTC, in milliseconds.
const NOON: u64 = 1_795_370_400_000;
/// What stands for the random part of every id.
const RANDOM: u128 = 0x5e_ed0f_a11e_7a3b_1ed5;

/// An id that was made so many milliseconds later.
macro_rules! id {
    ($kind:ident, $later:expr) => {
        $kind::from_parts(NOON + $later, RANDOM)
    };
}

mod admin;

pub(super) use admin::{
    admin_run, changed_user, history, invite, isolation, model, new_invite, plans,
};

pub(super) fn at(later_ms: u64) -> Timestamp {
    let micros = i64::try_from((NOON + later_ms) * 1_000);
    Timestamp::from_micros(micros.unwrap_or_default())
}

pub(super) fn thread_id() -> ThreadId {
    id!(ThreadId, 10)
}

pub(super) fn message_id() -> MessageId {
    id!(MessageId, 20)
}

pub(super) fn file_id() -> FileId {
    id!(FileId, 5)
}

pub(super) fn request_id() -> RequestId {
    id!(RequestId, 20)
}

/// One page, the last one.
pub(super) fn page<T>(items: Vec<T>) -> Page<T> {
    Page {
        items,
        next_cursor: None,
        as_of: None,
    }
}

fn metadata() -> Map<String, Value> {
    Map::from_iter([("ticket".to_owned(), json!("A-17"))])
}

fn as_of(seq: u64) -> Option<AsOf> {
    let epoch = "9f86d081884c7d65".into();
    Some(AsOf { epoch, seq })
}

pub(super) fn user() -> User {
    User {
        id: id!(UserId, 0),
        name: "anna".into(),
        role: Role::User,
        plan: Plan::Pro,
        groups: Vec::new(),
        disabled: false,
        created_at: at(0),
        limits: Limits::default(),
        identity: None,
    }
}

pub(super) fn tokens() -> Tokens {
    Tokens {
        access_token: "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c3JfMDFr4oCmIn0.c2lnbmF0dXJl".into(),
        refresh_token: "Vb1c2Xw0n6q5aGk3t8mZ7yR4uE9oSdLfHjPzQvCxBnM".into(),
        expires_in_ms: 900_000,
        user: user(),
    }
}

pub(super) fn ticket() -> Ticket {
    Ticket {
        ticket: "q5aGk3t8mZ7yR4uE9oSdLfHjPzQvCxBnMVb1c2Xw0n6".into(),
        expires_in_ms: 30_000,
    }
}

pub(super) fn session() -> Session {
    Session {
        id: id!(SessionId, 1),
        created_at: at(1),
        last_used_at: at(900_000),
        expires_at: at(30 * 86_400_000),
        current: true,
    }
}

/// With its secret, as the answer to making it.
pub(super) fn new_key() -> Key {
    Key {
        id: id!(KeyId, 2),
        name: "nightly report".into(),
        scopes: vec!["read".into(), "run".into()],
        created_at: at(2),
        expires_at: Some(at(90 * 86_400_000)),
        last_used_at: None,
        secret: Some("ntr_k3t8mZ7yR4uE9oSdLfHjPzQvCxBnMVb1c2Xw0n6q5aG".into()),
    }
}

pub(super) fn key() -> Key {
    Key {
        last_used_at: Some(at(60_000)),
        secret: None,
        ..new_key()
    }
}

pub(super) fn secret() -> SecretInfo {
    SecretInfo {
        name: "tracker".into(),
        hosts: vec!["api.tracker.example".into()],
        created_at: at(3),
        updated_at: at(3),
    }
}

pub(super) fn headers() -> BTreeMap<String, SecretUse> {
    let used = SecretUse {
        secret: "tracker".into(),
        prefix: "Bearer ".into(),
    };
    BTreeMap::from([("Authorization".into(), used)])
}

pub(super) fn own_tool_server() -> OwnToolServer {
    OwnToolServer {
        name: "tracker".into(),
        url: "https://api.tracker.example/mcp".into(),
        headers: headers(),
        state: ToolServerState::Ready,
        problem: None,
        title: Some("Tracker 2.1".into()),
        protocol: Some("2026-07-28".into()),
        tools: vec!["my_tracker__find".into()],
        left_out: Vec::new(),
        created_at: at(4),
        updated_at: at(4),
    }
}

pub(super) fn tool_server() -> ToolServer {
    ToolServer {
        name: "git".into(),
        transport: ToolServerTransport::Stdio,
        scope: ToolServerScope::User,
        state: ToolServerState::Ready,
        problem: None,
        title: Some("mcp-git 1.2".into()),
        protocol: Some("2025-11-25".into()),
        tools: vec!["git__log".into()],
        left_out: Vec::new(),
        instances: 1,
        crashes: 0,
    }
}

pub(super) fn agent() -> Agent {
    Agent {
        name: "echo".into(),
        description: "Gives back what it was given.".into(),
        kind: AgentKind::Native,
        input_schema: json!({"type": "object", "properties": {"text": {"type": "string"}},
            "required": ["text"], "additionalProperties": false}),
        output_schema: None,
        tools: Vec::new(),
        ready: true,
        problem: None,
    }
}

pub(super) fn tool() -> Tool {
    Tool {
        name: "http_fetch".into(),
        description: "Fetches a page of the public web.".into(),
        input_schema: json!({"type": "object", "properties": {"url": {"type": "string"}},
            "required": ["url"]}),
        permission: "network".into(),
        risk: Risk::Medium,
        allowed: true,
        reason: None,
        needs_approval: false,
        idempotent: true,
    }
}

pub(super) fn file() -> File {
    File {
        id: file_id(),
        name: "log.csv".into(),
        media_type: "text/csv".into(),
        bytes: 48,
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        run_id: None,
        created_at: at(5),
    }
}

pub(super) fn thread() -> Thread {
    Thread {
        id: thread_id(),
        title: "Which model is cheapest?".into(),
        metadata: metadata(),
        created_at: at(10),
        updated_at: at(20),
        active_run_id: Some(run().id),
        as_of: None,
    }
}

pub(super) fn read_thread() -> Thread {
    Thread {
        as_of: as_of(41),
        ..thread()
    }
}

pub(super) fn message() -> Message {
    Message {
        id: message_id(),
        thread_id: thread_id(),
        run_id: Some(run().id),
        role: MessageRole::User,
        agent: None,
        content: vec![Content::Text {
            text: "Which model is cheapest?".into(),
        }],
        complete: true,
        created_at: at(20),
    }
}

pub(super) fn messages() -> Page<Message> {
    Page {
        as_of: as_of(41),
        ..page(vec![message()])
    }
}

/// As it is accepted.
pub(super) fn run() -> Run {
    Run {
        id: id!(RunId, 20),
        run_id: None,
        thread_id: thread_id(),
        agent: "echo".into(),
        status: RunStatus::Running,
        attempt: 1,
        queue_position: None,
        created_at: at(20),
        started_at: Some(at(22)),
        ended_at: None,
        deadline: Some(at(300_020)),
        result: None,
        error: None,
        usage: RunUsage::default(),
        metadata: metadata(),
        as_of: None,
    }
}

pub(super) fn started_run() -> Run {
    Run {
        run_id: Some(run().id),
        ..run()
    }
}

fn usage() -> RunUsage {
    RunUsage {
        peak_memory_bytes: Some(98_304),
        duration_ms: 31,
        ..RunUsage::default()
    }
}

pub(super) fn ended_run() -> Run {
    Run {
        status: RunStatus::Completed,
        ended_at: Some(at(51)),
        result: Some(json!({"text": "Which model is cheapest?"})),
        usage: usage(),
        as_of: as_of(44),
        ..run()
    }
}

pub(super) fn event() -> WireEvent {
    WireEvent {
        prev: 43,
        seq: 44,
        event: Event {
            event_id: id!(EventId, 51),
            ts: at(51),
            thread_id: thread_id(),
            run_id: run().id,
            agent: None,
            step: None,
            kind: EventKind::RunCompleted {
                result: json!({"text": "Which model is cheapest?"}),
                result_truncated: false,
                usage: usage(),
                duration_ms: 31,
            },
        },
    }
}

pub(super) fn approval() -> Approval {
    Approval {
        id: id!(ApprovalId, 30),
        run_id: run().id,
        tool_call_id: id!(ToolCallId, 30),
        tool_name: "my_tracker__find".into(),
        arguments: json!({"text": "A-17"}),
        reason: "a person is asked before each call of this tool".into(),
        state: ApprovalState::Pending,
        expires_at: at(86_400_030),
    }
}

pub(super) fn approved() -> Approval {
    Approval {
        state: ApprovalState::Approved,
        ..approval()
    }
}

pub(super) fn figures() -> Usage {
    Usage {
        days: vec![DayUsage {
            day: "2026-11-22".into(),
            runs: 3,
            input_tokens: 5_120,
            output_tokens: 880,
            cost_usd: Some(0.0213),
            tool_calls: 2,
            model_calls: 4,
        }],
        slots: SlotUsage {
            running: 1,
            queued: 0,
            allowed: 5,
        },
        tools: vec![ToolUsage {
            tool: "http_fetch".into(),
            calls: 2,
            failed: 1,
            denied: 0,
            duration_ms: 824,
            result_bytes: 5_310,
        }],
    }
}

pub(super) fn audit_entry() -> AuditEntry {
    AuditEntry {
        id: id!(AuditId, 30),
        seq: Some(12),
        at: at(30),
        actor: user().id.to_string(),
        action: "tool.call".into(),
        object: "http_fetch".into(),
        outcome: "completed".into(),
        details: json!({"duration_ms": 412}),
        request_id: request_id(),
        hash: Some("2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae".into()),
    }
}

pub(super) fn admin_audit_entry() -> AdminAuditEntry {
    AdminAuditEntry {
        user_id: user().id,
        entry: audit_entry(),
    }
}
