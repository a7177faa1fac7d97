//! From its place to its engine: a run waits for its slot, and whoever waited is authorised anew.

use std::sync::Arc;

use netra_context::{Principal, Right, Rights, RunOrigin, UserExecutionContext};
use netra_memory::Account;
use netra_protocol::account::User;
use netra_protocol::error::{ErrorCode, Failure};
use netra_protocol::id::RequestId;
use netra_store::{Changes, Hold, RunUpdate};
use tokio::time::Instant;

use crate::admission::{Permit, Place, Standing};
use crate::ending::Ending;
use crate::engine::Driven;
use crate::factory::ExecutionEngineFactory;
use crate::request::{Begin, Commission};

impl ExecutionEngineFactory {
    /// Waits for the slot, then makes the engine and drives it. The run ends in any case, unless it
    /// waits for a person or the server stops.
    ///
    /// This is all that is held of a run beside its engine, so what happens seldom or once has its
    /// room on the heap for as long as it takes.
    pub(crate) async fn attend(
        &self,
        request_id: RequestId,
        principal: Principal,
        commission: Box<Commission>,
        place: Place,
    ) {
        // Also while it waits: what a queued run holds is its user's.
        let account = self.account_of(&principal);
        let attended = self.bring_to_end(request_id, principal, commission, place);
        account.scope().wrap(attended).await;
    }

    pub(crate) fn account_of(&self, principal: &Principal) -> Arc<Account> {
        let (user, limit_mib) = (principal.user_id, principal.limits.memory_mib);
        self.0.infra.runtime.account_of(user, limit_mib)
    }

    async fn bring_to_end(
        &self,
        request_id: RequestId,
        principal: Principal,
        commission: Box<Commission>,
        place: Place,
    ) {
        let ctx = self.context_of(request_id, principal.clone(), &commission);
        match self.ready(&ctx, principal, &commission, place).await {
            Ok((principal, permit)) => {
                let ctx = self.context_of(request_id, principal, &commission);
                let driven = self.driven(ctx, *commission, permit).await;
                if let Driven::Waiting { permit, listed } = driven {
                    Box::pin(self.park(permit, listed)).await;
                }
            }
            Err(Some(ending)) => {
                let ended = Box::pin(self.end_abandoned(&ctx, &commission.run, ending));
                if let Err(error) = ended.await {
                    tracing::error!(run.id = %commission.run.id, %error, "a run was not ended");
                }
            }
            Err(None) => Box::pin(self.release(&ctx, &commission)).await,
        }
    }

    /// Makes the engine, and drives it on the run's own account.
    fn driven(
        &self,
        ctx: UserExecutionContext,
        commission: Commission,
        permit: Permit,
    ) -> impl Future<Output = Driven> + use<> {
        let engine = self.create(ctx, commission, permit);
        engine.scope().wrap(Box::pin(engine.drive()))
    }

    /// Waits until the run may begin: it has its slot, and who asked for it may still run agents.
    /// Fails with how it ends instead, or with none when it is to be let go.
    async fn ready(
        &self,
        ctx: &UserExecutionContext,
        principal: Principal,
        commission: &Commission,
        place: Place,
    ) -> Result<(Principal, Permit), Option<Ending>> {
        let waits = place.standing() != Standing::Started;
        let waited = Instant::now();
        let allowed = principal.limits.concurrent_runs;
        let granted = self.granted(ctx, commission, place, allowed).await;
        metrics::histogram!("netra_run_wait_seconds").record(waited.elapsed().as_secs_f64());
        let permit = granted?;
        if !waits && commission.begin == Begin::Begun {
            return Ok((principal, permit));
        }
        let user = match self.0.infra.store.user_by_id(ctx, principal.user_id).await {
            Ok(user) => Some(user),
            Err(netra_store::Error::NotFound) => None,
            Err(error) => {
                let words = format!("who asked for the run cannot be looked up: {error}");
                return Err(Some(Ending::Failed(Failure::new(
                    ErrorCode::Internal,
                    words,
                ))));
            }
        };
        let principal = user.and_then(|user| authorised_anew(principal, &user));
        principal
            .map(|principal| (principal, permit))
            .ok_or_else(|| {
                let words = "who asked for the run may no longer run agents";
                Some(Ending::Cancelled(Failure::new(ErrorCode::Cancelled, words)))
            })
    }

