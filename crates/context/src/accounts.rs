//! The memory accounts of users: one per user, for as long as a request, socket or run of the user lives.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use netra_memory::Account;
use netra_protocol::id::UserId;
use parking_lot::Mutex;

/// How many users may come before accounts that are closed are forgotten.
const SWEEP_EVERY: usize = 256;

/// The open accounts by user.
#[derive(Default)]
pub(crate) struct Accounts(Mutex<HashMap<UserId, Weak<Account>>>);

impl Accounts {
    /// The user's account with this limit, opened where the user has none.
    pub(crate) fn of(&self, user: UserId, limit_mib: u64) -> Arc<Account> {
        // The table is everybody's.
        let _system = netra_memory::Scope::system().enter();
        let mut accounts = self.0.lock();
        let account = match accounts.get(&user).and_then(Weak::upgrade) {
            Some(account) => account,
            None => {
                if accounts.len() >= SWEEP_EVERY && accounts.len().is_multiple_of(SWEEP_EVERY) {
                    accounts.retain(|_, account| account.strong_count() > 0);
                }
                let account = Arc::new(Account::user());
                accounts.insert(user, Arc::downgrade(&account));
                account
            }
        };
        account.set_limit(limit_mib.saturating_mul(1024 * 1024));
        account
    }

    /// Every account that is open now.
    pub(crate) fn open(&self) -> Vec<(UserId, Arc<Account>)> {
        let accounts = self.0.lock();
        let open = |(user, account): (&UserId, &Weak<Account>)| Some((*user, account.upgrade()?));
        accounts.iter().filter_map(open).collect()
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
        assert!(accounts.0.lock().len() <= SWEEP_EVERY + 2);
        drop((one, same, other));
        assert!(accounts.open().is_empty());
    }
}
