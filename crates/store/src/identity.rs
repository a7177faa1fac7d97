//! Users who are known elsewhere: to a back end that names its own end users, or to an issuer of tokens.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::account::{Identity, Plan, Role, User};
use netra_protocol::id::UserId;
use serde_json::json;

use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::owner::require_background;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;
use crate::{NewUser, Store, account};

const AUTHENTICATION: &[BackgroundKind] = &[BackgroundKind::Authentication];

/// What whoever knows a user says of them; what is not said is the server's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claimed {
    /// What the user may do.
    pub role: Option<Role>,
    /// What the user has booked.
    pub plan: Option<Plan>,
}

/// A user who is known elsewhere.
#[derive(Debug, Clone)]
pub struct Known {
    /// The account, with what was claimed.
    pub user: User,
    /// Whether it has another role or plan than before.
    pub is_changed: bool,
}

impl Claimed {
    fn is_true_of(self, user: &User) -> bool {
        self.role.is_none_or(|role| role == user.role)
            && self.plan.is_none_or(|plan| plan == user.plan)
    }
}

/// Takes over what is claimed of a user.
fn follow(tx: &Tx<'_>, origin: &Origin, user: &User, claimed: Claimed) -> Result<(), Error> {
    let role = claimed.role.unwrap_or(user.role);
    let plan = claimed.plan.unwrap_or(user.plan);
    tx.execute(
        "UPDATE users SET role = ?2, plan = ?3 WHERE id = ?1",
        (user.id.to_bytes(), role.as_str(), plan.as_str()),
    )?;
    let record = AuditRecord {
        action: "user.update",
        object: user.id.to_string(),
        outcome: "ok",
        details: json!({ "role": role, "plan": plan }),
    };
    audit::insert(tx, origin, user.id, &record)
}

fn known(connection: &Connection, identity: &Identity) -> Result<Option<UserId>, Error> {
    let sql = "SELECT user_id FROM identities WHERE issuer = ?1 AND subject = ?2";
    let found: Option<[u8; 16]> = connection
        .prepare_cached(sql)?
        .query_row((&identity.issuer, &identity.subject), |row| row.get(0))
        .optional()?;
    Ok(found.map(UserId::from_bytes))
}

fn insert(
    tx: &Tx<'_>,
    origin: &Origin,
    id: UserId,
    identity: &Identity,
    claimed: Claimed,
) -> Result<(), Error> {
    let new = NewUser {
        // Nobody signs in by it, and nobody else can have it.
        name: id.to_string(),
        role: claimed.role.unwrap_or(Role::User),
        plan: claimed.plan.unwrap_or(Plan::Free),
        password_hash: None,
    };
    account::insert(tx, id, &new, &netra_protocol::limits::Limits::default())?;
    tx.execute(
        "INSERT INTO identities (user_id, issuer, subject) VALUES (?1, ?2, ?3)",
        (id.to_bytes(), &identity.issuer, &identity.subject),
    )?;
    let record = AuditRecord {
        action: "user.create",
        object: id.to_string(),
        outcome: "ok",
        details: json!({ "issuer": identity.issuer }),
    };
    audit::insert(tx, origin, id, &record)
}

impl Store {
    /// The user of this identity, who is made where nobody is known by it, with the role and the plan that are claimed.
    /// As `for_background(Authentication)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn user_of_identity(
        &self,
        ctx: &UserExecutionContext,
        identity: Identity,
        claimed: Claimed,
    ) -> Result<Known, Error> {
        require_background(ctx, AUTHENTICATION)?;
        let base = self.base_limits();
        let (wanted, for_reading) = (identity.clone(), base.clone());
        let find = move |c: &Connection| {
            let id = known(c, &wanted)?;
            let user = id.map(|id| account::user_by_id(c, id, &for_reading));
            user.transpose()
        };
        let found = self.0.db.of_all().read(find).await?;
        if let Some(user) = found.filter(|user| claimed.is_true_of(user)) {
            let is_changed = false;
            return Ok(Known { user, is_changed });
        }
        let new_id = self.0.runtime.new_id(UserId::from_parts);
        let origin = Origin::of(ctx);
        let work = move |tx: &mut Tx<'_>| {
            // Two requests at once: the other may have been faster.
            let id = match known(tx.connection(), &identity)? {
                Some(known) => known,
                None => {
                    insert(tx, &origin, new_id, &identity, claimed)?;
                    new_id
                }
            };
            let mut user = account::user_by_id(tx.connection(), id, &base)?;
            let is_changed = !claimed.is_true_of(&user);
            if is_changed {
                follow(tx, &origin, &user, claimed)?;
                // Another plan has other limits.
                user = account::user_by_id(tx.connection(), id, &base)?;
            }
            Ok(Known { user, is_changed })
        };
        self.0.db.of_all().write(work).await
    }
}
