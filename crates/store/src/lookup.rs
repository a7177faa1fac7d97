//! The one look-up that yields proof: of any object, for reading or for changing it.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::id::UserId;

use crate::Store;
use crate::error::Error;
use crate::handle::{Readable, Writable};
use crate::owner::require;
use crate::sql::Connection;

/// How an object of this user is read from one snapshot; `NotFound` where there is none.
pub(crate) type Find<T, Id> = fn(&Store, &Connection, UserId, Id) -> Result<T, Error>;
/// The same of what nodes take, with its fence.
pub(crate) type FindFenced<T, Id> = fn(&Store, &Connection, UserId, Id) -> Result<(T, u64), Error>;

enum Finding<T, Id> {
    Plain(Find<T, Id>),
    Fenced(FindFenced<T, Id>),
}

/// A look-up of one object.
pub struct Lookup<'a, T, Id> {
    store: &'a Store,
    ctx: &'a UserExecutionContext,
    id: Id,
    write: Right,
    find: Finding<T, Id>,
}

impl<'a, T: Send + 'static, Id: Send + 'static> Lookup<'a, T, Id> {
    /// `write` is the right that changing such an object needs.
    pub(crate) fn new(
        store: &'a Store,
        ctx: &'a UserExecutionContext,
        id: Id,
        write: Right,
        find: Find<T, Id>,
    ) -> Self {
        Self::of(store, ctx, id, (write, Finding::Plain(find)))
    }

    /// The same of what nodes take.
    pub(crate) fn fenced(
        store: &'a Store,
        ctx: &'a UserExecutionContext,
        id: Id,
        write: Right,
        find: FindFenced<T, Id>,
    ) -> Self {
        Self::of(store, ctx, id, (write, Finding::Fenced(find)))
    }

    fn of(
        store: &'a Store,
        ctx: &'a UserExecutionContext,
        id: Id,
        (write, find): (Right, Finding<T, Id>),
    ) -> Self {
        Self {
            store,
            ctx,
            id,
            write,
            find,
        }
    }

    /// Proof that the user may read it, and its state now.
    ///
    /// # Errors
    /// `NotFound` where there is none for this user; `Forbidden` without the right to read.
    pub async fn for_read(self) -> Result<Readable<T>, Error> {
        let user = require(self.ctx, Right::Read)?;
        let (object, fence) = self.read(user).await?;
        Ok(Readable::fenced(user, object, fence))
    }

    /// Proof that the user may change it, and its state now.
    ///
    /// # Errors
    /// `NotFound` where there is none for this user; `Forbidden` without the right to change it.
    pub async fn for_write(self) -> Result<Writable<T>, Error> {
        let user = require(self.ctx, self.write)?;
        let (object, fence) = self.read(user).await?;
        Ok(Writable::fenced(user, object, fence))
    }

    async fn read(self, user: UserId) -> Result<(T, u64), Error> {
        let (store, find, id) = (self.store.clone(), self.find, self.id);
        let read = move |connection: &Connection| match find {
            Finding::Plain(find) => Ok((find(&store, connection, user, id)?, 0)),
            Finding::Fenced(find) => find(&store, connection, user, id),
        };
        self.store.0.db.of(user).read(read).await
    }
}
