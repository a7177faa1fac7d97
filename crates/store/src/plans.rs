//! The limits of plans, where they are not those of the configuration.

use netra_context::UserExecutionContext;
use netra_protocol::admin::Plans;
use serde_json::json;

use crate::Store;
use crate::admin::Admin;
use crate::error::Error;
use crate::owner::require_admin;
use crate::revoked::Revoked;
use crate::sql::Connection;
use crate::transaction::Tx;

fn read(connection: &Connection) -> Result<Plans, Error> {
    let mut statement = connection.prepare_cached("SELECT plan, limits FROM plans")?;
    let mut rows = statement.query([])?;
    let mut plans = Plans::default();
    while let Some(row) = rows.next()? {
        let (plan, limits): (String, String) = (row.get(0)?, row.get(1)?);
        let plan = plan.parse().map_err(|_| Error::corrupt("plan"))?;
        *plans.of_mut(plan) = serde_json::from_str(&limits)?;
    }
    Ok(plans)
}

fn write(tx: &Tx<'_>, by: &Admin, plans: &Plans) -> Result<(), Error> {
    for (plan, limits) in plans.each() {
        let sql = "INSERT INTO plans (plan, limits) VALUES (?1, ?2)
                   ON CONFLICT (plan) DO UPDATE SET limits = excluded.limits";
        tx.execute(sql, (plan.as_str(), serde_json::to_string(limits)?))?;
    }
    tx.revoke(Revoked::Plans);
    by.record_own(tx, "plans.update", "plans".to_owned(), json!(plans))
}

impl Store {
    /// The limits of plans, for admins and the console.
    ///
    /// # Errors
    /// `Forbidden` for anybody else.
    pub async fn plans(&self, ctx: &UserExecutionContext) -> Result<Plans, Error> {
        require_admin(ctx)?;
        self.0.db.of_all().read(read).await
    }

    /// Sets the limits of all plans. They hold for whoever is looked up from then on.
    ///
    /// # Errors
    /// `Forbidden` for anybody but an admin or the console.
    pub async fn plans_set(&self, ctx: &UserExecutionContext, plans: Plans) -> Result<(), Error> {
        let by = Admin::of(ctx)?;
        self.0
            .db
            .of_all()
            .write(move |tx| write(tx, &by, &plans))
            .await
    }
}
