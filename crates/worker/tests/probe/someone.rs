//! Users of the tests, told apart by a number.

use std::sync::Arc;

use netra_context::{Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_protocol::limits::Limits;

pub(crate) fn someone(number: u128) -> UserExecutionContext {
    let principal = Principal {
        user_id: UserId::from_parts(1, number),
        role: Role::User,
        plan: Plan::Free,
        rights: Rights::of_role(Role::User),
        limits: Arc::new(Limits::default()),
        session: None,
        groups: Arc::default(),
    };
    UserExecutionContext::for_test(&Runtime::new(), principal)
}
