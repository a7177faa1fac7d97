//! All of a user's secrets by name, without their values.

use netra_context::{Right, UserExecutionContext};
use netra_protocol::secret::SecretInfo;

use super::{COLUMNS, info};
use crate::Store;
use crate::error::Error;
use crate::owner::require;
use crate::sql::Connection;

impl Store {
    /// The user's secrets by name; never more than a hundred.
    ///
    /// # Errors
    /// `Forbidden` without the right over the account.
    pub async fn secret_list(&self, ctx: &UserExecutionContext) -> Result<Vec<SecretInfo>, Error> {
        let user = require(ctx, Right::Account)?;
        let read = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM secrets WHERE user_id = ?1 ORDER BY name");
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([user.to_bytes()])?;
            let mut secrets = Vec::new();
            while let Some(row) = rows.next()? {
                secrets.push(info(&row)?);
            }
            Ok(secrets)
        };
        self.0.db.of(user).read(read).await
    }
}
