//! Where a run is in its trace: an entry of its journal, so that all its engines go on with the same trace.

use netra_context::{Right, Trace, UserExecutionContext};
use netra_protocol::id::{RunId, UserId};
use netra_protocol::run::Run;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::handle::Readable;
use crate::journal::{self, Journal, JournalEntry, JournalKind};
use crate::owner::require;
use crate::sql::{Connection, OptionalExtension as _};
use crate::transaction::Tx;
use crate::{Store, json};

/// No operation has this key.
const KEY: &str = "";

#[derive(Serialize, Deserialize)]
struct Kept {
    traceparent: String,
    parent: Option<u64>,
}

impl Kept {
    fn place(&self) -> Option<Trace> {
        Some(Trace::parse(&self.traceparent)?.with_parent(self.parent))
    }
}

pub(crate) fn keep(tx: &Tx<'_>, user: UserId, run: RunId, trace: Trace) -> Result<(), Error> {
    let kept = Kept {
        traceparent: trace.header(),
        parent: trace.parent(),
    };
    let entry = JournalEntry {
        key: KEY.to_owned(),
        kind: JournalKind::Trace,
        step: 0,
        value: serde_json::to_value(kept)?,
    };
    journal::write(tx, run, user, &entry)
}

impl Journal {
    /// The run's place in its trace, where it is told of.
    pub fn trace(&self) -> Option<Trace> {
        let recorded = self.get(KEY, JournalKind::Trace)?;
        Kept::deserialize(&recorded.value).ok()?.place()
    }
}

impl Store {
    /// The run's place in its trace, where it is told of.
    ///
    /// # Errors
    /// `Forbidden` without the right to read; `Unavailable`.
    pub async fn run_trace(
        &self,
        ctx: &UserExecutionContext,
        run: &Readable<Run>,
    ) -> Result<Option<Trace>, Error> {
        let user = require(ctx, Right::Read)?;
        let id = run.id;
        let read = move |connection: &Connection| {
            let value: Option<String> = connection
                .prepare_cached(
                    "SELECT value FROM journal
                     WHERE run_id = ?1 AND key = ?2 AND kind = ?3 AND user_id = ?4",
                )?
                .query_row(
                    (
                        id.to_bytes(),
                        KEY,
                        JournalKind::Trace.as_str(),
                        user.to_bytes(),
                    ),
                    |row| row.get(0),
                )
                .optional()?;
            let kept: Option<Kept> = value.map(|text| json::read(&text)).transpose()?;
            Ok(kept.and_then(|kept| kept.place()))
        };
        self.0.db.of(user).read(read).await
    }
}
