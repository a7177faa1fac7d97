//! The memory accounts of users: one per user, for as long as a request, socket or run of the user lives.

use std::sync::Arc;

use netra_memory::Account;
use netra_protocol::id::UserId;

use crate::in_use::InUse;

/// The open accounts by user.
#[derive(Default)]
pub(crate) struct Accounts(InUse<UserId, Account>);

impl Accounts {
    /// The user's account with this limit, opened where the user has none.
    pub(crate) fn of(&self, user: UserId, limit_mib: u64) -> Arc<Account> {
        let account = self.0.of(user, Account::user);
        account.set_limit(limit_mib.saturating_mul(1024 * 1024));
        account
    }

    /// Every account that is open now.
    pub(crate) fn open(&self) -> Vec<(UserId, Arc<Account>)> {
        self.0.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_account_while_it_is_in_use_and_the_newest_limit() {
        let accounts = Accounts::default();
        let user = UserId::from_parts(1, 1);
        let one = accounts.of(user, 10);
        let same = accounts.of(user, 20);
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!(one.limit(), 20 * 1024 * 1024);
        let other = accounts.of(UserId::from_parts(1, 2), 1);
        assert!(!Arc::ptr_eq(&one, &other));
        assert_eq!(accounts.open().len(), 2);
        for n in 3..2_000 {
            drop(accounts.of(UserId::from_parts(1, n), 1));
        }
        assert_eq!(accounts.open().len(), 2);
        drop((one, same, other));
        assert!(accounts.open().is_empty());
    }
}
