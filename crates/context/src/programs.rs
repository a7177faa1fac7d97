//! Programs that hold memory outside of runs: those of tool servers, which go on when runs have ended. Whoever watches
//! over memory counts them, and ends the largest where too much is held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use netra_memory::{Account, External, OverLimit};
use netra_protocol::id::UserId;
use parking_lot::Mutex;

use crate::UserExecutionContext;

/// How often a program is counted where nothing depends on it.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// A program that holds memory.
pub trait Program: Send + Sync {
    /// What it and all that it has started hold now, as the system says.
    fn memory_bytes(&self) -> u64;

    /// Ends it at once.
    fn end(&self, why: Shortage);
}

/// Why a program has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// Its user holds more than allowed, and the program the most of it.
    #[error("its user holds more memory than allowed, and it the most of that: {0}")]
    OfUser(OverLimit),
    /// The node is short of memory, and nobody holds more than the program's owner.
    #[error("the server is short of memory, and it held the most")]
    OfNode,
}

/// Whose memory a program is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// The user's account, which stays open for the program.
    pub account: Arc<Account>,
}

impl Owner {
    /// Whoever asks; none where that is no user.
    pub fn of(ctx: &UserExecutionContext) -> Option<Self> {
        let (user, limits) = (ctx.user_id()?, ctx.limits()?);
        let account = ctx.runtime().account_of(user, limits.memory_mib);
        Some(Self { user, account })
    }
}

/// A program on its owner's account. Dropped, it counts nowhere.
pub struct Charged {
    program: Box<dyn Program>,
    /// None where it serves everybody: then it counts for the node alone.
    owner: Option<(Owner, External)>,
    most: u64,
    bytes: AtomicU64,
    counted: Mutex<Option<Instant>>,
    ended: OnceLock<Shortage>,
}

impl Charged {
    /// Whose it is; none where it serves everybody.
    pub fn user(&self) -> Option<UserId> {
        self.owner.as_ref().map(|(owner, _)| owner.user)
    }

    /// What it held when it was last counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// What it may still take before it is ended for itself.
    pub fn room(&self) -> u64 {
        self.most.saturating_sub(self.bytes())
    }

    /// Whether its owner holds more than allowed.
    pub fn is_over(&self) -> bool {
        let owner = self.owner.as_ref();
        owner.is_some_and(|(owner, _)| owner.account.is_over())
    }

    /// Counts it, at once where `closely` or where it is on its way out, else now and then.
    pub fn count(&self, closely: bool) {
        let mut counted = self.counted.lock();
        let is_due = counted.is_none_or(|last| last.elapsed() >= COUNT_EVERY);
        if is_due || closely || (self.ended().is_some() && self.bytes() > 0) {
            let bytes = self.program.memory_bytes();
            self.bytes.store(bytes, Ordering::Release);
            if let Some((_, external)) = &self.owner {
                external.set(bytes);
            }
            *counted = Some(Instant::now());
        }
    }

    /// Ends it; the first reason holds.
    pub fn end(&self, why: Shortage) {
        if self.ended.set(why).is_ok() {
            self.program.end(why);
        }
    }

    /// Why it was ended, where it was.
    pub fn ended(&self) -> Option<Shortage> {
        self.ended.get().copied()
    }
}

/// All programs of a server.
#[derive(Default)]
pub(crate) struct Programs(Mutex<Vec<Weak<Charged>>>);

impl Programs {
    pub(crate) fn charge(
        &self,
        owner: Option<Owner>,
        most: u64,
        program: Box<dyn Program>,
    ) -> Arc<Charged> {
        // Everybody's, and it may outlive whoever starts it.
        let _system = netra_memory::Scope::system().enter();
        let charged = Arc::new(Charged {
            program,
            owner: owner.map(|owner| {
                let external = owner.account.add_external();
                (owner, external)
            }),
            most,
            bytes: AtomicU64::new(0),
            counted: Mutex::new(None),
            ended: OnceLock::new(),
        });
        let mut all = self.0.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&charged));
        charged
    }

    pub(crate) fn all(&self) -> Vec<Arc<Charged>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds what it is told to, and nothing more once it was ended.
    struct Fake(Arc<AtomicU64>);

    impl Program for Fake {
        fn memory_bytes(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn end(&self, _: Shortage) {
            self.0.store(0, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_program_counts_on_its_owners_account_until_it_is_dropped() {
        let (programs, held) = (Programs::default(), Arc::new(AtomicU64::new(700)));
        let account = Arc::new(Account::user());
        account.set_limit(1000);
        let owner = Owner {
            user: UserId::from_parts(1, 1),
            account: Arc::clone(&account),
        };
        let program = programs.charge(Some(owner), 5000, Box::new(Fake(Arc::clone(&held))));
        let shared = programs.charge(None, 10, Box::new(Fake(Arc::new(AtomicU64::new(4)))));
        programs.all().iter().for_each(|one| one.count(false));
        assert_eq!((program.bytes(), program.room()), (700, 4300));
        assert_eq!((shared.bytes(), shared.user()), (4, None));
        assert_eq!(account.current_bytes(), 700);
        held.store(1001, Ordering::SeqCst);
        // It was counted just now.
        program.count(false);
        assert!(!program.is_over());
        program.count(true);
        assert!(program.is_over());
        program.end(Shortage::OfNode);
        program.count(false);
        assert_eq!((program.bytes(), account.current_bytes()), (0, 0));
        held.store(50, Ordering::SeqCst);
        program.count(true);
        drop((program, shared));
        assert_eq!(account.current_bytes(), 0);
        assert!(programs.all().is_empty());
    }
}
