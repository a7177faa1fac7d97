//! The one way to list a user's rows, newest first: their ids rise with time.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::Page;
use netra_protocol::id::UserId;

use crate::Store;
use crate::cursor;
use crate::error::Error;
use crate::owner::require;
use crate::sql::{Connection, Row};

/// Which rows, and how one is read.
pub(crate) struct Listing<T> {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static str,
    pub(crate) read: fn(&Row<'_>) -> Result<T, Error>,
    pub(crate) id: fn(&T) -> [u8; 16],
}

impl<T: Send + 'static> Listing<T> {
    /// A page of the rows that are the user's.
    ///
    /// # Errors
    /// `InvalidCursor`; `Forbidden` without the right to read.
    pub(crate) async fn newest(
        self,
        store: &Store,
        ctx: &UserExecutionContext,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let user = require(ctx, Right::Read)?;
        self.newest_of(store, user, limit, cursor).await
    }

    /// The same for a user of whom it was checked already that these may be listed.
    pub(crate) async fn newest_of(
        self,
        store: &Store,
        user: UserId,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let before = cursor.map(cursor::read).transpose()?.unwrap_or(cursor::END);
        let page = move |connection: &Connection| {
            let Self {
                table,
                columns,
                read,
                id,
            } = self;
            let sql = format!(
                "SELECT {columns} FROM {table} WHERE user_id = ?1 AND id < ?2
                 ORDER BY id DESC LIMIT ?3"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query((user.to_bytes(), before, limit + 1))?;
            let mut items = Vec::new();
            while let Some(row) = rows.next()? {
                items.push(read(&row)?);
            }
            let next_cursor = cursor::next(&mut items, limit, |last| cursor::write(&id(last)));
            Ok(Page {
                items,
                next_cursor,
                as_of: None,
            })
        };
        store.0.db.of(user).read(page).await
    }
}
