//! Users who are known elsewhere: to a back end that names its own end users, or to an issuer of tokens.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::Timestamp;
use netra_protocol::account::{Identity, Plan, Role, User};
use netra_protocol::id::UserId;
use serde_json::json;

use crate::audit::{self, AuditRecord, Origin};
use crate::error::Error;
use crate::owner::require_background;
use crate::revoked::Revoked;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;
use crate::{NewUser, Store, account, departure};

const AUTHENTICATION: &[BackgroundKind] = &[BackgroundKind::Authentication];

/// What whoever knows a user says of them; what is not said is the server's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claimed {
    /// What the user may do.
    pub role: Option<Role>,
    /// What the user has booked.
    pub plan: Option<Plan>,
    /// When it was said; none where nobody tells.
    pub at: Option<Timestamp>,
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
    fn says_something(self) -> bool {
        self.role.is_some() || self.plan.is_some()
    }

    fn is_true_of(self, user: &User) -> bool {
        self.role.is_none_or(|role| role == user.role)
            && self.plan.is_none_or(|plan| plan == user.plan)
    }

    /// Whether it changes what is known of the user, or is newer than that.
    fn is_news(self, user: &User, known_at: Option<Timestamp>) -> bool {
        let claimed = self.since(known_at);
        claimed.says_something() && (claimed.at > known_at || !claimed.is_true_of(user))
    }

    /// This, unless something newer is known: then nothing is claimed, of the time that is known. What does not tell
    /// its time is not newer than what does.
    fn since(self, known_at: Option<Timestamp>) -> Self {
        if known_at.is_none_or(|known_at| self.at.is_some_and(|at| at >= known_at)) {
            return self;
        }
        Self {
            at: known_at,
            ..Self::default()
        }
    }
}

/// Takes over what is claimed of a user.
fn follow(tx: &Tx<'_>, origin: &Origin, user: &User, claimed: Claimed) -> Result<(), Error> {
    tx.execute(
        "UPDATE identities SET claimed_at = ?2 WHERE user_id = ?1",
        (user.id.to_bytes(), claimed.at.map(Timestamp::as_micros)),
    )?;
    if claimed.is_true_of(user) {
        return Ok(());
    }
    tx.revoke(Revoked::User(user.id));
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

/// Whom an identity stands for, and when the newest claim about them was made.
fn known(
    connection: &Connection,
    identity: &Identity,
) -> Result<Option<(UserId, Option<Timestamp>)>, Error> {
    let sql = "SELECT user_id, claimed_at FROM identities WHERE issuer = ?1 AND subject = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let known = statement.query_row((&identity.issuer, &identity.subject), |row| {
        let claimed_at: Option<i64> = row.get(1)?;
        let user = UserId::from_bytes(row.get(0)?);
        Ok((user, claimed_at.map(Timestamp::from_micros)))
    });
    Ok(known.optional()?)
}

fn insert(
    tx: &Tx<'_>,
    origin: &Origin,
    id: UserId,
    identity: &Identity,
    claimed: Claimed,
) -> Result<(), Error> {
    let before = departure::take(tx, identity)?;
    let claimed = claimed.since(before.as_ref().and_then(|before| before.claimed_at));
    let new = NewUser {
        // Nobody signs in by it, and nobody else can have it.
        name: id.to_string(),
        role: claimed.role.unwrap_or(Role::User),
        plan: claimed.plan.unwrap_or(Plan::Free),
        password_hash: None,
    };
    account::insert(tx, id, &new, &netra_protocol::limits::Limits::default())?;
    let claimed_at = claimed.says_something().then_some(claimed.at).flatten();
    tx.execute(
        "INSERT INTO identities (user_id, issuer, subject, claimed_at) VALUES (?1, ?2, ?3, ?4)",
        (
            id.to_bytes(),
            &identity.issuer,
            &identity.subject,
            claimed_at.map(Timestamp::as_micros),
        ),
    )?;
    if let Some(before) = before {
        before.carry_over(tx, id)?;
    }
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
            let Some((id, known_at)) = known(c, &wanted)? else {
                return Ok(None);
            };
            let user = account::user_by_id(c, id, &for_reading)?;
            let is_new = claimed.is_news(&user, known_at);
            Ok((!is_new).then_some(user))
        };
        if let Some(user) = self.0.db.of_all().read(find).await? {
            let is_changed = false;
            return Ok(Known { user, is_changed });
        }
        let new_id = self.0.runtime.new_id(UserId::from_parts);
        let origin = Origin::of(ctx);
        let work = move |tx: &mut Tx<'_>| {
            // Two requests at once: the other may have been faster.
            let Some((id, known_at)) = known(tx.connection(), &identity)? else {
                insert(tx, &origin, new_id, &identity, claimed)?;
                let user = account::user_by_id(tx.connection(), new_id, &base)?;
                let is_changed = false;
                return Ok(Known { user, is_changed });
            };
            let before = account::user_by_id(tx.connection(), id, &base)?;
            if claimed.is_news(&before, known_at) {
                follow(tx, &origin, &before, claimed)?;
            }
            // Another plan has other limits.
            let user = account::user_by_id(tx.connection(), id, &base)?;
            let is_changed = (before.role, before.plan) != (user.role, user.plan);
            Ok(Known { user, is_changed })
        };
        self.0.db.of_all().write(work).await
    }
}
