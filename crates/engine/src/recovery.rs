//! What a stopped server left behind: at the next start every run that has not ended ends as
//! interrupted, with everything in it closed, exactly once.

use std::sync::Arc;

use netra_context::{Principal, Rights, RunOrigin, UserExecutionContext};
use netra_protocol::account::User;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::{RequestId, RunId};
use tokio_util::sync::CancellationToken;

use crate::ending::Ending;
use crate::factory::ExecutionEngineFactory;

impl ExecutionEngineFactory {
    /// Ends the runs that a stopped server left behind, and returns how many they were. To be
    /// called before the server takes requests, as `for_background(Recovery)`. A run that cannot
    /// be ended is logged and left for the next start.
    ///
    /// # Errors
    /// As the store's, when the runs cannot be found.
    pub async fn recover(&self, ctx: &UserExecutionContext) -> Result<usize, netra_store::Error> {
        let unfinished = self.infra().store.runs_unfinished(ctx).await?;
        let mut ended = 0;
        for (user, run) in unfinished {
            match self.end_interrupted(user, run).await {
                Ok(()) => ended += 1,
                Err(error) => {
                    tracing::error!(run.id = %run, %error, "an interrupted run cannot be ended");
                }
            }
        }
        metrics::counter!("netra_runs_recovered_total").increment(ended as u64);
        Ok(ended)
    }

    async fn end_interrupted(&self, user: User, run_id: RunId) -> Result<(), netra_store::Error> {
        let infra = self.infra();
        // Who asked was read anew: the run ends with the rights that the user has now.
        let principal = Principal {
            user_id: user.id,
            role: user.role,
            plan: user.plan,
            rights: Rights::of_role(user.role),
            limits: Arc::new(user.limits),
            session: None,
        };
        let origin = RunOrigin {
            principal,
            run_id,
            request_id: infra.runtime.new_id(RequestId::from_parts),
            deadline: None,
            cancel: CancellationToken::new(),
        };
        let ctx = UserExecutionContext::for_run(&infra.runtime, origin);
        let run = infra.store.run(&ctx, run_id).for_write().await?;
        let words = "the server stopped while the run was going on";
        let ending = Ending::Failed(Failure::new(ErrorCode::Interrupted, words));
        self.end_abandoned(&ctx, &run, ending).await
    }
}
