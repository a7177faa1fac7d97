//! Who did what: append-only records.

use netra_context::{Origin as ContextOrigin, UserExecutionContext};
use netra_protocol::id::{AuditId, RequestId, UserId};

use crate::error::Error;
use crate::sqlite::Tx;

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

pub(crate) fn insert(
    tx: &Tx<'_>,
    origin: &Origin,
    user: UserId,
    record: &AuditRecord,
) -> Result<(), Error> {
    let id = AuditId::from_parts(tx.now().as_millis(), rand::random());
    tx.execute(
        "INSERT INTO audit
         (id, user_id, at, actor, action, object, outcome, details, request_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            id.to_bytes(),
            user.to_bytes(),
            tx.now().as_micros(),
            &origin.actor,
            record.action,
            &record.object,
            record.outcome,
            serde_json::to_string(&record.details)?,
            origin.request_id.to_bytes(),
        ),
    )?;
    Ok(())
}
