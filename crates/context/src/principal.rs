//! On whose behalf something happens.

use std::sync::Arc;

use netra_protocol::account::{Plan, Role};
use netra_protocol::id::{SessionId, UserId};
use netra_protocol::limits::Limits;

use crate::rights::Rights;

/// A user whose credentials were verified, as the database described them at that moment.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Who.
    pub user_id: UserId,
    /// From the database, never from the caller.
    pub role: Role,
    /// From the database, never from the caller.
    pub plan: Plan,
    /// The groups that admins have put the user into; from the database, never from the caller.
    pub groups: Arc<[String]>,
    /// What the credentials allow: the role's rights, cut to a key's scopes.
    pub rights: Rights,
    /// The limits in force.
    pub limits: Arc<Limits>,
    /// The sign-in that the credentials belong to, where there is one.
    pub session: Option<SessionId>,
}

/// A named built-in principal: the server acting for itself. It owns no user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackgroundKind {
    /// Looks credentials up, and writes what signing in and out changes.
    Authentication,
    /// Finds runs that a stopped server left behind.
    Recovery,
    /// Deletes what is past its time.
    Sweep,
    /// A person at the server's own command line.
    Console,
}

impl BackgroundKind {
    /// For logs and the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Recovery => "recovery",
            Self::Sweep => "sweep",
            Self::Console => "console",
        }
    }
}
