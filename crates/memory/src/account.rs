//! Accounts: who owns bytes, and how many they may own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::ledger::{LEDGER, Tag};
use crate::reservation::Reservation;
use crate::scope::Scope;
use crate::tally;

/// An account has, or would have, more than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{used} bytes are more than the limit of {limit} bytes")]
pub struct OverLimit {
    /// Bytes that are in use, or would have been.
    pub used: u64,
    /// The limit that they pass: the account's own, or its user's.
    pub limit: u64,
}

/// The owner of bytes: a user, or one execution of a user. Dropping it closes the account; what it still holds then
/// belongs to the system until it is freed.
///
/// At most 65,534 accounts can be open in a process. One opened beyond that counts nothing and is always over its
/// limit, so that what runs on it ends instead of running without a limit.
#[derive(Debug)]
pub struct Account {
    tag: Option<Tag>,
    /// Kept open for as long as this account rolls up into it.
    _parent: Option<Arc<Account>>,
}

impl Account {
    /// Opens the account of a user, without a limit.
    pub fn user() -> Account {
        Account {
            tag: LEDGER.open(Tag::NODE),
            _parent: None,
        }
    }

    /// Opens the account of an execution. All that it holds counts for `parent` too.
    pub fn execution(parent: &Arc<Account>) -> Account {
        Account {
            tag: parent.tag.and_then(|parent| LEDGER.open(parent)),
            _parent: Some(Arc::clone(parent)),
        }
    }

    /// Bytes held now, in blocks, reservations and outside the allocator.
    pub fn current_bytes(&self) -> u64 {
        tally::flush();
        self.tag.map_or(0, |tag| LEDGER.bytes(tag))
    }

    /// The most bytes held at once since the account was opened.
    pub fn peak_bytes(&self) -> u64 {
        tally::flush();
        self.tag.map_or(0, |tag| LEDGER.peak(tag))
    }

    /// Sets the most bytes that this account may hold; `u64::MAX` for no limit.
    pub fn set_limit(&self, bytes: u64) {
        if let Some(tag) = self.tag {
            LEDGER.set_limit(tag, bytes);
        }
    }

    /// The most bytes that this account may hold; `u64::MAX` when it has no limit.
    pub fn limit(&self) -> u64 {
        self.tag.map_or(0, |tag| LEDGER.limit(tag))
    }

    /// Whether this account, or the user it belongs to, holds more than its limit.
    pub fn is_over(&self) -> bool {
        self.scope().is_over()
    }

    /// What code enters to be charged to this account.
    pub fn scope(&self) -> Scope {
        Scope::of(self.tag)
    }

    /// [`Scope::reserve`] on this account.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverLimit> {
        self.scope().reserve(bytes)
    }

    /// Opens a count of bytes that the allocator does not see: of a child process, of a sandbox, of a mapped file.
    pub fn add_external(&self) -> External {
        External {
            tag: self.tag,
            bytes: AtomicI64::new(0),
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(tag) = self.tag {
            tally::flush();
            LEDGER.close(tag);
        }
    }
}

/// Bytes outside the allocator that an account answers for; subtracted on drop.
#[derive(Debug)]
pub struct External {
    tag: Option<Tag>,
    bytes: AtomicI64,
}

impl External {
    /// Says how many bytes there are now, instead of what was said before.
    pub fn set(&self, bytes: u64) {
        // A balance has room for 512 GiB.
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(1 << 38);
        let before = self.bytes.swap(bytes, Ordering::AcqRel);
        if let Some(tag) = self.tag {
            LEDGER.charge(tag, bytes - before);
        }
    }

    /// How many bytes were said last.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire).unsigned_abs()
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_beyond_the_limit_is_refused_and_leaves_nothing() {
        let account = Account::user();
        account.set_limit(1000);
        let first = account.reserve(600).unwrap();
        assert_eq!(
            account.reserve(401).unwrap_err(),
            OverLimit {
                used: 1001,
                limit: 1000
            }
        );
        assert_eq!(account.current_bytes(), 600);
        let second = account.reserve(400).unwrap();
        assert!(!account.is_over());
        drop((first, second));
        assert_eq!((account.current_bytes(), account.peak_bytes()), (0, 1000));
    }

    #[test]
    fn an_execution_cannot_reserve_what_its_user_lacks() {
        let user = Arc::new(Account::user());
        user.set_limit(1000);
        let (one, other) = (Account::execution(&user), Account::execution(&user));
        let _held = one.reserve(900).unwrap();
        assert!(other.reserve(200).is_err());
        assert_eq!((other.current_bytes(), user.current_bytes()), (0, 900));
    }

    #[test]
    fn external_bytes_count_until_the_guard_is_dropped() {
        let account = Account::user();
        account.set_limit(100);
        let external = account.add_external();
        external.set(150);
        assert!(account.is_over());
        external.set(50);
        assert!(!account.is_over());
        assert_eq!(account.current_bytes(), 50);
        drop(external);
        assert_eq!((account.current_bytes(), account.peak_bytes()), (0, 150));
    }

    #[test]
    fn an_execution_keeps_its_user_open() {
        let user = Arc::new(Account::user());
        let execution = Account::execution(&user);
        let external = execution.add_external();
        external.set(10);
        assert_eq!(user.current_bytes(), 10);
        drop(execution);
        assert_eq!(user.current_bytes(), 0);
        drop(external);
        assert_eq!(user.current_bytes(), 0);
    }
}