    /// Notes that no engine has the run, because the server stops.
    async fn release(&self, ctx: &UserExecutionContext, commission: &Commission) {
        let changes = Changes {
            run: Some(RunUpdate {
                hold: Some(Hold::Released),
                ..RunUpdate::default()
            }),
            ..Changes::default()
        };
        let emitter = self.0.infra.bridge.create_emitter(&commission.run);
        match emitter.commit(ctx, changes, Vec::new()).await {
            // Whoever has taken or ended it needs no word.
            Ok(_) | Err(netra_store::Error::Fenced | netra_store::Error::RunEnded) => {}
            Err(error) => {
                tracing::warn!(run.id = %commission.run.id, %error, "a run was let go unnoted");
            }
        }
    }

    pub(crate) fn context_of(
        &self,
        request_id: RequestId,
        principal: Principal,
        commission: &Commission,
    ) -> UserExecutionContext {
        let origin = RunOrigin {
            principal,
            run_id: commission.run.id,
            request_id,
            deadline: Some(commission.deadline),
            cancel: commission.listed.live.stop.token().clone(),
            trace: commission.trace,
        };
        UserExecutionContext::for_run(&self.0.infra.runtime, origin)
    }
}

/// Who asked, as the store describes the user now, and never with more rights than the request
/// had. None when the user may no longer run agents. Limits are the server's, so they stay.
fn authorised_anew(principal: Principal, user: &User) -> Option<Principal> {
    let rights = principal.rights.intersect(Rights::of_role(user.role));
    let allowed = !user.disabled && rights.contains(Right::Run);
    allowed.then_some(Principal {
        role: user.role,
        plan: user.plan,
        groups: user.groups.clone().into(),
        rights,
        ..principal
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netra_context::Runtime;
    use netra_protocol::account::{Plan, Role};
    use netra_protocol::id::UserId;
    use netra_protocol::limits::Limits;

    use super::*;

    fn admin_and_user(disabled: bool) -> (Principal, User) {
        let id = Runtime::new().new_id(UserId::from_parts);
        let principal = Principal {
            user_id: id,
            role: Role::Admin,
            plan: Plan::Free,
            groups: Arc::default(),
            rights: Rights::of_role(Role::Admin),
            limits: Arc::new(Limits::default()),
            session: None,
        };
        let user = User {
            id,
            name: "u".into(),
            role: Role::User,
            plan: Plan::Pro,
            groups: vec!["ops".into()],
            disabled,
            created_at: Runtime::new().now(),
            limits: Limits::default(),
            identity: None,
        };
        (principal, user)
    }

    #[test]
    fn a_disabled_user_is_not_authorised_anew() {
        let (principal, user) = admin_and_user(true);
        assert!(authorised_anew(principal, &user).is_none());
    }

    #[test]
    fn a_waiting_run_gets_the_role_of_now_and_no_right_that_its_request_lacked() {
        let (admin, user) = admin_and_user(false);
        let now = authorised_anew(admin.clone(), &user).unwrap();
        assert_eq!((now.role, now.plan), (Role::User, Plan::Pro));
        assert_eq!(*now.groups, ["ops".to_owned()]);
        assert!(now.rights.contains(Right::Run) && !now.rights.contains(Right::Admin));
        let key_of_reader = Principal {
            rights: Rights::NONE,
            ..admin
        };
        assert!(authorised_anew(key_of_reader, &user).is_none());
    }
}
