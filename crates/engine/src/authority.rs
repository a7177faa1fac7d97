//! Ends that somebody else than the run's user decides: an admin, or whoever disables the user.

use std::time::Duration;

use netra_context::UserExecutionContext;
use netra_context::runtime::TaskKind;
use netra_protocol::admin::AdminRun;
use netra_protocol::id::UserId;
use netra_store::Supervised;

use crate::error::Error;
use crate::factory::ExecutionEngineFactory;
use crate::live::StopReason;

/// How often runs of users are looked for whom another process has disabled.
const LOOK: Duration = Duration::from_secs(5);

impl ExecutionEngineFactory {
    /// Tells anybody's run to stop, as an admin; both audits say so. Its end is written as that of
    /// a run that its own user cancels.
    ///
    /// # Errors
    /// `RunEnded` when it has ended; `Forbidden` of the store for anybody but an admin.
    pub async fn cancel_by_admin(
        &self,
        ctx: &UserExecutionContext,
        run: &Supervised<AdminRun>,
    ) -> Result<(), Error> {
        if run.status.is_terminal() {
            return Err(Error::RunEnded);
        }
        // First, so that nothing is done that is not written down.
        self.infra().store.audit_cancel(ctx, run).await?;
        let reason = StopReason::CancelledByAdmin;
        if self.0.runs.tell(run.id, reason) {
            return Ok(());
        }
        // Whoever takes the place of a run that waits decides how it goes on.
        let place = self.0.waiting.take(run.id);
        if place.is_none() && self.tell_elsewhere(run.owner(), run.id).await? {
            return Ok(());
        }
        if let Some(ending) = reason.ending() {
            self.end_by_server(run.owner(), run.id, ending).await?;
        }
        drop(place);
        Ok(())
    }

    /// Ends every run of a user who was disabled: those that execute, that stand in line, and that
    /// wait for a person. To be called after the store knows that the user is disabled: it starts
    /// none of this user's from then on.
    pub async fn end_runs_of(&self, user: UserId) {
        let reason = StopReason::UserDisabled;
        self.0.runs.stop_all_of(user, reason);
        for (run, place) in self.0.waiting.take_all_of(user) {
            self.end_waiting(user, run, place, reason).await;
        }
    }

    /// Waits until no run of the user goes on here, after they were ended.
    pub async fn runs_gone(&self, user: UserId) {
        self.0.runs.gone_of(user).await;
    }

    /// Ends the runs of users whom another process has disabled, as long as the server runs.
    pub(crate) fn watch_disabled(&self) {
        let factory = self.clone();
        let runtime = &self.infra().runtime;
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Sweep, async move {
            let recovery = factory.recovery();
            let mut turns = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = turns.tick() => {}
                }
                match factory.infra().store.disabled_with_runs(&recovery).await {
                    Ok(users) => {
                        for user in users {
                            factory.end_runs_of(user).await;
                        }
                    }
                    Err(error) => tracing::warn!(%error, "disabled users cannot be looked for"),
                }
            }
        });
    }
}
