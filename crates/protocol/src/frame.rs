//! The frames of the WebSocket, both ways.

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::approval::ResolveApproval;
use crate::error::ErrorDetail;
use crate::id::{ApprovalId, ConnectionId, RunId, ThreadId, UserId};
use crate::run::StartRun;

/// The largest frame from a client, in bytes.
pub const MAX_INBOUND_BYTES: usize = 64 * 1024;
/// Between two pings of the server, in milliseconds.
pub const HEARTBEAT_INTERVAL_MS: u64 = 30_000;
/// The subprotocol of this contract.
pub const SUBPROTOCOL: &str = "netra.v1";

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum After {
    /// After this event; 0 for all.
    Seq(u64),
    /// After what is there now.
    #[default]
    #[serde(with = "now")]
    Now,
}

impl PartialSchema for After {
    fn schema() -> RefOr<Schema> {
        let seq = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .description(Some("After this event; 0 for all."));
        let now = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["now"]))
            .description(Some("After what is there now."));
        let either = OneOfBuilder::new().item(seq).item(now);
        either
            .description(Some("Where a subscription begins."))
            .into()
    }
}

impl ToSchema for After {}

mod now {
    //! The word `now`.
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("now")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match std::borrow::Cow::<'de, str>::deserialize(deserializer)?.as_ref() {
            "now" => Ok(()),
            _ => Err(serde::de::Error::custom("expected a number or \"now\"")),
        }
    }
}

fn yes() -> bool {
    true
}

/// Asks for events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Where to begin.
    #[serde(default)]
    pub after: After,
    /// The log that `after` belongs to; unchecked when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Only events of these threads; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<Vec<ThreadId>>,
    /// Whether `message_delta` is wanted.
    #[serde(default = "yes")]
    pub deltas: bool,
}

/// What a client sends, after `id` has been taken off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type")]
pub enum ClientFrame {
    /// Starts a run.
    #[serde(rename = "run.start")]
    RunStart(RunStart),
    /// Cancels a run.
    #[serde(rename = "run.cancel")]
    RunCancel(RunCancel),
    /// Answers an approval.
    #[serde(rename = "approval.respond")]
    ApprovalRespond(ApprovalRespond),
    /// Asks for events; replaces the subscription before it.
    #[serde(rename = "subscribe")]
    Subscribe(Subscribe),
    /// The client has this event and all before; for metrics only, not answered.
    #[serde(rename = "delivered")]
    Delivered(Delivered),
    /// Goes on with a new access token.
    #[serde(rename = "auth.refresh")]
    AuthRefresh(AuthRefresh),
    /// Asks for a `pong`.
    #[serde(rename = "ping")]
    Ping(Empty),
}

/// Fields of `run.start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunStart {
    /// The conversation; a new one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// As the header of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// As in REST.
    #[serde(flatten)]
    pub start: StartRun,
}

/// Fields of `run.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunCancel {
    /// The run.
    pub run_id: RunId,
}

/// Fields of `approval.respond`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRespond {
    /// The approval.
    pub approval_id: ApprovalId,
    /// As in REST.
    #[serde(flatten)]
    pub answer: ResolveApproval,
}

/// Fields of `delivered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivered {
    /// The client has this event and all before.
    pub seq: u64,
}

/// Fields of `auth.refresh`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthRefresh {
    /// The new access token, of the same user.
    pub token: String,
}

/// No fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// What the server sends besides events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The first frame.
    ConnectionReady {
        /// This socket.
        connection_id: ConnectionId,
        /// Whose it is.
        user_id: UserId,
        /// `netra.v1`.
        protocol: String,
        /// The server's version.
        server_version: String,
        /// Between two pings, in milliseconds.
        heartbeat_interval_ms: u64,
        /// Names the log.
        epoch: String,
        /// The last event's number.
        latest_seq: u64,
    },
    /// The frame with this id was carried out.
    Ack {
        /// The client's.
        id: serde_json::Value,
        /// What belongs to the answer, such as `run_id` and `thread_id`.
        #[serde(flatten)]
        fields: serde_json::Map<String, serde_json::Value>,
    },
    /// The frame with this id was refused; null for one that could not be read.
    Error {
        /// The client's.
        id: serde_json::Value,
        /// Why.
        error: ErrorDetail,
    },
    /// The answer to `ping`.
    Pong {
        /// The client's.
        id: serde_json::Value,
    },
    /// The cursor moves on without an event.
    Position {
        /// Everything up to here was sent or does not pass the filter.
        seq: u64,
    },
}
