//! Who may: the checks that every look-up and every change begins with.

use netra_context::{BackgroundKind, Right, UserExecutionContext};
use netra_protocol::id::UserId;

use crate::error::Error;

/// The user of the context, if the context holds the right. A built-in principal owns nothing.
pub(crate) fn require(ctx: &UserExecutionContext, right: Right) -> Result<UserId, Error> {
    let user = ctx.user_id().ok_or(Error::NotFound)?;
    if ctx.may(right) {
        Ok(user)
    } else {
        Err(Error::Forbidden)
    }
}

/// Refuses everybody but admins and a person at the server's own command line.
pub(crate) fn require_admin(ctx: &UserExecutionContext) -> Result<(), Error> {
    if ctx.may(Right::Admin) || ctx.is_background(BackgroundKind::Console) {
        Ok(())
    } else {
        Err(Error::Forbidden)
    }
}

/// Refuses everybody but these built-in principals.
pub(crate) fn require_background(
    ctx: &UserExecutionContext,
    kinds: &[BackgroundKind],
) -> Result<(), Error> {
    if kinds.iter().any(|kind| ctx.is_background(*kind)) {
        Ok(())
    } else {
        Err(Error::Forbidden)
    }
}
