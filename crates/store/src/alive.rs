//! When this store's server was last at work: time in which no server holds a run does not count
//! for its deadline.

use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::{Event, Timestamp};

use crate::Store;
use crate::error::Error;
use crate::json;
use crate::owner::require_background;
use crate::sql::{Connection, OptionalExtension as _};

impl Store {
    /// Notes that a server is at work now. As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn mark_alive(&self, ctx: &UserExecutionContext) -> Result<(), Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        // A node among others says it by its heartbeats.
        if self.is_shared() {
            return Ok(());
        }
        self.0
            .db
            .of_all()
            .write(|tx| tx.note("alive_at", tx.now()))
            .await
    }

    /// When a server was last seen at work: its last mark, or the last event where that is later.
    /// As `for_background(Recovery)` only.
    ///
    /// # Errors
    /// `Forbidden` for anybody else; `Unavailable`.
    pub async fn last_alive(&self, ctx: &UserExecutionContext) -> Result<Option<Timestamp>, Error> {
        require_background(ctx, &[BackgroundKind::Recovery])?;
        let read = |connection: &Connection| Ok(marked(connection)?.max(last_event(connection)?));
        self.0.db.of_all().read(read).await
    }
}

fn marked(connection: &Connection) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT value FROM meta WHERE key = 'alive_at'";
    let text: Option<String> = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
        .optional()?;
    let micros = text.map(|text| text.parse::<i64>().map_err(|_| Error::corrupt("time")));
    Ok(micros.transpose()?.map(Timestamp::from_micros))
}

fn last_event(connection: &Connection) -> Result<Option<Timestamp>, Error> {
    if let Connection::Postgres(_) = connection {
        let mut statement = connection.prepare_cached("SELECT max(appended_at) FROM logs")?;
        let last: Option<i64> = statement.query_row([], |row| row.get(0))?;
        return Ok(last.map(Timestamp::from_micros));
    }
    let sql = "SELECT body FROM events ORDER BY rowid DESC LIMIT 1";
    let body: Option<String> = connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
        .optional()?;
    let event = body.map(|body| json::read::<Event>(&body));
    Ok(event.transpose()?.map(|event| event.ts))
}
