//! The context of one request: built in four places, narrowed by `child`, never widened.

use std::borrow::Cow;
use std::time::Duration;

use netra_protocol::id::{RequestId, RunId, UserId};
use netra_protocol::limits::Limits;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::principal::{BackgroundKind, Principal};
use crate::rights::{Right, Rights};
use crate::runtime::Runtime;
use crate::trace::{Span, SpanKind, Trace};

/// Where a context came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An HTTP request or a WebSocket frame.
    Request,
    /// An engine that drives a run.
    Run(RunId),
    /// The server itself.
    Background(BackgroundKind),
    /// A test.
    Test,
}

/// What `for_run` needs of a run: who asked, authorised anew, and until when.
#[derive(Debug)]
pub struct RunOrigin {
    /// Read from the database at this moment, not from the request of that time.
    pub principal: Principal,
    /// The run.
    pub run_id: RunId,
    /// The request that started it.
    pub request_id: RequestId,
    /// When the run ends by itself; none while it waits.
    pub deadline: Option<Instant>,
    /// Fires when the run is cancelled.
    pub cancel: CancellationToken,
    /// The run's place in its trace, where it is told of.
    pub trace: Option<Trace>,
}

enum Who {
    User(Principal),
    BuiltIn,
}

/// Who asks, what they may do, until when. The first argument of every call that touches a user's
/// data. It is owned by one request or run, and is not `Clone`.
pub struct UserExecutionContext {
    who: Who,
    origin: Origin,
    request_id: RequestId,
    operation: Cow<'static, str>,
    rights: Rights,
    deadline: Option<Instant>,
    cancel: CancellationToken,
    depth: u32,
    trace: Option<Trace>,
    runtime: Runtime,
    _counted: Counted,
}

/// Counts a context while it exists.
struct Counted;

impl Counted {
    fn new(origin: &'static str) -> Self {
        metrics::counter!("netra_context_created_total", "origin" => origin).increment(1);
        metrics::gauge!("netra_context_active").increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("netra_context_active").decrement(1.0);
    }
}

impl UserExecutionContext {
    /// For a request whose credentials the gateway has verified.
    pub fn for_request(
        runtime: &Runtime,
        principal: Principal,
        request_id: RequestId,
        operation: &'static str,
    ) -> Self {
        let rights = principal.rights;
        Self {
            who: Who::User(principal),
            origin: Origin::Request,
            request_id,
            operation: Cow::Borrowed(operation),
            rights,
            deadline: None,
            cancel: runtime.shutdown().child_token(),
            depth: 0,
            trace: None,
            runtime: runtime.clone(),
            _counted: Counted::new("request"),
        }
    }

    /// For an engine, from what was persisted about who asked, authorised anew.
    pub fn for_run(runtime: &Runtime, run: RunOrigin) -> Self {
        let rights = run.principal.rights;
        Self {
            who: Who::User(run.principal),
            origin: Origin::Run(run.run_id),
            request_id: run.request_id,
            operation: Cow::Borrowed("run"),
            rights,
            deadline: run.deadline,
            cancel: run.cancel,
            depth: 0,
            trace: run.trace,
            runtime: runtime.clone(),
            _counted: Counted::new("run"),
        }
    }

    /// For the server itself, as a named built-in principal.
    pub fn for_background(runtime: &Runtime, kind: BackgroundKind) -> Self {
        Self {
            who: Who::BuiltIn,
            origin: Origin::Background(kind),
            request_id: runtime.new_id(RequestId::from_parts),
            operation: Cow::Borrowed(kind.as_str()),
            rights: Rights::NONE,
            deadline: None,
            cancel: runtime.shutdown().child_token(),
            depth: 0,
            trace: None,
            runtime: runtime.clone(),
            _counted: Counted::new("background"),
        }
    }

    /// For tests.
    pub fn for_test(runtime: &Runtime, principal: Principal) -> Self {
        let request_id = runtime.new_id(RequestId::from_parts);
        let mut context = Self::for_request(runtime, principal, request_id, "test");
        context.origin = Origin::Test;
        context
    }

    /// A narrower context for a part of the work: one level deeper, cancelled with this one, with
    /// the same or fewer rights and the same or an earlier deadline.
    #[must_use]
    pub fn child(&self, operation: impl Into<Cow<'static, str>>) -> Self {
        Self {
            who: match &self.who {
                Who::User(principal) => Who::User(principal.clone()),
                Who::BuiltIn => Who::BuiltIn,
            },
            origin: self.origin,
            request_id: self.request_id,
            operation: operation.into(),
            rights: self.rights,
            deadline: self.deadline,
            cancel: self.cancel.child_token(),
            depth: self.depth + 1,
            trace: self.trace,
            runtime: self.runtime.clone(),
            _counted: Counted::new("child"),
        }
    }

