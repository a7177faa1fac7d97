//! Who did what: append-only records, in a chain per user that shows every later change.

mod chain;
pub(crate) mod totals;
mod verify;

use netra_context::{Origin as ContextOrigin, UserExecutionContext};
use netra_protocol::admin::AdminAuditEntry;
use netra_protocol::audit::AuditEntry;
use netra_protocol::id::{AuditId, RequestId, UserId};
use netra_protocol::{Page, Timestamp};

use crate::Store;
use crate::cursor;
use crate::error::Error;
use crate::listing::Listing;
use crate::owner::require_admin;
use crate::sql::{Connection, Row};
use crate::transaction::Tx;

pub use chain::AuditKey;
pub use verify::{Audit, ChainOwner, Verdict};

use chain::{Covered, Hash};

const COLUMNS: &str = "id, seq, at, actor, action, object, outcome, details, request_id, hash";

/// One thing that was done.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// What was done, such as `tool.call`.
    pub action: &'static str,
    /// To what: a name or an id, no content.
    pub object: String,
    /// How it ended, such as `ok`, `denied`, `failed`.
    pub outcome: &'static str,
    /// What else belongs to it; no content.
    pub details: serde_json::Value,
}

/// Who did it, as the context says.
pub(crate) struct Origin {
    actor: String,
    request_id: RequestId,
}

impl Origin {
    pub(crate) fn of(ctx: &UserExecutionContext) -> Self {
        let actor = match (ctx.origin(), ctx.user_id()) {
            (ContextOrigin::Background(kind), _) => kind.as_str().to_owned(),
            (_, Some(user)) => user.to_string(),
            (_, None) => "nobody".to_owned(),
        };
        Self {
            actor,
            request_id: ctx.request_id(),
        }
    }
}

/// A record as its row has it.
struct Stored {
    id: [u8; 16],
    seq: Option<u64>,
    at_micros: i64,
    actor: String,
    action: String,
    object: String,
    outcome: String,
    details: String,
    request_id: [u8; 16],
    hash: Option<Hash>,
}

impl Stored {
    fn read(row: &Row<'_>) -> Result<Self, Error> {
        Ok(Self {
            id: row.get(0)?,
            seq: row.get(1)?,
            at_micros: row.get(2)?,
            actor: row.get(3)?,
            action: row.get(4)?,
            object: row.get(5)?,
            outcome: row.get(6)?,
            details: row.get(7)?,
            request_id: row.get(8)?,
            hash: row.get(9)?,
        })
    }

    fn entry(self) -> Result<AuditEntry, Error> {
        Ok(AuditEntry {
            id: AuditId::from_bytes(self.id),
            seq: self.seq,
            at: Timestamp::from_micros(self.at_micros),
            actor: self.actor,
            action: self.action,
            object: self.object,
            outcome: self.outcome,
            details: serde_json::from_str(&self.details)?,
            request_id: RequestId::from_bytes(self.request_id),
            hash: self.hash.map(|hash| cursor::write(&hash)),
        })
    }
}

pub(crate) fn insert(
    tx: &Tx<'_>,
    origin: &Origin,
    user: UserId,
    record: &AuditRecord,
) -> Result<(), Error> {
    let (seq, before) = chain::next(tx, user)?;
    // Ids of one user rise with the records, within a millisecond too.
    let random = u128::from(seq) << 40 | u128::from(rand::random::<u64>() >> 24);
    let id = AuditId::from_parts(tx.now().as_millis(), random);
    let details = serde_json::to_string(&record.details)?;
    let covered = Covered {
        id: id.to_bytes(),
        at_micros: tx.now().as_micros(),
        actor: &origin.actor,
        action: record.action,
        object: &record.object,
        outcome: record.outcome,
        details: &details,
        request_id: origin.request_id.to_bytes(),
    };
    let hash = chain::append(tx, user, (seq, before), &covered)?;
    tx.put(
        "INSERT INTO audit
         (id, user_id, at, actor, action, object, outcome, details, request_id, seq, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        (
            covered.id,
            user.to_bytes(),
            covered.at_micros,
            covered.actor,
            covered.action,
            covered.object,
            covered.outcome,
            covered.details,
            covered.request_id,
            seq,
            hash,
        ),
    )?;
    Ok(())
}

/// Which records of everybody's audits an admin wants to see.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// In this user's audit only.
    pub user: Option<UserId>,
    /// Of this action only.
    pub action: Option<String>,
}

fn page_of_all(
    connection: &Connection,
    filter: &AuditFilter,
    limit: u32,
    before: [u8; 16],
) -> Result<Page<AdminAuditEntry>, Error> {
    // Each combination is a statement of its own, so that a user's records are found by their index.
    let user = filter
        .user
        .map_or("CAST(?2 AS TEXT) IS NULL", |_| "user_id = ?2");
    let action = filter
        .action
        .as_ref()
        .map_or("CAST(?3 AS TEXT) IS NULL", |_| "action = ?3");
    let sql = format!(
        "SELECT {COLUMNS}, user_id FROM audit WHERE id < ?1 AND {user} AND {action}
         ORDER BY id DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let of_user = filter.user.map(UserId::to_bytes);
    let mut rows = statement.query((before, of_user, &filter.action, limit + 1))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(AdminAuditEntry {
            user_id: UserId::from_bytes(row.get(10)?),
            entry: Stored::read(&row)?.entry()?,
        });
    }
    let next_cursor = cursor::next(&mut items, limit, |last| {
        cursor::write(&last.entry.id.to_bytes())
    });
    Ok(Page {
        items,
        next_cursor,
        as_of: None,
    })
}

impl Store {
    /// Everybody's audit records, newest first, for admins and the console.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` for anybody else.
    pub async fn audit_of_all(
        &self,
        ctx: &UserExecutionContext,
        filter: AuditFilter,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<AdminAuditEntry>, Error> {
        require_admin(ctx)?;
        let before = cursor.map(cursor::read).transpose()?;
        let before = before.unwrap_or(cursor::END);
        self.0
            .db
            .of_all()
            .read(move |c| page_of_all(c, &filter, limit, before))
            .await
    }

    /// The user's audit records, newest first.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub async fn audit(
        &self,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<AuditEntry>, Error> {
        let listing = Listing {
            table: "audit",
            columns: COLUMNS,
            read: |row| Stored::read(row)?.entry(),
            id: |entry: &AuditEntry| entry.id.to_bytes(),
        };
        listing.newest(self, ctx, limit, cursor).await
    }
}
