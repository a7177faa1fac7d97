//! What admins see and change: accounts, and everybody's runs without their content.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};

use crate::account::{Plan, Role, User, is_group_name};
use crate::audit::AuditEntry;
use crate::error::ErrorCode;
use crate::id::{InviteId, RunId, ThreadId, UserId};
use crate::limits::LimitOverrides;
use crate::run::RunStatus;
use crate::time::Timestamp;
use crate::usage::RunUsage;

/// Changes an account. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateUser {
    /// A disabled user can do nothing: sessions and API keys end for good, sockets close, runs are
    /// cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What the user has booked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The groups that the user is in from now on, for policies: at most 32, each of 1 to 64 letters, digits, `.`,
    /// `_` or `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = groups)]
    pub groups: Option<Vec<String>>,
    /// The user's own limits from now on, in place of those of the plan; `{}` takes all away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitOverrides>,
    /// Makes a link by which the user can set a new password, once. Links of before are no longer good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_link: Option<bool>,
}

fn groups() -> Schema {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[A-Za-z0-9._-]{1,64}$"));
    let list = ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(name)
        .max_items(Some(MAX_GROUPS))
        .description(Some(
            "The groups that the user is in from now on, for policies: at most 32, each of 1 to 64 letters, \
             digits, `.`, `_` or `-`.",
        ));
    list.build().into()
}

/// Makes an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    #[schema(pattern = "^(?![uU][sS][rR]_)[A-Za-z0-9._@-]{1,64}$")]
    pub name: String,
    /// 12 to 128 characters, none of the common ones. Absent: the answer has a link by which the user sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 12, max_length = 128)]
    pub password: Option<String>,
    /// What the user may do; `user` when absent.
    #[serde(default = "CreateUser::role", skip_serializing_if = "is_user")]
    pub role: Role,
    /// What the user has booked; `free` when absent.
    #[serde(default = "CreateUser::plan", skip_serializing_if = "is_free")]
    pub plan: Plan,
}

impl CreateUser {
    fn role() -> Role {
        Role::User
    }

    fn plan() -> Plan {
        Plan::Free
    }
}

fn is_user(role: &Role) -> bool {
    *role == Role::User
}

fn is_free(plan: &Plan) -> bool {
    *plan == Plan::Free
}

/// An account as an admin has made or changed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangedUser {
    /// The account.
    #[serde(flatten)]
    pub user: User,
    /// Where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_link: Option<Link>,
}

/// A link that is good once. It is in this answer and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// What the link carries.
    pub token: String,
    /// For a person's browser.
    pub url: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Makes an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateInvite {
    /// What whoever takes it may do; `user` when absent.
    #[serde(default = "CreateUser::role", skip_serializing_if = "is_user")]
    pub role: Role,
    /// What they have booked; `free` when absent.
    #[serde(default = "CreateUser::plan", skip_serializing_if = "is_free")]
    pub plan: Plan,
    /// How long it is good, in milliseconds, at most 90 days; 7 days when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 7_776_000_000_u64)]
    pub expires_in_ms: Option<u64>,
}

impl Default for CreateInvite {
    fn default() -> Self {
        Self {
            role: Role::User,
            plan: Plan::Free,
            expires_in_ms: None,
        }
    }
}

/// An invitation that nobody has taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// To take it back.
    pub id: InviteId,
    /// What whoever takes it may do.
    pub role: Role,
    /// What they have booked.
    pub plan: Plan,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// In the answer to making it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
}

/// The limits of each plan, where they are not those of the configuration. A change holds from then on, without a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plans {
    /// Of `free`.
    pub free: LimitOverrides,
    /// Of `pro`.
    pub pro: LimitOverrides,
    /// Of `enterprise`.
    pub enterprise: LimitOverrides,
}

impl Plans {
    /// Each plan with its limits.
    pub fn each(&self) -> [(Plan, &LimitOverrides); 3] {
        [
            (Plan::Free, &self.free),
            (Plan::Pro, &self.pro),
            (Plan::Enterprise, &self.enterprise),
        ]
    }

    /// The limits of one, to be set.
    pub fn of_mut(&mut self, plan: Plan) -> &mut LimitOverrides {
        match plan {
            Plan::Free => &mut self.free,
            Plan::Pro => &mut self.pro,
            Plan::Enterprise => &mut self.enterprise,
        }
    }
}

/// An audit record of anybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminAuditEntry {
    /// In whose audit it stands. The account may be gone.
    pub user_id: UserId,
    /// The record.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// How the server's figures were, at most an hour back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsHistory {
    /// Between two points, in milliseconds.
    pub interval_ms: u64,
    /// What was measured at each point, oldest first. A figure that was not there yet is absent.
    pub points: Vec<MetricsPoint>,
}

/// The figures of one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsPoint {
    /// When.
    pub at: Timestamp,
    /// By the metric's name, over all of its labels together.
    pub values: std::collections::BTreeMap<String, f64>,
}

/// The most groups of one user.
const MAX_GROUPS: usize = 32;

impl UpdateUser {
    /// Whether the groups are such that there can be.
    pub fn has_good_groups(&self) -> bool {
        self.groups.as_ref().is_none_or(|groups| {
            groups.len() <= MAX_GROUPS && groups.iter().all(|name| is_group_name(name))
        })
    }
}

/// Somebody's run as admins see it: whose it is and how it goes, and nothing of what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdminRun {
    /// Never changes.
    pub id: RunId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// The agent that answers.
    pub agent: String,
    /// Where it stands.
    pub status: RunStatus,
    /// Rises only after a crash or a lost lease.
    pub attempt: u32,
    /// The place in its user's queue, from 1, while it is queued on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first engine began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Why it failed, without the words, which may tell of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// What it has used.
    pub usage: RunUsage,
}
