//! Accounts, sessions and keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

use crate::id::{KeyId, SessionId, UserId};
use crate::limits::Limits;
use crate::time::Timestamp;

/// What a user may do on the server.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs agents on own data.
    User,
    /// Also sees what agents' authors need.
    Developer,
    /// Also runs the server.
    Admin,
}

/// What a user has booked; limits follow from it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Without payment.
    Free,
    /// For teams.
    Pro,
    /// For companies.
    Enterprise,
}

macro_rules! words {
    ($name:ident: $($variant:ident = $text:literal),*) => {
        impl $name {
            /// All of them, as they are written on the wire.
            pub const WORDS: &'static [&'static str] = &[$($text),*];

            /// As it is written on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(format!("expected one of: {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words!(Role: User = "user", Developer = "developer", Admin = "admin");
words!(Plan: Free = "free", Pro = "pro", Enterprise = "enterprise");

/// A user, as the user and admins see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Never changes.
    pub id: UserId,
    /// The name to sign in with.
    pub name: String,
    /// From the database, never from the caller.
    pub role: Role,
    /// From the database, never from the caller.
    pub plan: Plan,
    /// The groups that admins have put the user into, for policies; absent where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// A disabled user can do nothing.
    pub disabled: bool,
    /// When the account was made.
    pub created_at: Timestamp,
    /// The limits in force.
    pub limits: Limits,
    /// Who the user is elsewhere; absent for who has an account here only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// Who a user is elsewhere: whoever is known there is one user here, whatever names they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Identity {
    /// Who knows them: the id of the user whose service token named them, or the address of an issuer of tokens.
    pub issuer: String,
    /// Their id there.
    pub subject: String,
}

/// Whether an account can have this name: 1 to 64 letters, digits, `.`, `_`, `-` or `@`. ASCII alone, so that no two
/// names look alike; and none that looks like an id, which is what is left of the name of a user who leaves.
pub fn is_user_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    let is_like_id = name
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("usr_"));
    (1..=64).contains(&name.len()) && name.bytes().all(good) && !is_like_id
}

/// Whether a group can have this name: 1 to 64 letters, digits, `.`, `_` or `-`.
pub fn is_group_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(good)
}

/// Makes the first admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// From the set-up link that the server printed.
    pub token: String,
    /// The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    #[schema(pattern = "^(?![uU][sS][rR]_)[A-Za-z0-9._@-]{1,64}$")]
    pub name: String,
    /// 12 to 128 characters.
    #[schema(min_length = 12, max_length = 128)]
    pub password: String,
}

/// Makes an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    #[schema(pattern = "^(?![uU][sS][rR]_)[A-Za-z0-9._@-]{1,64}$")]
    pub name: String,
    /// 12 to 128 characters.
    #[schema(min_length = 12, max_length = 128)]
    pub password: String,
    /// Where registration is by invitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// Signs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The account's name.
    pub name: String,
    /// Its password.
    pub password: String,
}

/// Asks for a new access token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Absent where the browser's cookie carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
}

/// Sets a new password by a one-time token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// From the link that an admin made.
    pub token: String,
    /// 12 to 128 characters.
    #[schema(min_length = 12, max_length = 128)]
    pub password: String,
}

/// Deletes the account of who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// Needed where the account has one and the sign-in is older than ten minutes, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// The answer to signing in and to refreshing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tokens {
    /// A JWT, to be sent as `Authorization: Bearer …`.
    pub access_token: String,
    /// Opaque; each can be used once.
    pub refresh_token: String,
    /// Life of the access token, in milliseconds.
    pub expires_in_ms: u64,
    /// Who has signed in.
    pub user: User,
}

/// A ticket that opens one WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// To be sent as `/ws?ticket=…`, once.
    pub ticket: String,
    /// Life of the ticket, in milliseconds.
    pub expires_in_ms: u64,
}

/// One sign-in that is still good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// To revoke it.
    pub id: SessionId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last refreshed.
    pub last_used_at: Timestamp,
    /// When it ends if it is not refreshed.
    pub expires_at: Timestamp,
    /// Whether the asking request belongs to it.
    pub current: bool,
}

/// What an API key may do: names of rights.
pub const SCOPES: [&str; 8] = [
    "read", "run", "files", "account", "approve", "admin", "metrics", "service",
];

fn scopes() -> Schema {
    let scope = ObjectBuilder::new().schema_type(Type::String);
    let list = ArrayBuilder::new()
        .items(scope.enum_values(Some(SCOPES)))
        .min_items(Some(1))
        .description(Some(
            "What the key may do: at least one scope, and none that its maker lacks.",
        ));
    list.build().into()
}

/// Makes an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// For people: 1 to 100 characters.
    #[schema(
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0][^\x00-\x1f\x7f-\x9f]*$"
    )]
    pub name: String,
    /// What the key may do: `read`, `run`, `files`, `account`, `approve`, `admin`, `metrics`, `service`; at
    /// least one, and none that its maker lacks.
    #[schema(schema_with = scopes)]
    pub scopes: Vec<String>,
    /// When it ends, in the future; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Never changes.
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// What the key may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to about a minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_used_at: Option<Timestamp>,
    /// The secret, `ntr_…`; in the answer to making it only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<String>,
}