    /// Takes away every right that is not in `rights`.
    #[must_use]
    pub fn narrowed(mut self, rights: Rights) -> Self {
        self.rights = self.rights.intersect(rights);
        self
    }

    /// Moves the deadline to `limit` from now where that is earlier.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        let end = Instant::now() + limit;
        self.deadline = Some(self.deadline.map_or(end, |deadline| deadline.min(end)));
        self
    }

    /// Is at this place in a trace, or in none.
    #[must_use]
    pub fn at(mut self, place: Option<Trace>) -> Self {
        self.trace = place;
        self
    }

    /// The user; none for the server itself.
    pub fn principal(&self) -> Option<&Principal> {
        match &self.who {
            Who::User(principal) => Some(principal),
            Who::BuiltIn => None,
        }
    }

    /// The user's id; none for the server itself.
    pub fn user_id(&self) -> Option<UserId> {
        self.principal().map(|principal| principal.user_id)
    }

    /// The user's limits; none for the server itself.
    pub fn limits(&self) -> Option<&Limits> {
        self.principal().map(|principal| principal.limits.as_ref())
    }

    /// Whether this built-in principal acts.
    pub fn is_background(&self, kind: BackgroundKind) -> bool {
        self.origin == Origin::Background(kind)
    }

    /// Whether the context holds this right.
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(right)
    }

    /// Everything that the context may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Where it came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The request that all this belongs to.
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// What is being done, for logs.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// When the work must have ended.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Fires when the work is no longer wanted.
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Where in a trace the work is done; none where it is in none.
    pub fn trace(&self) -> Option<Trace> {
        self.trace
    }

    /// Begins a span within the place where the work is done. It is nothing where nobody is told.
    pub fn span(&self, kind: SpanKind, name: impl FnOnce() -> String) -> Span {
        let within = self.trace.filter(Trace::is_sampled);
        let place = within.map(|within| self.runtime.place_within(Some(within)));
        self.runtime.span(place, kind, name)
    }

    /// How often `child` was called on the way here.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Clock, randomness and tracked spawning.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl std::fmt::Debug for UserExecutionContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserExecutionContext")
            .field("user_id", &self.user_id())
            .field("origin", &self.origin)
            .field("request_id", &self.request_id)
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netra_protocol::account::{Plan, Role};

    use super::*;

    fn context() -> UserExecutionContext {
        let runtime = Runtime::new();
        let principal = Principal {
            user_id: runtime.new_id(UserId::from_parts),
            role: Role::Admin,
            plan: Plan::Free,
            groups: Arc::default(),
            rights: Rights::of_role(Role::Admin),
            limits: Arc::new(Limits::default()),
            session: None,
        };
        UserExecutionContext::for_test(&runtime, principal)
    }

    #[tokio::test]
    async fn a_child_is_cancelled_with_its_parent_and_not_the_other_way_round() {
        let parent = context();
        let child = parent.child("part");
        child.child("smaller").cancel_token().cancel();
        assert!(!child.cancel_token().is_cancelled());
        parent.cancel_token().cancel();
        assert!(child.cancel_token().is_cancelled());
        assert_eq!(child.depth(), 1);
    }

    #[tokio::test]
    async fn narrowing_takes_rights_away_and_a_later_deadline_changes_nothing() {
        let narrow = context()
            .within(Duration::from_secs(1))
            .child("part")
            .narrowed(Rights::NONE.with(Right::Read))
            .within(Duration::from_secs(60));
        assert!(narrow.may(Right::Read));
        assert!(!narrow.may(Right::Admin));
        assert!(narrow.deadline().unwrap() <= Instant::now() + Duration::from_secs(1));
        let wide_again = narrow.narrowed(Rights::of_role(Role::Admin));
        assert!(!wide_again.may(Right::Admin));
    }

    #[tokio::test]
    async fn a_built_in_principal_is_no_user_and_has_no_rights() {
        let runtime = Runtime::new();
        let context = UserExecutionContext::for_background(&runtime, BackgroundKind::Sweep);
        assert!(context.user_id().is_none());
        assert!(!context.may(Right::Read));
        assert!(context.is_background(BackgroundKind::Sweep));
    }
}
