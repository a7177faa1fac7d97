//! Runs that wait for a person: they hold their thread, and nothing else. A run that waits is taken
//! from here by whoever lets it go on or ends it, so that happens once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use netra_context::runtime::TaskKind;
use netra_context::{BackgroundKind, UserExecutionContext};
use netra_protocol::approval::{Approval, ResolveApproval};
use netra_protocol::id::{RunId, ThreadId, UserId};
use netra_protocol::run::RunStatus;
use netra_store::Writable;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::admission::{Parked, Permit};
use crate::error::Error;
use crate::factory::ExecutionEngineFactory;
use crate::live::{Listed, Live, StopReason};

/// The longest that the clock of the approvals sleeps: the time of day may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

struct Waits {
    user: UserId,
    thread: ThreadId,
    place: Parked,
}

/// The runs of this node that wait for a person.
#[derive(Default)]
pub(crate) struct Waiting {
    runs: Mutex<HashMap<RunId, Waits>>,
    /// A run has begun to wait, so the next expiry may be another one.
    changed: Notify,
}

impl Waiting {
    pub(crate) fn insert(&self, run: RunId, user: UserId, thread: ThreadId, place: Parked) {
        let waits = Waits {
            user,
            thread,
            place,
        };
        self.runs.lock().insert(run, waits);
        self.changed.notify_one();
    }

    /// Which runs wait here now.
    pub(crate) fn ids(&self) -> Vec<RunId> {
        self.runs.lock().keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.lock().len()
    }

    /// Takes the place of a run; none where it does not wait here, or somebody was faster.
    pub(crate) fn take(&self, run: RunId) -> Option<Parked> {
        self.runs.lock().remove(&run).map(|waits| waits.place)
    }

    /// Takes every run of a user.
    pub(crate) fn take_all_of(&self, user: UserId) -> Vec<(RunId, Parked)> {
        let mut runs = self.runs.lock();
        let taken = runs.extract_if(|_, waits| waits.user == user);
        taken.map(|(run, waits)| (run, waits.place)).collect()
    }

    /// Takes the runs that wait on this one's thread and came before it.
    fn take_earlier(&self, than: &Live) -> Vec<(RunId, Parked)> {
        let earlier = |waits: &Waits| {
            waits.user == than.user_id
                && waits.thread == than.thread_id
                && waits.place.ticket() < than.ticket
        };
        let mut runs = self.runs.lock();
        let taken = runs.extract_if(|_, waits| earlier(waits));
        taken.map(|(run, waits)| (run, waits.place)).collect()
    }
}

impl ExecutionEngineFactory {
    /// Answers an approval, once. Its run goes on when it waits for nothing else.
    ///
    /// # Errors
    /// `InvalidInput` where other arguments are given that do not fit the tool;
    /// `ApprovalResolved` of the store when it was answered before.
    pub async fn answer(
        &self,
        ctx: &UserExecutionContext,
        approval: &Writable<Approval>,
        answer: ResolveApproval,
    ) -> Result<Approval, Error> {
        let registry = self.0.infra.tools.registry();
        let misfits = match &answer.arguments {
            Some(arguments) => {
                let tool = approval.tool_name.as_str();
                registry.misfits(ctx, tool, arguments).await
            }
            None => None,
        };
        if let Some(misfits) = misfits {
            return Err(Error::InvalidInput {
                message: format!("the arguments do not fit the tool's schema: {misfits}"),
                details: json!({ "field": "arguments", "rule": "input_schema" }),
            });
        }
        let store = &self.0.infra.store;
        let answered = store.approval_resolve(ctx, approval, answer).await?;
        self.go_on(approval.owner(), approval.run_id).await;
        Ok(answered)
    }

    /// Parks a run whose engine has asked a person.
    pub(crate) async fn park(&self, permit: Permit, listed: Listed) {
        let (run, user, thread) = {
            let live = &listed.live;
            (live.run_id, live.user_id, live.thread_id)
        };
        self.0.waiting.insert(run, user, thread, permit.park());
        // From here on the run is found among those that wait. What came before found it listed, and has told it.
        let live = Arc::clone(&listed.live);
        drop(listed);
        match live.stop.reason() {
            Some(reason) if reason != StopReason::Drained => {
                if let Some(place) = self.0.waiting.take(run) {
                    self.end_waiting(user, run, place, reason).await;
                }
            }
            _ => self.go_on(user, run).await,
        }
    }

    /// Lets a run go on that waited, if it waits for nothing any more.
    pub(crate) async fn go_on(&self, user: UserId, run: RunId) {
        if self.is_draining() {
            return;
        }
        let recovery = self.recovery();
        match self
            .0
            .infra
            .store
            .run_unfinished(&recovery, user, run)
            .await
        {
            Ok(Some(unfinished)) if unfinished.status != RunStatus::Waiting => {
                if let Some(place) = self.0.waiting.take(run) {
                    self.take_up(unfinished, place.rejoin(), None);
                }
            }
            // It waits for another answer.
            Ok(Some(_)) => {}
            // It has ended: its thread is free.
            Ok(None) => drop(self.0.waiting.take(run)),
            Err(error) => {
                tracing::error!(run.id = %run, %error, "a run that was answered cannot be read");
            }
        }
    }

    /// Ends the runs that wait on the thread that this run takes.
    pub(crate) async fn replace_waiting(&self, by: &Live) {
        for (run, place) in self.0.waiting.take_earlier(by) {
            self.end_waiting(by.user_id, run, place, StopReason::Replaced)
                .await;
        }
    }

    pub(crate) async fn end_waiting(
        &self,
        user: UserId,
        run: RunId,
        place: Parked,
        reason: StopReason,
    ) {
        let Some(ending) = reason.ending() else {
            return;
        };
        if let Err(error) = self.end_by_server(user, run, ending).await {
            tracing::error!(run.id = %run, %error, "a run that waits cannot be ended");
        }
        drop(place);
    }

    pub(crate) fn recovery(&self) -> UserExecutionContext {
        UserExecutionContext::for_background(&self.0.infra.runtime, BackgroundKind::Recovery)
    }

    /// Denies what nobody has answered in time, as long as the server runs.
    pub(crate) fn watch_expiry(&self) {
        let factory = self.clone();
        let runtime = &self.0.infra.runtime;
        let shutdown = runtime.shutdown().clone();
        runtime.spawn(TaskKind::Sweep, async move {
            let recovery = factory.recovery();
            loop {
                let sleep = factory.until_expiry(&recovery).await;
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = factory.0.waiting.changed.notified() => continue,
                    () = tokio::time::sleep(sleep) => {}
                }
                factory.expire(&recovery).await;
            }
        });
    }

    async fn until_expiry(&self, recovery: &UserExecutionContext) -> Duration {
        let infra = &self.0.infra;
        match infra.store.approvals_next_expiry(recovery).await {
            Ok(Some(at)) => {
                let left = Duration::from_millis(at.millis_since(infra.runtime.now()));
                // The clock ticks in microseconds, the sleep in milliseconds.
                (left + Duration::from_millis(1)).min(LONGEST_SLEEP)
            }
            Ok(None) => LONGEST_SLEEP,
            Err(error) => {
                tracing::warn!(%error, "the next expiry of an approval cannot be read");
                LONGEST_SLEEP
            }
        }
    }

    async fn expire(&self, recovery: &UserExecutionContext) {
        match self.0.infra.store.approvals_expire(recovery).await {
            Ok(runs) => {
                for (user, run) in runs {
                    self.go_on(user, run).await;
                }
            }
            Err(error) => tracing::warn!(%error, "what has expired stays for now"),
        }
    }
}
