//! The one way to list a user's rows, newest first: their ids rise with time.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::Page;
use netra_protocol::id::UserId;

use crate::Store;
use crate::cursor;
use crate::error::Error;
use crate::owner::require;
use crate::sql::{Connection, Row};

/// How much of the rows is read at once, at least one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portion {
    pub(crate) rows: u32,
    /// Bytes as they are stored.
    pub(crate) bytes: usize,
}

impl From<u32> for Portion {
    fn from(rows: u32) -> Self {
        Self {
            rows,
            bytes: usize::MAX,
        }
    }
}

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
        portion: impl Into<Portion>,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let user = require(ctx, Right::Read)?;
        self.newest_of(store, user, portion, cursor).await
    }

    /// The same for a user of whom it was checked already that these may be listed.
    pub(crate) async fn newest_of(
        self,
        store: &Store,
        user: UserId,
        portion: impl Into<Portion>,
        cursor: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let Portion { rows: most, bytes } = portion.into();
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
            let mut rows = statement.query((user.to_bytes(), before, most + 1))?;
            let (mut items, mut limit, mut held) = (Vec::new(), most, 0_usize);
            while let Some(row) = rows.next()? {
                held = held.saturating_add(row.stored_bytes()?);
                items.push(read(&row)?);
                // This one is too many, and is only read to see that there is a next page.
                if held > bytes && items.len() > 1 {
                    limit = u32::try_from(items.len() - 1).unwrap_or(most);
                    break;
                }
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
